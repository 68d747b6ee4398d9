"""Progress of a run: throughput, metrics.jsonl, and the `Progress` that callbacks receive."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from finetuning_exam.training.parallel import SINGLE_PROCESS, Process


@dataclass(frozen=True, slots=True)
class Progress:
    """The state after an optimizer step. `loss` is that step's, in nats per supervised token."""

    step: int
    total_steps: int
    epoch: float
    loss: float | None
    validation_loss: float | None
    tokens_per_second: float
    seconds_left: float


OnProgress = Callable[[Progress], None]


class Meter:
    """Measures tokens (without padding), loss, and time (without validation and saving)."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._started = clock()
        self._paused_s = 0.0
        self._loss = 0.0
        self.tokens = 0

    def start(self) -> None:
        """Reset all counts, so that nothing before the training is included."""
        self._started = self._clock()
        self._paused_s = 0.0
        self._loss = 0.0
        self.tokens = 0

    def add(self, tokens: int, loss: float) -> None:
        """Count a micro-batch and its share of the optimizer step's loss."""
        self.tokens += tokens
        self._loss += loss

    def take_loss(self) -> float:
        """Return the loss of the optimizer step that just ended, and reset it for the next."""
        loss, self._loss = self._loss, 0.0
        return loss

    def pause(self, seconds: float) -> None:
        """Exclude seconds that were not spent training."""
        self._paused_s += seconds

    @property
    def seconds(self) -> float:
        """Seconds spent training."""
        return max(self._clock() - self._started - self._paused_s, 1e-9)

    @property
    def tokens_per_second(self) -> float:
        """Tokens trained on per second, without padding."""
        return self.tokens / self.seconds


class MetricsFile:
    """metrics.jsonl: one JSON object per logged step, appended as soon as it is known."""

    def __init__(self, path: Path, process: Process = SINGLE_PROCESS) -> None:
        self._path = path
        self._process = process

    def append(self, row: dict[str, float | int]) -> None:
        """Append one row, after removing a last line that a kill left half written."""
        self._process.on_main(lambda: self._append(row))

    def _append(self, row: dict[str, float | int]) -> None:
        with self._path.open("ab+") as file:
            file.seek(0)
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)
            file.write(json.dumps(row).encode("utf-8") + b"\n")

    def rows(self) -> tuple[dict[str, float], ...]:
        """Return the complete rows written so far."""
        return read_metrics(self._path)

    def copy_to(self, path: Path) -> None:
        """Copy the file into a checkpoint, from which a resumed run restores it."""
        if self._path.exists():
            shutil.copyfile(self._path, path)
        else:
            path.touch()

    def restore(self, path: Path) -> None:
        """Restore the copy in a checkpoint; later rows will be written again."""
        self._process.on_main(lambda: shutil.copyfile(path, self._path))


def read_metrics(path: Path) -> tuple[dict[str, float], ...]:
    """Return the complete rows of a metrics file in order, or none if there is no file."""
    if not path.exists():
        return ()
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return tuple(json.loads(line) for line in lines if line.endswith("\n"))
