"""Run the trainers to compare, each in a separate process that is watched from outside."""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import shapes
from shapes import Work

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.encoding.rows import hash_of_sequences
from finetuning_exam.run_file import read
from finetuning_exam.training.progress import read_metrics
from finetuning_exam.training.run_folder import METRICS

BENCH = Path(__file__).parent
WARM_UP_STEPS = 2
POLL_S = 0.02
NEVER = 1_000_000


@dataclass(frozen=True, slots=True)
class Arm:
    """A trainer and its optimizer batch: `rows` × `accumulation`."""

    name: str
    is_ours: bool
    rows: int
    accumulation: int

    @property
    def batch(self) -> int:
        """Rows of an optimizer step."""
        return self.rows * self.accumulation

    @property
    def label(self) -> str:
        """The name in the plot."""
        if self.is_ours:
            return f"fte train, batch of {self.batch}"
        return f"plain TRL, batch {self.rows} × {self.accumulation}"


ARMS = (
    Arm("TRL 1×2", is_ours=False, rows=1, accumulation=2),
    Arm("TRL 8×1", is_ours=False, rows=8, accumulation=1),
    Arm("fte 2", is_ours=True, rows=2, accumulation=1),
    Arm("fte 8", is_ours=True, rows=8, accumulation=1),
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """The settings of both trainers, apart from the batch and the number of steps."""

    targets: tuple[str, ...]
    lora_r: int
    lora_alpha: int
    learning_rate: float
    max_length: int
    seed: int

    def flags(self) -> list[str]:
        """The recipe as flags, which have the same names for both trainers."""
        return [
            *("--lora_target_modules", *self.targets),
            *("--lora_r", str(self.lora_r), "--lora_alpha", str(self.lora_alpha)),
            *("--learning_rate", str(self.learning_rate)),
            *("--max_length", str(self.max_length), "--seed", str(self.seed)),
        ]


@dataclass(frozen=True, slots=True)
class Step:
    """An optimizer step: when it ended, the tokens since the start of training, and its loss."""

    ended_s: float
    tokens: int
    loss: float


@dataclass(frozen=True, slots=True)
class Child:
    """A process that succeeded; `seen_s` is when each line of the watched file appeared."""

    wall_s: float
    peak_rss: int
    seen_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """One repetition of one arm. `dtype` is the number format of the base.

    `seen_tokens_per_second` is measured by this process's clock, for `fte train` only; None for
    short runs.
    """

    tokens_per_second: float
    seen_tokens_per_second: float | None
    first_step_s: float
    peak_rss: int
    wall_s: float
    threads: int
    dtype: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """The inputs of the runs of one model: its folder, the rows, and scratch space."""

    model: Path
    work: Work
    folder: Path


def run_child(command: Sequence[str], folder: Path, threads: int, watched: Path | None) -> Child:
    """Run a command, writing its output to folder/log.txt.

    The peak memory is taken when the last line of the watched file appears, or over the whole run
    if nothing is watched or /proc is not available. A child starts with its parent's peak, so this
    process must stay smaller than what it measures; it never loads torch.

    Raises:
        SystemExit: the command failed; the message has the end of its log.
    """
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    log = folder / "log.txt"
    seen: list[float] = []
    peak = 0
    started = time.time()
    with log.open("wb") as out, _child(command, environment, out) as process:
        while True:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            n_lines = watched.read_bytes().count(b"\n") if watched and watched.exists() else 0
            if n_lines > len(seen):
                seen += [time.time() - started] * (n_lines - len(seen))
                peak = _peak_so_far(process.pid) or peak
            if ended:
                break
            time.sleep(POLL_S)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall_s = time.time() - started
    if process.returncode:
        tail = log.read_text(encoding="utf-8", errors="replace")[-3000:]
        sys.exit(f"{tail}\n{shlex.join(command)}: exited with {process.returncode}")
    own, whole = _bytes(resource.getrusage(resource.RUSAGE_SELF)), _bytes(usage)
    assert whole > own, "the benchmark uses more memory than the process it measures"
    return Child(wall_s, peak or whole, tuple(seen))


@contextmanager
def _child(
    command: Sequence[str], environment: dict[str, str], out: IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that does not outlive the benchmark."""
    process = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield process
    except BaseException:
        process.kill()
        raise


def _bytes(usage: resource.struct_rusage) -> int:
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _peak_so_far(pid: int) -> int | None:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(found[0]) * 1024 if found else None


def run_trl(place: Place, arm: Arm, recipe: Recipe, steps: int, threads: int, *extra: str) -> Run:
    """Train with plain TRL.

    Raises:
        SystemExit: training failed, or its rows differ from the project's encoding.
    """
    with tempfile.TemporaryDirectory(dir=place.folder) as name:
        folder = Path(name)
        record = folder / "record.json"
        command = [
            *(sys.executable, str(BENCH / "plain_trl.py"), str(place.model)),
            *(str(place.folder / shapes.ROWS_FOR_TRL), "--output_dir", str(folder / "out")),
            *("--per_device_train_batch_size", str(arm.rows)),
            *("--gradient_accumulation_steps", str(arm.accumulation)),
            *("--max_steps", str(steps), "--record", str(record), *recipe.flags(), *extra),
        ]
        started = time.time()
        child = run_child(command, folder, threads, None)
        found = json.loads(record.read_text(encoding="utf-8"))
    check_same_rows(place.work.rows, found["ids"], found["labels"])
    ended = tuple(
        Step(it["ended"] - started, int(it["tokens"]), it["loss"]) for it in found["steps"]
    )
    return Run(
        tokens_per_second(ended),
        None,
        ended[0].ended_s,
        child.peak_rss,
        child.wall_s,
        found["threads"],
        "bfloat16 (autocast)" if "--bf16" in extra else "float32",
        ended,
    )


def run_fte(place: Place, arm: Arm, recipe: Recipe, steps: int, threads: int, *extra: str) -> Run:
    """Train with `fte train`, with a minimal exam.

    Raises:
        SystemExit: training failed, or did not use the chosen rows.
    """
    with tempfile.TemporaryDirectory(dir=place.folder) as name:
        folder = Path(name)
        out = folder / "out"
        command = [
            *(sys.executable, "-m", "finetuning_exam", "train"),
            *(str(place.folder / shapes.ROWS_FOR_FTE), "--eval_fraction", "0"),
            *("--eval_file", str(place.folder / shapes.EXAM_FILE), "--answered_examples", "0"),
            *("--eval_batch_size", "1", "--early_stopping_patience", "None"),
            *("--model", str(place.model), "--template", "plain", "--output_dir", str(out)),
            *("--per_device_train_batch_size", str(arm.rows)),
            *("--gradient_accumulation_steps", str(arm.accumulation)),
            *("--max_steps", str(steps), "--save_steps", str(NEVER), "--logging_steps", "1"),
            *("--lr_scheduler_type", "constant", "--lora_dropout", "0", *recipe.flags(), *extra),
        ]
        child = run_child(command, folder, threads, out / METRICS)
        rows = read_metrics(out / METRICS)
        run = read(out)
    record = run.record() if run else None
    if record is None or record.data.rows_sha256 != hash_of_sequences(place.work.rows):
        sys.exit("fte train did not train on the chosen rows")
    ended, seen = steps_of_metrics(rows, child.seen_s)
    watched_s = seen[-1].ended_s - seen[warm_up(len(seen)) - 1].ended_s
    return Run(
        tokens_per_second(ended),
        tokens_per_second(seen) if watched_s > 100 * POLL_S else None,
        seen[0].ended_s,
        child.peak_rss,
        child.wall_s,
        record.threads,
        record.dtype,
        ended,
    )


def steps_of_metrics(
    rows: Sequence[dict[str, float]], seen_s: Sequence[float]
) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """Return the steps in metrics.jsonl, by the trainer's clock and by when their rows appeared.

    A row's seconds since the start by the trainer's clock are its tokens over tokens per second.
    """
    steps = [(at, row) for at, row in zip(seen_s, rows, strict=True) if "tokens" in row]
    own = [
        Step(it["tokens"] / it["tokens_per_second"], int(it["tokens"]), it["loss"])
        for _, it in steps
    ]
    seen = [Step(at, int(row["tokens"]), row["loss"]) for at, row in steps]
    return tuple(own), tuple(seen)


def tokens_per_second(steps: Sequence[Step]) -> float:
    """Return tokens per second without the first two steps, or without the first of two."""
    first = steps[warm_up(len(steps)) - 1]
    return (steps[-1].tokens - first.tokens) / (steps[-1].ended_s - first.ended_s)


def warm_up(n_steps: int) -> int:
    """Return the number of steps that are not counted.

    Raises:
        SystemExit: there are fewer than two steps.
    """
    if n_steps < 2:
        sys.exit("at least two steps are needed, since the first is not counted")
    return min(WARM_UP_STEPS, n_steps - 1)


def check_same_rows(
    rows: Sequence[Encoded], ids: Sequence[list[int]], labels: Sequence[list[int]]
) -> None:
    """Check that TRL trains on exactly the ids and labels of the project's encoding.

    Raises:
        SystemExit: a row differs; the message shows the first one.
    """
    if len(rows) != len(ids):
        sys.exit(f"TRL trains on {len(ids)} rows, fte on {len(rows)}")
    for index, (row, theirs, marked) in enumerate(zip(rows, ids, labels, strict=True)):
        if list(row.ids) != theirs or list(row.labels) != marked:
            n_supervised = sum(label != -100 for label in marked)
            sys.exit(
                f"row {index} differs: TRL has {len(theirs)} tokens, "
                f"{n_supervised} supervised; fte {len(row.ids)}, {row.n_supervised} supervised"
            )


def same_batches(one: Run, other: Run) -> bool:
    """Return True if two runs had the same number of tokens in every step."""
    return [step.tokens for step in one.steps] == [step.tokens for step in other.steps]


def count_threads() -> int:
    """Count the cores that `fte train` uses, in another process because this loads torch."""
    code = "from finetuning_exam.model.device import usable_cores; print(usable_cores())"
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)


def prepare(
    name: str, folder: Path, n_rows: int, recipe: Recipe, flags: argparse.Namespace
) -> Place:
    """Create the model unless it is cached, choose the rows, and write them.

    Raises:
        SystemExit: the data file does not exist.
    """
    if not flags.data.is_file():
        sys.exit(f"--data {flags.data}: no such file")
    model = shapes.model_folder(name, flags.cache or folder, flags.data)
    if not (model / "config.json").is_file():
        command = [sys.executable, str(BENCH / "shapes.py"), name, "--data", str(flags.data)]
        run_child([*command, "--out", str(model)], folder, flags.threads, None)
    work = shapes.choose_work(flags.data, model, n_rows, recipe.max_length, flags.seed)
    work.write(folder)
    return Place(model, work, folder)


def common_flags(description: str) -> argparse.ArgumentParser:
    """Return a parser with the flags that all comparisons of the trainers share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, default=shapes.default_data())
    parser.add_argument("--cache", type=Path, help="keep the models in this folder")
    parser.add_argument("--targets", nargs="+", default=["q_proj", "k_proj", "v_proj", "o_proj"])
    parser.add_argument("--lora_r", type=int, default=4)
    parser.add_argument("--lora_alpha", type=int, default=8)
    parser.add_argument("--learning_rate", type=float, default=2e-4)
    parser.add_argument("--max_length", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--fte_args", default="", help="more flags for fte train, as one string")
    parser.add_argument(
        "--trl_args", default="", help="more flags for bench/plain_trl.py, as one string"
    )
    parser.add_argument("--json", type=Path, help="write all results to this file")
    parser.add_argument("--plot", type=Path, help="write a plot (SVG) to this file")
    return parser


def recipe_of(flags: argparse.Namespace) -> Recipe:
    """Build the recipe from the flags."""
    return Recipe(
        tuple(flags.targets),
        flags.lora_r,
        flags.lora_alpha,
        flags.learning_rate,
        flags.max_length,
        flags.seed,
    )
