# ruff: noqa: T201 - a benchmark prints its table
"""Measure how long a user waits before a command starts its work.

    uv run bench/startup.py
    uv run bench/startup.py --runs 9 --adapter output --json out.json

Each case is a new process, timed by the wall clock from its start until it exits or reaches a
point: the first answer printed, or the first step in metrics.jsonl. An uncounted first round fills
the disk caches; after that the cases alternate, so that a slower machine slows all of them. The
plain load is the minimum that `fte compare` needs: importing torch, Transformers and PEFT, and
loading the adapter, its base and the tokenizer.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from finetuning_exam.model.folder import adapter_origin, find_model_folder
from finetuning_exam.training.progress import read_metrics
from finetuning_exam.training.run_folder import METRICS

ROOT = Path(__file__).parents[1]
DATA = (ROOT.parent / "shared" / "data" / "tldr_6k.jsonl", ROOT / "train.jsonl")
FTE = (sys.executable, "-m", "finetuning_exam")
COMMANDS = ("check", "train", "compare", "exam")
QUESTION = "What does git stash do?"
READY = "ready"
PLAIN_LOAD = f"""
import sys
import torch, transformers, peft
from transformers import AutoModelForCausalLM, AutoTokenizer
base = AutoModelForCausalLM.from_pretrained(sys.argv[1])
model = peft.PeftModel.from_pretrained(base, sys.argv[2])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
print({READY!r}, flush=True)
"""
PLAIN, COMPARE = "plain load of base and adapter", "fte compare, to the first answer"
HELP_S, CHECK_S, COMPARE_RATIO = 0.3, 3.0, 1.2
"""Goals: seconds for --help, seconds for 6,000 rows, and multiple of the plain load."""
POLL_S = 0.005
TIMEOUT_S = 300.0

Until = Callable[[subprocess.Popen[str]], bool]
"""Waits until a case is done; False if the process failed or exited before that."""


@dataclass(frozen=True, slots=True)
class Case:
    """A command, the point up to which it is timed, and the goal in seconds."""

    name: str
    command: tuple[str, ...]
    until: Until
    goal_s: float | None = None


def ended(process: subprocess.Popen[str]) -> bool:
    """Wait until the process has exited successfully, discarding its output."""
    process.communicate(timeout=TIMEOUT_S)
    return process.returncode == 0


def printed(text: str) -> Until:
    """Wait until a line on standard output contains this text."""

    def wait(process: subprocess.Popen[str]) -> bool:
        assert process.stdout is not None
        return any(text in line for line in process.stdout)

    return wait


def stepped(metrics: Path) -> Until:
    """Wait until the metrics have an optimizer step."""

    def wait(process: subprocess.Popen[str]) -> bool:
        give_up_at = time.monotonic() + TIMEOUT_S
        while not any("loss" in row for row in read_metrics(metrics)):
            if process.poll() is not None or time.monotonic() > give_up_at:
                return False
            time.sleep(POLL_S)
        return True

    return wait


def seconds(case: Case) -> float:
    """Return the wall time of a case in a new process, which is then killed.

    Raises:
        SystemExit: the process failed; the message has the end of its errors.
    """
    environment = {**os.environ, "COLUMNS": "200", "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        started = time.perf_counter()
        with subprocess.Popen(
            case.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
            env=environment,
        ) as process:
            try:
                is_done = case.until(process)
                took = time.perf_counter() - started
            finally:
                process.kill()
        if not is_done:
            errors.seek(0)
            sys.exit(f"{case.name}: failed.\n{errors.read()[-2000:]}")
    return took


def make_cases(data: Path, adapter: Path, run_folder: Path) -> tuple[Case, ...]:
    """Return all cases, in the order of the table."""
    n_rows = sum(1 for line in data.read_bytes().splitlines() if line.strip())
    base = str(find_model_folder(adapter_origin(adapter).base_name))
    python = (sys.executable, "-c")
    helps = (
        Case(f"fte {command} --help", (*FTE, command, "--help"), ended, HELP_S)
        for command in COMMANDS
    )
    check_goal_s = CHECK_S if n_rows <= 6000 else None
    return (
        Case("fte --help", (*FTE, "--help"), ended, HELP_S),
        *helps,
        Case(f"fte check, {n_rows:,} rows", (*FTE, "check", str(data)), ended, check_goal_s),
        Case("import torch", (*python, "import torch"), ended),
        Case(PLAIN, (*python, PLAIN_LOAD, base, str(adapter)), printed(READY)),
        Case(COMPARE, (*FTE, "compare", "--adapter", str(adapter), QUESTION), printed(QUESTION)),
        Case(
            "fte train, to the first step",
            (*_train(run_folder, 2), "--logging_steps", "1"),
            stepped(run_folder / METRICS),
        ),
    )


def _train(folder: Path, steps: int) -> tuple[str, ...]:
    flags = ("--max_steps", str(steps), "--answered_examples", "0", "--output_dir", str(folder))
    return (*FTE, "train", str(ROOT / "train.jsonl"), *flags)


def measure(cases: Sequence[Case], runs: int, run_folder: Path) -> dict[str, list[float]]:
    """Return the seconds of each case in every round but the first, by the case's name."""
    found: dict[str, list[float]] = {case.name: [] for case in cases}
    for round_ in range(runs + 1):
        for case in cases:
            shutil.rmtree(run_folder, ignore_errors=True)
            took = seconds(case)
            if round_:
                found[case.name].append(took)
    return found


def compare_ratio(found: dict[str, list[float]]) -> float:
    """Return the time of `fte compare` to its first answer as a multiple of the plain load."""
    return statistics.median(found[COMPARE]) / statistics.median(found[PLAIN])


def table(cases: Sequence[Case], found: dict[str, list[float]]) -> list[str]:
    """Format the table of seconds, in 80 columns."""
    lines = [f"{'seconds':<38}{'median':>9}{'lowest':>9}{'highest':>9}{'goal':>9}", "-" * 74]
    for case in cases:
        times = found[case.name]
        goal = "" if case.goal_s is None else f"≤ {case.goal_s:.1f}"
        figures = (statistics.median(times), min(times), max(times))
        text = "".join(f"{it:>9.2f}" for it in figures)
        lines.append(f"{case.name:<38}{text}{goal:>9}".rstrip())
    ratio = f"{compare_ratio(found):>9.2f}"
    lines.append(f"{'fte compare / plain load':<38}{ratio}{f'≤ {COMPARE_RATIO}':>27}")
    return lines


def machine() -> dict[str, str | int]:
    """Describe the machine and the library versions."""
    has_affinity = hasattr(os, "sched_getaffinity")
    return {
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "peft", "trl")},
    }


def main() -> None:
    """Measure, print the table, and optionally write the figures."""
    parser = argparse.ArgumentParser(description="Measure how long commands take to start.")
    parser.add_argument("--runs", type=int, default=5, help="counted rounds")
    parser.add_argument(
        "--data", type=Path, default=next(it for it in DATA if it.is_file()), help="JSON lines"
    )
    parser.add_argument("--adapter", type=Path, help="default: train one for a single step")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run_folder = Path(scratch) / "run"
        adapter = given.adapter or Path(scratch) / "adapter"
        if given.adapter is None:
            seconds(Case("making an adapter", _train(adapter, 1), ended))
        cases = make_cases(given.data, adapter, run_folder)
        found = measure(cases, given.runs, run_folder)
    here = machine()
    print(", ".join(f"{name} {value}" for name, value in here.items()))
    print(f"median of {given.runs} alternating runs\n")
    print("\n".join(table(cases, found)))
    if given.json:
        content = {**here, "seconds": found, "compare_to_plain": compare_ratio(found)}
        given.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
