"""Crashes and signals: a resumed run gives the result of an undisturbed one.

Kills at every system call and fifty random kills are slow: `uv run pytest -m slow tests/faults`.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path

import pytest
from children import (
    Project,
    continue_under_strace,
    ended,
    kill_at_random,
    make_project,
    needs_strace,
    outcome,
    run,
    start,
    wait_until,
    wait_until_stopped,
)

from finetuning_exam.durable import leftovers, manifest_faults
from finetuning_exam.training.checkpoint.find import REQUIRED_FILES, checkpoints, find_checkpoint

SAVED_STEP = 12
"""The save that is disturbed: the third, so that it is followed by a deletion."""
CALLS = ("write", "fsync", "rename", "unlink", "unlinkat", "rmdir", "mkdir")


def _log(out: Path) -> str:
    return out.with_suffix(".log").read_text(encoding="utf-8")


# SIGKILL at a random time


def test_three_random_kills(project: Project, tmp_path: Path) -> None:
    """A run that is killed three times and resumed has the adapter, metrics and exam of an
    undisturbed one.
    """
    draw = random.Random(7)
    out = tmp_path / "out"
    for _ in range(3):
        kill_at_random(project, out, draw)
    assert project.resume(out) == 0, _log(out)
    assert outcome(out) == project.expected


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_fifty_random_kills(project: Project, tmp_path: Path) -> None:
    """Fifty runs of 200 steps that save every ten steps are each killed once at a random time, and
    ten more are killed three times.
    """
    more = ("--max_steps", "200", "--save_steps", "10")
    long = make_project(tmp_path, project.model, project.data, *more)
    draw = random.Random(1)
    killed_after: list[int] = []
    for number, kills in enumerate([1] * 50 + [3] * 10):
        out = tmp_path / f"out{number}"
        for _ in range(kills):
            kill_at_random(long, out, draw, *more)
            steps = [step for step, _ in checkpoints(out)] if out.exists() else []
            killed_after.append(max(steps, default=0))
        assert long.resume(out, *more) == 0, _log(out)
        assert outcome(out) == long.expected, number
    print(f"killed after checkpoints {sorted(killed_after)}")


# SIGKILL at every system call of a save and of the deletion of old checkpoints


def _killed_at(project: Project, out: Path, call: str, count: int) -> bool:
    """Kill a run at the n-th call of a kind from its last save on; return whether it got there."""
    child = start(project.command(out), out.with_suffix(".log"), pause_at_save=SAVED_STEP)
    wait_until_stopped(child)
    continue_under_strace(child, f"{call}:signal=KILL:when={count}", out.with_suffix(".strace"))
    return ended(child) == -signal.SIGKILL


def _assert_resumes(project: Project, out: Path) -> None:
    """Assert that every checkpoint is intact, and that a resume ends the same."""
    assert find_checkpoint(out, "latest").step in (8, SAVED_STEP)
    for _, path in checkpoints(out):
        assert manifest_faults(path, REQUIRED_FILES) == ()
    assert project.resume(out) == 0, _log(out)
    assert outcome(out) == project.expected
    assert leftovers(out) == ()


@needs_strace
@pytest.mark.parametrize(("call", "count"), [("write", 9), ("fsync", 3), ("rename", 6)])
def test_killed_at_a_call_of_a_save(
    project: Project, tmp_path: Path, call: str, count: int
) -> None:
    """If a run is killed while it writes, flushes or renames a checkpoint, the new one or the one
    before is intact.
    """
    assert _killed_at(project, tmp_path / "out", call, count)
    _assert_resumes(project, tmp_path / "out")


@needs_strace
@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("call", CALLS)
def test_killed_at_every_call_of_a_save(
    project: Project, tmp_path: Path, call: str, record_property: pytest.RecordProperty
) -> None:
    """The same holds for the first, second, … call of each kind until the run ends: saving,
    deleting, the final adapter, the exam's files and the manifest.
    """
    count = 1
    while _killed_at(project, tmp_path / f"out{count}", call, count):
        _assert_resumes(project, tmp_path / f"out{count}")
        count += 1
    assert outcome(tmp_path / f"out{count}") == project.expected
    record_property("points", count - 1)
    print(f"{call}: {count - 1} points")


# Signals


def _signalled(project: Project, out: Path, number: int) -> int:
    child = start(project.command(out), out.with_suffix(".log"))
    assert wait_until(lambda: (out / "checkpoint-4").exists(), child)
    assert child.pid is not None
    os.kill(child.pid, number)
    return ended(child)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_a_run_after_its_step(
    project: Project, tmp_path: Path, number: int, code: int
) -> None:
    """On SIGTERM and Ctrl-C, the step is finished and saved, the exit code is the signal's, the
    command that resumes is printed, and it ends the same.
    """
    out = tmp_path / "out"
    assert _signalled(project, out, number) == code, _log(out)
    last = _log(out).strip().splitlines()[-1]
    step = find_checkpoint(out, "latest").step
    assert f"stopped after step {step} of 12 (checkpoint saved). To resume: " in last
    assert last.endswith("--resume_from_checkpoint latest")
    assert "Traceback" not in _log(out)
    assert project.resume(out) == 0, _log(out)
    assert outcome(out) == project.expected


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_before_the_first_step(
    project: Project, tmp_path: Path, number: int, code: int
) -> None:
    """A signal during encoding or estimation stops at once, since there is nothing to save."""
    out = tmp_path / "out"
    child = start(project.command(out), out.with_suffix(".log"))
    assert wait_until(lambda: (out / ".lock").exists(), child)
    assert child.pid is not None
    os.kill(child.pid, number)
    assert ended(child) == code
    assert _log(out).strip().splitlines()[-1].startswith("fte train: stopped.")
    assert "Traceback" not in _log(out)
    assert project.resume(out) == 0, _log(out)
    assert outcome(out) == project.expected


def _terminated_at_pause(project: Project, out: Path, **pause: int) -> int:
    """Send SIGTERM to a run that has paused itself; return its exit code."""
    child = start(project.command(out), out.with_suffix(".log"), **pause)
    wait_until_stopped(child)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGTERM)
    os.kill(child.pid, signal.SIGCONT)
    return ended(child)


def test_a_signal_while_saving(project: Project, tmp_path: Path) -> None:
    """On SIGTERM at the start of a save, the save is finished, and then the run ends."""
    out = tmp_path / "out"
    assert _terminated_at_pause(project, out, pause_at_save=8) == 143, _log(out)
    assert find_checkpoint(out, "latest").step == 8
    assert project.resume(out) == 0, _log(out)
    assert outcome(out) == project.expected


@pytest.mark.parametrize("step", [0, 4, 12])
def test_a_signal_while_validating(project: Project, tmp_path: Path, step: int) -> None:
    """On SIGTERM during the first, a later or the last validation, nothing is lost."""
    out = tmp_path / "out"
    assert _terminated_at_pause(project, out, pause_at_validation=step) == 143, _log(out)
    assert f"stopped after step {max(1, step)} of 12 (checkpoint saved)." in _log(out)
    assert find_checkpoint(out, "latest").step == max(1, step)
    assert project.resume(out) == 0, _log(out)
    assert outcome(out) == project.expected


def test_a_signal_in_the_last_save(project: Project, tmp_path: Path) -> None:
    """On SIGTERM in the last save, the exam is left to the resumed run, which trains no further."""
    out = tmp_path / "out"
    assert _terminated_at_pause(project, out, pause_at_save=12) == 143, _log(out)
    assert not (out / "exam.json").exists()
    assert project.resume(out) == 0, _log(out)
    assert outcome(out) == project.expected


@needs_strace
def test_a_second_ctrl_c_stops_immediately(project: Project, tmp_path: Path) -> None:
    """A second Ctrl-C during a save aborts it and leaves no partial files."""
    out = tmp_path / "out"
    child = start(project.command(out), out.with_suffix(".log"), pause_at_save=8)
    wait_until_stopped(child)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGINT)
    # The first flush of the save takes long enough to press Ctrl-C again.
    trace = out.with_suffix(".strace")
    second = CtrlC(child.pid)
    continue_under_strace(child, f"fsync:delay_enter={10**6}:when=1", trace)
    assert second.sent
    assert ended(child) == 130
    assert leftovers(out) == ()
    assert [step for step, _ in checkpoints(out)] == [4]
    assert project.resume(out) == 0, _log(out)
    assert outcome(out) == project.expected


class CtrlC:
    """Sends SIGINT from another thread, 0.7 seconds after its creation."""

    def __init__(self, pid: int) -> None:
        self.sent = False
        self._pid = pid
        threading.Timer(0.7, self._send).start()

    def _send(self) -> None:
        os.kill(self._pid, signal.SIGINT)
        self.sent = True


# Two runs in one folder


@pytest.mark.parametrize(
    "n", [3, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])]
)
def test_two_runs_in_one_folder(project: Project, tmp_path: Path, n: int) -> None:
    """If two runs start together, one succeeds and the other ends with exit code 6; the result is
    that of a single run.
    """
    for number in range(n):
        out = tmp_path / f"out{number}"
        children = [
            start(project.command(out, "--overwrite_output_dir"), tmp_path / f"{number}{name}.log")
            for name in "ab"
        ]
        assert sorted(ended(child) for child in children) == [0, 6]
        assert outcome(out) == project.expected


def test_the_lock_of_a_killed_run_is_released(project: Project, tmp_path: Path) -> None:
    """A killed run leaves its lock file behind, and the next run takes it over."""
    out = tmp_path / "out"
    child = start(project.command(out), out.with_suffix(".log"))
    assert wait_until(lambda: (out / "checkpoint-4").exists(), child)
    child.kill()
    child.join()
    assert (out / ".lock").exists()
    assert project.resume(out) == 0, _log(out)


# The clock is set back


def test_checkpoints_are_ordered_by_step_not_time(project: Project, tmp_path: Path) -> None:
    """If file times run backwards, `latest` is the highest step, and the lowest is deleted."""
    out = tmp_path / "out"
    child = start(project.command(out), out.with_suffix(".log"), pause_at_save=12)
    wait_until_stopped(child)
    for age, (_, path) in enumerate(checkpoints(out)):
        os.utime(path, (10**9 - age, 10**9 - age))
    assert child.pid is not None
    os.kill(child.pid, signal.SIGCONT)
    assert ended(child) == 0
    assert [step for step, _ in checkpoints(out)] == [8, 12]
    os.utime(out / "checkpoint-12", (0, 0))
    assert find_checkpoint(out, "latest").step == 12


def test_an_unfinished_run_is_not_overwritten(project: Project, tmp_path: Path) -> None:
    """Repeating the command of a killed run ends with exit code 2 and prints how to resume or start
    over; `--overwrite_output_dir` starts over.
    """
    out = tmp_path / "out"
    assert _signalled(project, out, signal.SIGTERM) == 143
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert run(project.command(out), tmp_path / "again.log") == 2
    said = (tmp_path / "again.log").read_text(encoding="utf-8").strip()
    assert len(said.splitlines()) == 1
    assert "holds an unfinished run (step " in said
    assert "--resume_from_checkpoint latest (or start again with --overwrite_output_dir)" in said
    changed = {path for path in out.rglob("*") if before.get(path) != path.stat().st_mtime_ns}
    assert changed <= {out / ".lock"}
    assert run(project.command(out, "--overwrite_output_dir"), tmp_path / "new.log") == 0
    assert outcome(out) == project.expected
