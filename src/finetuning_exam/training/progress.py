"""What a run tells while it goes: to whoever watches, and to metrics.jsonl."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from finetuning_exam.training.parallel import ALONE, Process


@dataclass(frozen=True, slots=True)
class Progress:
    """The state after an optimizer step. `loss` is nats per supervised token of that step."""

    step: int
    total_steps: int
    epoch: float
    loss: float | None
    validation_loss: float | None
    tokens_per_second: float
    seconds_left: float


OnProgress = Callable[[Progress], None]


class Meter:
    """Counts real tokens (no padding), loss, and time; validation and saving are left out."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._started = clock()
        self._paused_s = 0.0
        self._loss = 0.0
        self.tokens = 0

    def start(self) -> None:
        """Begin to count; what came before does not belong to the training."""
        self._started = self._clock()
        self._paused_s = 0.0
        self._loss = 0.0
        self.tokens = 0

    def add(self, tokens: int, loss: float) -> None:
        """Count a micro-batch and its part of the optimizer step's loss."""
        self.tokens += tokens
        self._loss += loss

    def take_loss(self) -> float:
        """The loss of the optimizer step that has just ended; the next one starts from zero."""
        loss, self._loss = self._loss, 0.0
        return loss

    def pause(self, seconds: float) -> None:
        """Leave out seconds that were not spent training."""
        self._paused_s += seconds

    @property
    def seconds(self) -> float:
        """Seconds spent training."""
        return max(self._clock() - self._started - self._paused_s, 1e-9)

    @property
    def tokens_per_second(self) -> float:
        """Real tokens trained on per second."""
        return self.tokens / self.seconds


class MetricsFile:
    """metrics.jsonl: one object a logged step, written line by line so that nothing is lost."""

    def __init__(self, path: Path, process: Process = ALONE) -> None:
        self._path = path
        self._process = process

    def append(self, row: dict[str, float | int]) -> None:
        """Add one row, after cutting off a last line that a kill left half written."""
        self._process.on_main(lambda: self._append(row))

    def _append(self, row: dict[str, float | int]) -> None:
        with self._path.open("ab+") as file:
            file.seek(0)
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)
            file.write(json.dumps(row).encode("utf-8") + b"\n")

    def rows(self) -> tuple[dict[str, float], ...]:
        """The whole rows written so far."""
        return read_metrics(self._path)

    def copy_to(self, path: Path) -> None:
        """A copy beside a checkpoint, which a resumed run starts from."""
        if self._path.exists():
            shutil.copyfile(self._path, path)
        else:
            path.touch()

    def restore(self, path: Path) -> None:
        """Go back to the copy that was taken at a checkpoint; later rows will be written again."""
        self._process.on_main(lambda: shutil.copyfile(path, self._path))


def read_metrics(path: Path) -> tuple[dict[str, float], ...]:
    """The whole rows of a metrics file, in order; none where there is no file."""
    if not path.exists():
        return ()
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return tuple(json.loads(line) for line in lines if line.endswith("\n"))
