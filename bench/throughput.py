# ruff: noqa: T201 - a measurement prints its table
"""Tokens per second of `fte train` against plain TRL and against the machine's own matrix rate.

    uv run bench/throughput.py
    uv run bench/throughput.py --models builtin --max_steps 6 --repeat 1
    uv run bench/throughput.py --models smollm2-135m qwen3-0.6b --json out.json --plot out.svg

Five arms, one after the other and all of them again for each repetition, each in a process of its
own with as many threads as this process may use cores: plain TRL (bench/plain_trl.py) with 1 row
× 2 accumulated and with 8 rows × 1, `fte train` with optimizer batches of 2 and of 8 rows, and
the matrix rate (bench/roofline.py). Both trainers load the same folder and get the same rows,
seed and recipe (LoRA, AdamW, constant learning rate, no dropout); what TRL made of the rows is
compared with the project's own encoding, id by id and label by label.

Counted are real tokens, without padding, over all steps but the first two (the first, where only
two are taken). The time to the first step is wall time from the start of the process to the end of
the first optimizer step. The peak of memory is that of loading and training (on Linux; elsewhere
the short exam of `fte train` is in it).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import shapes
from shapes import Work

from finetuning_exam.data.encoding.encode import Encoded
from finetuning_exam.training.inputs import hash_of_rows
from finetuning_exam.training.progress import read_metrics
from finetuning_exam.training.run_folder import METRICS, read_run

BENCH = Path(__file__).parent
WARM_UP_STEPS = 2
POLL_S = 0.02
STEPS = {
    "builtin": {2: 60, 8: 15},
    "smollm2-135m": {2: 12, 8: 3},
    "qwen3-0.6b": {2: 6, 8: 2},
}
"""Optimizer steps by rows in a batch: on two cores at most a minute of plain TRL with batches of 2,
and a few minutes with batches of 8 of the larger models, where each step takes that long."""
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "finetuning-exam")
VARIABLES = ("OMP_NUM_THREADS", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "LD_PRELOAD")
NEVER = 1_000_000
IDLE = 0.5
CLOCK_SHARE = 0.05
"""How far the speed that `fte train` tells may be from the wall clock's before it is said."""
OURS, THEIRS = "#3180c2", "#9a9a9a"


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
        """Its name in the plot."""
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
    """What both trainers are told, beside the batch and the number of steps."""

    targets: tuple[str, ...]
    lora_r: int
    lora_alpha: int
    learning_rate: float
    max_length: int
    seed: int

    def flags(self) -> list[str]:
        """The recipe as flags, which have the same names in both."""
        return [
            *("--lora_target_modules", *self.targets),
            *("--lora_r", str(self.lora_r), "--lora_alpha", str(self.lora_alpha)),
            *("--learning_rate", str(self.learning_rate)),
            *("--max_length", str(self.max_length), "--seed", str(self.seed)),
        ]


@dataclass(frozen=True, slots=True)
class Step:
    """An optimizer step: when it ended, tokens since the start of the training, and its loss."""

    ended_s: float
    tokens: int
    loss: float


@dataclass(frozen=True, slots=True)
class Child:
    """A process that ended well: `seen_s` is when each line of the watched file was seen."""

    wall_s: float
    peak_rss: int
    seen_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """One repetition of one arm. `dtype` is the number format of the base.

    `seen_tokens_per_second` is by this process's clock: of ours only, and not of a short run.
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
    """Where one model is measured: its folder, the rows, and scratch space."""

    model: Path
    work: Work
    folder: Path


def run_child(command: Sequence[str], folder: Path, threads: int, watched: Path | None) -> Child:
    """Run a command to its end with its output in folder/log.txt.

    The peak is that of the process when the last line of the watched file was seen, or of its whole
    life where nothing is watched or /proc does not tell. A child starts with its parent's peak, so
    this process has to stay smaller than what it measures: it never loads torch.

    Raises:
        SystemExit: the command failed, with the end of its log.
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
        sys.exit(f"{tail}\n{shlex.join(command)}: ended with {process.returncode}")
    own, whole = _bytes(resource.getrusage(resource.RUSAGE_SELF)), _bytes(usage)
    assert whole > own, "the benchmark itself is larger than what it measures"
    return Child(wall_s, peak or whole, tuple(seen))


@contextmanager
def _child(
    command: Sequence[str], environment: dict[str, str], out: IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does not outlive the benchmark."""
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
        SystemExit: it failed, or did not train on the rows as the project encodes them.
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
    """Train with `fte train`, with next to no exam.

    Raises:
        SystemExit: it failed, or did not train on the rows that were chosen.
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
        run: dict[str, Any] = read_run(out)
    if run["data"]["rows_sha256"] != hash_of_rows(place.work.rows):
        sys.exit("fte train did not train on the rows that were chosen")
    ended, seen = steps_of_metrics(rows, child.seen_s)
    watched_s = seen[-1].ended_s - seen[warm_up(len(seen)) - 1].ended_s
    return Run(
        tokens_per_second(ended),
        tokens_per_second(seen) if watched_s > 100 * POLL_S else None,
        seen[0].ended_s,
        child.peak_rss,
        child.wall_s,
        run["threads"],
        run["dtype"],
        ended,
    )


def steps_of_metrics(
    rows: Sequence[dict[str, float]], seen_s: Sequence[float]
) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """The steps in metrics.jsonl, by the trainer's own clock and by when their rows were seen.

    A row's seconds since the training began are its tokens over its tokens per second.
    """
    steps = [(at, row) for at, row in zip(seen_s, rows, strict=True) if "tokens" in row]
    own = [
        Step(it["tokens"] / it["tokens_per_second"], int(it["tokens"]), it["loss"])
        for _, it in steps
    ]
    seen = [Step(at, int(row["tokens"]), row["loss"]) for at, row in steps]
    return tuple(own), tuple(seen)


def tokens_per_second(steps: Sequence[Step]) -> float:
    """Tokens over seconds, without the first steps: two, or all but one where there are fewer."""
    first = steps[warm_up(len(steps)) - 1]
    return (steps[-1].tokens - first.tokens) / (steps[-1].ended_s - first.ended_s)


def warm_up(n_steps: int) -> int:
    """How many of the steps are not counted.

    Raises:
        SystemExit: fewer than two were taken, which leaves none to count.
    """
    if n_steps < 2:
        sys.exit("at least two steps are needed: the first is not counted")
    return min(WARM_UP_STEPS, n_steps - 1)


def check_same_rows(
    rows: Sequence[Encoded], ids: Sequence[list[int]], labels: Sequence[list[int]]
) -> None:
    """See that TRL trains on the very ids and labels of the project's encoding.

    Raises:
        SystemExit: it does not; the first row that differs is shown.
    """
    if len(rows) != len(ids):
        sys.exit(f"TRL trains on {len(ids)} rows, fte on {len(rows)}")
    for index, (row, theirs, marked) in enumerate(zip(rows, ids, labels, strict=True)):
        if list(row.ids) != theirs or list(row.labels) != marked:
            n_supervised = sum(label != -100 for label in marked)
            sys.exit(
                f"row {index} is not the same in both: TRL has {len(theirs)} tokens, "
                f"{n_supervised} supervised; fte {len(row.ids)}, {row.n_supervised} supervised"
            )


def same_batches(one: Run, other: Run) -> bool:
    """Whether two runs had as many tokens in every step, which other rows would hardly have."""
    return [step.tokens for step in one.steps] == [step.tokens for step in other.steps]


@dataclass(frozen=True, slots=True)
class Measured:
    """All repetitions of all arms on one model; `rooflines` are what bench/roofline.py found."""

    model: str
    n_rows: int
    mean_length: float
    mean_own_length: float
    supervised_share: float
    n_lora: int
    flops_per_token: float
    rooflines: tuple[dict[str, Any], ...]
    runs: tuple[tuple[Arm, tuple[Run, ...]], ...]

    @property
    def machine_rate(self) -> float:
        """P: FLOP/s of the model's matrix products, the median of the repetitions."""
        return statistics.median(float(it["total"]) for it in self.rooflines)

    def speed(self, name: str) -> float:
        """Median tokens per second of an arm, not a number where it was not run."""
        found = [it.tokens_per_second for arm, runs in self.runs if arm.name == name for it in runs]
        return statistics.median(found) if found else float("nan")

    def mfu(self, name: str) -> float:
        """LoRA-MFU of an arm: what it needs at least, over what the machine can do."""
        return self.speed(name) * self.flops_per_token / self.machine_rate


def run_roofline(place: Place, threads: int) -> dict[str, Any]:
    """What bench/roofline.py finds on the model's shapes."""
    with tempfile.TemporaryDirectory(dir=place.folder) as name:
        folder = Path(name)
        found = folder / "roofline.json"
        share = str(place.work.supervised_share)
        command = [sys.executable, str(BENCH / "roofline.py"), str(place.model)]
        command += ["--supervised_share", share, "--json", str(found)]
        run_child(command, folder, threads, None)
        result: dict[str, Any] = json.loads(found.read_text(encoding="utf-8"))
        return result


def measure(name: str, place: Place, recipe: Recipe, flags: argparse.Namespace) -> Measured:
    """Run all arms of one model, all once before any again."""
    work, threads = place.work, flags.threads
    shape = shapes.read_shape(place.model)
    n_lora = shapes.lora_parameters(shape, recipe.targets, recipe.lora_r)
    runs: dict[Arm, list[Run]] = {arm: [] for arm in ARMS if arm.name in flags.arms}
    rooflines = []
    for repetition in range(flags.repeat):
        at = f"{name} {repetition + 1}/{flags.repeat}"
        rooflines.append(run_roofline(place, threads))
        print(f"{at} matrix rate: {rooflines[-1]['total'] / 1e9:.1f} GFLOP/s", flush=True)
        for arm, done in runs.items():
            steps = flags.max_steps or STEPS[name][arm.batch]
            train = run_fte if arm.is_ours else run_trl
            extra = shlex.split(flags.fte_args if arm.is_ours else flags.trl_args)
            run = train(place, arm, recipe, steps, threads, *extra)
            if run.threads != threads:
                sys.exit(f"{arm.name} ran on {run.threads} threads, not on {threads}")
            done.append(run)
            print(
                f"{at} {arm.name}: {figure(run.tokens_per_second)} tokens/s, "
                f"{run.peak_rss / 1e9:.1f} GB, first step after {run.first_step_s:.1f} s",
                flush=True,
            )
    return Measured(
        name,
        len(work.rows),
        work.n_tokens / len(work.rows),
        work.mean_own_length,
        work.supervised_share,
        n_lora,
        shapes.lora_flops_per_token(shape, n_lora, work.supervised_share, work.mean_own_length),
        tuple(rooflines),
        tuple((arm, tuple(done)) for arm, done in runs.items()),
    )


def figure(value: float) -> str:
    """Three digits and more."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def table(results: Sequence[Measured]) -> str:
    """What was measured, in 80 columns."""
    lines = [
        f"{'':12} {'':8} {'':8} {'':13} {'times plain TRL':>14} {'LoRA':>4} {'peak':>6} {'1st':>6}",
        f"{'model':12} {'arm':8} {'tokens/s':>8} {'min–max':>13} {'1×2':>7} {'8×1':>6} "
        f"{'MFU':>5} {'RSS GB':>6} {'step s':>6}",
        "─" * 79,
    ]
    for result in results:
        for arm, runs in result.runs:
            speeds = [run.tokens_per_second for run in runs]
            span = f"{figure(min(speeds))}–{figure(max(speeds))}"
            rss = statistics.median(run.peak_rss for run in runs) / 1e9
            first = statistics.median(run.first_step_s for run in runs)
            ratios = (result.speed(arm.name) / result.speed(it.name) for it in ARMS[:2])
            one, eight = ("–" if math.isnan(it) else f"{it:.2f}" for it in ratios)
            lines.append(
                f"{result.model:12} {arm.name:8} {figure(result.speed(arm.name)):>8} {span:>13} "
                f"{one:>7} {eight:>6} {result.mfu(arm.name):5.0%} {rss:6.2f} {first:6.1f}"
            )
    return "\n".join([*lines, *(line for result in results for line in _notes(result))])


def _notes(result: Measured) -> Iterator[str]:
    """What a reader of the table has to know, a model at a time."""
    yield (
        f"{result.model}: {result.n_rows} rows of {result.mean_length:.0f} tokens, "
        f"{result.supervised_share:.0%} supervised; "
        f"{result.flops_per_token / 1e9:.3f} GFLOP a token,"
    )
    halves = [
        f"{name} {statistics.median(it[key] for it in result.rooflines) / 1e9:.0f}"
        for name, key in (("x Wᵀ", "forward"), ("dy W", "backward"), ("head", "head"))
    ]
    yield f"  P = {result.machine_rate / 1e9:.1f} GFLOP/s ({', '.join(halves)})"
    if max(result.mfu(arm.name) for arm, _ in result.runs) > 1:
        yield "  LoRA-MFU above 100%: P is the rate of float32, and bfloat16 may be faster"
    for arm, runs in result.runs:
        if formats := {run.dtype for run in runs} - {"float32"}:
            yield f"  {arm.name} computes in {', '.join(sorted(formats))}"
        by_clock = [run.seen_tokens_per_second for run in runs if run.seen_tokens_per_second]
        if by_clock and abs(statistics.median(by_clock) / result.speed(arm.name) - 1) > CLOCK_SHARE:
            yield f"  {arm.name}: {figure(statistics.median(by_clock))} tokens/s by the wall clock"
    first = {arm: runs[0] for arm, runs in result.runs}
    for theirs, ours in zip(ARMS[:2], ARMS[2:], strict=True):
        if theirs in first and ours in first and not same_batches(first[theirs], first[ours]):
            yield f"  {theirs.name} and {ours.name} did not have the same rows in the same steps"


def plot(results: Sequence[Measured], path: Path) -> None:
    """Bars of tokens per second, a panel for each model, with the range of the repetitions."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "bench"}):
        drawing = Figure(figsize=(8, 0.5 + 2.1 * len(results)), layout="constrained")
        panels = drawing.subplots(len(results), squeeze=False)[:, 0]
        for axes, result in zip(panels, results, strict=True):
            for place, (arm, runs) in enumerate(result.runs):
                speed = result.speed(arm.name)
                speeds = [run.tokens_per_second for run in runs]
                axes.barh(
                    place,
                    speed,
                    xerr=[[speed - min(speeds)], [max(speeds) - speed]],
                    color=OURS if arm.is_ours else THEIRS,
                    height=0.7,
                    capsize=3,
                )
                label = f"{figure(speed)} · MFU {result.mfu(arm.name):.0%}"
                at = (max(speeds), place)
                axes.annotate(label, at, (8, 0), textcoords="offset points", va="center")
            axes.set_yticks(range(len(result.runs)), [arm.label for arm, _ in result.runs])
            axes.invert_yaxis()
            axes.set_xlim(
                0, 1.3 * max(run.tokens_per_second for _, its in result.runs for run in its)
            )
            axes.set_title(result.model, loc="left", fontsize=10.5)
            axes.spines[["top", "right"]].set_visible(False)
        panels[-1].set_xlabel("real tokens per second (median; range of the repetitions)")
        drawing.savefig(path, metadata={"Date": None})


def to_json(results: Sequence[Measured], recipe: Recipe, flags: argparse.Namespace) -> str:
    """Everything that was measured, and on what."""
    whole = {
        "settings": {
            "recipe": asdict(recipe),
            "data": flags.data.name,
            "repetitions": flags.repeat,
            "warm_up_steps": WARM_UP_STEPS,
            "fte_args": flags.fte_args,
            "trl_args": flags.trl_args,
            "load_before": flags.load_before,
        },
        "machine": machine(flags.threads),
        "models": [
            {
                **asdict(result),
                "machine_rate": result.machine_rate,
                "runs": [
                    {
                        "arm": asdict(arm),
                        "tokens_per_second": result.speed(arm.name),
                        "mfu": result.mfu(arm.name),
                        "repetitions": [
                            {**asdict(run), "warm_up_steps": warm_up(len(run.steps))}
                            for run in runs
                        ],
                    }
                    for arm, runs in result.runs
                ],
            }
            for result in results
        ],
    }
    return json.dumps(whole, indent=1) + "\n"


def machine(threads: int) -> dict[str, Any]:
    """The processor, the threads, the versions, and what in the environment counts."""
    return {
        "cpu": _cpu_name(),
        "system": platform.platform(),
        "threads": threads,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def count_threads() -> int:
    """Cores that `fte train` uses, counted in another process because it loads torch."""
    code = "from finetuning_exam.model.device import usable_cores; print(usable_cores())"
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)


def prepare(
    name: str, folder: Path, n_rows: int, recipe: Recipe, flags: argparse.Namespace
) -> Place:
    """Make the model where it is not there yet, choose the rows, and write them.

    Raises:
        SystemExit: there is no such data file.
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
    """The flags of every comparison of both trainers."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, default=shapes.default_data())
    parser.add_argument("--cache", type=Path, help="keep the models here; absent: made each time")
    parser.add_argument("--targets", nargs="+", default=["q_proj", "k_proj", "v_proj", "o_proj"])
    parser.add_argument("--lora_r", type=int, default=4)
    parser.add_argument("--lora_alpha", type=int, default=8)
    parser.add_argument("--learning_rate", type=float, default=2e-4)
    parser.add_argument("--max_length", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--fte_args", default="", help="more flags for fte train, in one string")
    parser.add_argument("--trl_args", default="", help="more flags for bench/plain_trl.py")
    parser.add_argument("--json", type=Path, help="write everything here")
    parser.add_argument("--plot", type=Path, help="draw it here (SVG)")
    return parser


def recipe_of(flags: argparse.Namespace) -> Recipe:
    """The recipe in the flags."""
    return Recipe(
        tuple(flags.targets),
        flags.lora_r,
        flags.lora_alpha,
        flags.learning_rate,
        flags.max_length,
        flags.seed,
    )


def main() -> None:
    """Measure the models that were asked for."""
    parser = common_flags("Tokens per second of fte train against plain TRL.")
    parser.add_argument("--models", nargs="+", choices=shapes.MODELS, default=["smollm2-135m"])
    names = [arm.name for arm in ARMS]
    parser.add_argument("--arms", nargs="+", choices=names, default=names)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--rows", type=int, help="absent: as many as the steps take once")
    parser.add_argument("--max_steps", type=int, help="absent: a minute of plain TRL")
    flags = parser.parse_args()
    flags.threads = count_threads()
    recipe = recipe_of(flags)
    flags.load_before = os.getloadavg()[0]
    if flags.load_before > IDLE:
        print(
            f"The load is {flags.load_before:.1f}: on a machine that is not idle figures are low."
        )
    results = []
    for name in flags.models:
        with tempfile.TemporaryDirectory() as folder:
            n_rows = flags.rows or max(batch * steps for batch, steps in STEPS[name].items())
            place = prepare(name, Path(folder), n_rows, recipe, flags)
            results.append(measure(name, place, recipe, flags))
        if flags.json:
            flags.json.write_text(to_json(results, recipe, flags), encoding="utf-8")
    print(f"\n{table(results)}")
    print(f"{_cpu_name()}, threads: {flags.threads}, repetitions: {flags.repeat}")
    if flags.plot:
        plot(results, flags.plot)


if __name__ == "__main__":
    main()
