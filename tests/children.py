"""Trainings in child processes, which a test can pause and kill.

They are forked from a server that has torch loaded, so each starts in a tenth of a second.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

CONTEXT: ForkServerContext | SpawnContext
if "forkserver" in multiprocessing.get_all_start_methods():
    CONTEXT = multiprocessing.get_context("forkserver")
    CONTEXT.set_forkserver_preload(["children", "tiny", "finetuning_exam.training.run"])
else:
    CONTEXT = multiprocessing.get_context("spawn")
WAIT_S = 240

STRACE = shutil.which("strace")
needs_strace = pytest.mark.skipif(STRACE is None, reason="needs strace")


def command(model: Path, data: Path, out: Path, *more: str) -> list[str]:
    """Return a small run of twelve steps with everything that a resume must get right: dropout,
    accumulation, micro-batches by tokens, logging out of step with saving, validation.
    """
    flags = {
        "--model": model,
        "--output_dir": out,
        "--device": "cpu",
        "--dtype": "float32",
        "--lora_r": 4,
        "--lora_dropout": 0.1,
        "--learning_rate": 1e-2,
        "--max_steps": 12,
        "--save_steps": 4,
        "--logging_steps": 3,
        "--per_device_train_batch_size": 2,
        "--gradient_accumulation_steps": 2,
        "--micro_batch_tokens": 80,
        "--early_stopping_patience": "None",
        "--answered_examples": 4,
        "--adapter_scale": 1,
        "--skills": "none",
        "--max_new_tokens": 4,
    }
    words = [str(word) for pair in flags.items() for word in pair]
    return ["train", str(data), *words, *more]


def start(
    arguments: Sequence[str],
    log: Path,
    pause_at_save: int | None = None,
    pause_at_validation: int | None = None,
    threads: int = 1,
) -> BaseProcess:
    """Start a command in a child process that writes its output to `log`.

    The child stops itself (SIGSTOP) right before it saves or validates the given step.
    """
    pauses = {"_save_checkpoint": pause_at_save, "evaluate": pause_at_validation}
    child = CONTEXT.Process(target=_run, args=(list(arguments), str(log), pauses, threads))
    child.start()
    return child


def run(arguments: Sequence[str], log: Path) -> int:
    """Run a command in a child process; return its exit code, negative for a signal."""
    child = start(arguments, log)
    return ended(child)


def ended(child: BaseProcess) -> int:
    """Wait for a child and return its exit code."""
    child.join(WAIT_S)
    if child.exitcode is None:
        child.kill()
        child.join()
        raise TimeoutError(f"the child did not end within {WAIT_S} s")
    return child.exitcode


def _run(arguments: list[str], log: str, pauses: dict[str, int | None], threads: int) -> None:
    import torch

    from finetuning_exam.cli import main

    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(handle, number)
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for method, step in pauses.items():
        if step is not None:
            _pause(method, step)
    code = main(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _pause(method: str, step: int) -> None:
    """Stop this process (SIGSTOP) before the trainer calls a method at a step."""
    from finetuning_exam.training.trl import ObjectiveTrainer

    original = getattr(ObjectiveTrainer, method)

    def pausing(self: ObjectiveTrainer[Any], *args: object, **kwargs: object) -> object:
        if self.state.global_step == step:
            os.kill(os.getpid(), signal.SIGSTOP)
        return original(self, *args, **kwargs)

    setattr(ObjectiveTrainer, method, pausing)


def wait_until(is_met: Callable[[], bool], child: BaseProcess, seconds: float = WAIT_S) -> bool:
    """Wait for a condition, until the child ends or time is up; return whether it is met."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and child.is_alive():
        if is_met():
            return True
        time.sleep(0.005)
    return is_met()


def wait_until_stopped(child: BaseProcess) -> None:
    """Wait until a child has stopped itself (SIGSTOP)."""
    status = Path(f"/proc/{child.pid}/stat")

    def is_stopped() -> bool:
        return status.read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "T"

    assert wait_until(is_stopped, child), "the child did not stop"


def continue_under_strace(child: BaseProcess, inject: str, log: Path) -> None:
    """Continue a stopped child under strace, which injects a fault into its system calls."""
    assert STRACE is not None
    tracer = subprocess.Popen(
        [STRACE, "-f", "-qq", "-o", str(log), "-e", f"inject={inject}", "-p", str(child.pid)],
        stderr=subprocess.DEVNULL,
    )
    status = Path(f"/proc/{child.pid}/status")
    assert wait_until(lambda: "TracerPid:\t0\n" not in status.read_text(encoding="utf-8"), child)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGCONT)
    try:
        tracer.wait(WAIT_S)
    finally:
        tracer.kill()
        tracer.wait()


@dataclass(frozen=True)
class Outcome:
    """The results of a run that must not depend on interruptions."""

    adapter_sha256: str
    metrics: tuple[dict[str, float], ...]
    exam: str


def outcome(out: Path) -> Outcome:
    """Return adapter, metrics without speeds, and exam of a finished run."""
    lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return Outcome(
        hashlib.sha256((out / "adapter_model.safetensors").read_bytes()).hexdigest(),
        tuple({k: v for k, v in row.items() if k != "tokens_per_second"} for row in rows),
        (out / "exam.json").read_text(encoding="utf-8"),
    )


@dataclass(frozen=True)
class Project:
    """A folder with a data file, and the outcome of an undisturbed run."""

    folder: Path
    model: Path
    data: Path
    expected: Outcome
    seconds: float

    def command(self, out: Path, *more: str) -> list[str]:
        """Return the command of the same run with another output folder."""
        return command(self.model, self.data, out, *more)

    def resume(self, out: Path, *more: str) -> int:
        """Resume a run from its latest checkpoint, or start it if it has none."""
        has_one = any(out.glob("checkpoint-*"))
        flags = ("--resume_from_checkpoint", "latest") if has_one else ("--overwrite_output_dir",)
        return run(self.command(out, *flags, *more), out.with_suffix(".log"))


def make_project(folder: Path, model: Path, data: Path, *more: str) -> Project:
    """Run the command undisturbed and record its outcome."""
    whole = folder / "whole"
    blank = Project(folder, model, data, Outcome("", (), ""), 0.0)
    started = time.monotonic()
    code = run(blank.command(whole, *more), folder / "whole.log")
    assert code == 0, (folder / "whole.log").read_text(encoding="utf-8")
    return replace(blank, expected=outcome(whole), seconds=time.monotonic() - started)


def kill_at_random(project: Project, out: Path, draw: random.Random, *more: str) -> None:
    """Start or resume a run and send it SIGKILL at a random time before its adapter is saved."""
    weights = out / "adapter_model.safetensors"
    before = out.with_suffix(".before")
    if out.exists():
        shutil.copytree(out, before)
    seconds = project.seconds
    for _ in range(20):
        has_one = any(out.glob("checkpoint-*"))
        again = ("--resume_from_checkpoint", "latest") if has_one else ("--overwrite_output_dir",)
        started = time.monotonic()
        child = start(project.command(out, *again, *more), out.with_suffix(".log"))
        wait_until(weights.exists, child, draw.uniform(0.0, 1.0) * seconds)
        if not weights.exists():
            child.kill()
            child.join()
            assert child.exitcode == -signal.SIGKILL
            shutil.rmtree(before, ignore_errors=True)
            return
        seconds = time.monotonic() - started  # it was faster than expected: try again
        child.kill()
        child.join()
        shutil.rmtree(out)
        if before.exists():
            shutil.copytree(before, out)
    raise AssertionError("the run always finished before the kill")
