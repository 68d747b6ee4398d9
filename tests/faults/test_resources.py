"""Full and failing disks, too little memory, non-finite numbers, and no network."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from children import (
    WAIT_S,
    Project,
    continue_under_strace,
    ended,
    needs_strace,
    outcome,
    run,
    start,
    wait_until_stopped,
)
from tiny import LEAN, Models, brisk, rows, run_training
from trainings import FastPieces

from finetuning_exam.durable import leftovers, manifest_faults
from finetuning_exam.errors import DiskError, DivergedError
from finetuning_exam.training import run_folder
from finetuning_exam.training.checkpoint.find import REQUIRED_FILES, checkpoints, find_checkpoint
from finetuning_exam.training.progress import read_metrics
from finetuning_exam.training.run_folder import METRICS


def _log(out: Path) -> str:
    return out.with_suffix(".log").read_text(encoding="utf-8")


def _with_a_fault(project: Project, out: Path, inject: str, step: int = 12) -> int:
    """Return the exit code of a run whose system calls fail from the save of a step on."""
    child = start(project.command(out), out.with_suffix(".log"), pause_at_save=step)
    wait_until_stopped(child)
    continue_under_strace(child, inject, out.with_suffix(".strace"))
    return ended(child)


def _assert_kept(project: Project, out: Path) -> None:
    """Assert intact checkpoints, no partial files, and a resume that ends the same."""
    assert leftovers(out) == ()
    for _, path in checkpoints(out):
        assert manifest_faults(path, REQUIRED_FILES) == ()
    assert "Traceback" not in _log(out)
    assert project.resume(out) == 0, _log(out)
    assert outcome(out) == project.expected


# No space left


@needs_strace
def test_no_space_in_a_save(project: Project, tmp_path: Path) -> None:
    """A save without enough space ends the run with exit code 4; the checkpoint before is kept, and
    partial files are removed.
    """
    out = tmp_path / "out"
    # Faults in fsync rather than write, since writes to the log would fail too, silently.
    assert _with_a_fault(project, out, "fsync:error=ENOSPC:when=1+") == 4
    last = _log(out).strip().splitlines()[-1]
    assert last.endswith("checkpoint-12: no space left on the disk. Free some space.")
    assert find_checkpoint(out, "latest").step == 8
    _assert_kept(project, out)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of eight megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs root, to mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def _fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)


def test_a_disk_that_is_really_full(project: Project, small_disk: Path) -> None:
    """If the disk fills up during a run, it ends with exit code 4 and leaves no partial files; once
    there is space, it resumes from its last checkpoint and ends the same.
    """
    out = small_disk / "out"
    log = project.folder / "full.log"
    child = start(project.command(out), log, pause_at_save=8)
    wait_until_stopped(child)
    _fill(small_disk / "ballast")
    assert child.pid is not None
    os.kill(child.pid, signal.SIGCONT)
    assert ended(child) == 4
    assert "no space left on the disk" in log.read_text(encoding="utf-8").splitlines()[-1]
    (small_disk / "ballast").unlink()
    assert find_checkpoint(out, "latest").step == 4
    assert leftovers(out) == ()
    assert run(project.command(out, "--resume_from_checkpoint", "latest"), log) == 0
    assert outcome(out) == project.expected


def test_a_full_disk_while_logging(project: Project, small_disk: Path) -> None:
    """If a line of the metrics no longer fits, the run ends in the same way."""
    out = small_disk / "out"
    log = project.folder / "logging.log"
    child = start(project.command(out, "--logging_steps", "1"), log, pause_at_save=4)
    wait_until_stopped(child)
    (small_disk / "out" / "metrics.jsonl").write_bytes(b"x" * 4096)  # its next line needs a block
    _fill(small_disk / "ballast")
    assert child.pid is not None
    os.kill(child.pid, signal.SIGCONT)
    assert ended(child) == 4
    assert "Traceback" not in log.read_text(encoding="utf-8")


# Too little disk space, reported before the first step


def test_too_little_space_is_reported_before_the_first_step(tmp_path: Path) -> None:
    """With less free space than needed, the run ends with exit code 4 and shows both figures."""
    with pytest.raises(DiskError) as caught:
        run_folder.check_space(tmp_path, 10**18)
    assert str(caught.value).startswith(f"{tmp_path}: ")
    assert "the run needs about 1,000,000,000,000 MB" in str(caught.value)
    assert caught.value.exit_code == 4
    run_folder.check_space(tmp_path, 1000)


# The disk fails


@needs_strace
def test_a_flush_that_fails(project: Project, tmp_path: Path) -> None:
    """If fsync fails with EIO, that save is discarded, and the one before is kept."""
    out = tmp_path / "out"
    assert _with_a_fault(project, out, "fsync:error=EIO:when=2") == 4
    assert "checkpoint-12: the disk reported an error (Input/output error)." in _log(out)
    assert find_checkpoint(out, "latest").step == 8
    _assert_kept(project, out)


@needs_strace
def test_a_rename_that_fails(project: Project, tmp_path: Path) -> None:
    """If a checkpoint cannot be renamed, it is discarded, and the one before is kept."""
    out = tmp_path / "out"
    assert _with_a_fault(project, out, "rename:error=EIO:when=5") == 4
    _assert_kept(project, out)


# An output folder that cannot be written to


@pytest.mark.parametrize("kind", ["file", "dangling", "read-only"])
def test_an_unusable_output_folder(project: Project, tmp_path: Path, kind: str) -> None:
    """An unusable output folder ends the run with exit code 2, before the model is loaded."""
    out = tmp_path / "out"
    if kind == "file":
        out.touch()
    elif kind == "dangling":
        out.symlink_to(tmp_path / "gone")
    else:
        out = Path("/proc/out")  # not even root can create a folder there
    log = tmp_path / "log"
    assert run(project.command(out, "--model", str(project.model)), log) == 2
    said = log.read_text(encoding="utf-8").strip()
    assert str(out) in said
    assert "Give another --output_dir." in said
    assert len(said.splitlines()) == 1


# Memory


def test_running_out_of_memory_in_training_is_reported(
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A failed allocation in a step is one line with the expected memory and a hint."""
    import torch

    from finetuning_exam.cli import main
    from finetuning_exam.training.trl import ObjectiveTrainer

    def fail(*_: object, **__: object) -> None:
        torch.empty(1 << 60)

    monkeypatch.setattr(ObjectiveTrainer, "compute_loss", fail)
    assert main(project.command(tmp_path / "out")) == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1
    assert "out of memory" in said
    assert "was expected to need" in said
    assert "Lower --micro_batch_tokens" in said


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("std::bad_alloc"), RuntimeError("can't allocate memory")]
)
def test_running_out_of_memory_elsewhere_is_reported(
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    """A failed allocation while loading or estimating is one line without a traceback."""
    from finetuning_exam.cli import main

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("finetuning_exam.training.cost.predict.predict", fail)
    assert main(project.command(tmp_path / "out")) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("fte train: out of memory. ")
    assert len(said.splitlines()) == 1


def test_running_out_of_memory_in_the_exam_is_reported(
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The training is not lost: the hint is for the exam, with the command that resumes."""
    from finetuning_exam.cli import main

    def fail(*_: object) -> None:
        raise MemoryError

    out = tmp_path / "out"
    monkeypatch.setattr("finetuning_exam.training.run.examine", fail)
    assert main(project.command(out)) == 2
    said = capsys.readouterr().err.strip()
    assert "out of memory" in said
    assert "Lower --eval_batch_size" in said
    assert "--resume_from_checkpoint latest" in said
    monkeypatch.undo()
    again = project.command(out, "--resume_from_checkpoint", "latest", "--eval_batch_size", "1")
    assert main(again) == 0
    assert outcome(out).adapter_sha256 == project.expected.adapter_sha256


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """Create a cgroup, of either version, whose memory can be limited."""
    lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    own = next((line.split(":")[2] for line in lines if ":memory:" in line), None)
    root = Path("/sys/fs/cgroup", "" if own is None else f"memory{own}")
    group = root / f"finetuning-exam-test-{os.getpid()}"
    try:
        group.mkdir()
        _limit(group, 2**40)
    except OSError:
        pytest.skip("needs root, to make a cgroup")
    yield group
    group.rmdir()


def _limit(group: Path, limit: int) -> None:
    for name in ("memory.limit_in_bytes", "memory.max"):
        if (group / name).exists():
            (group / name).write_text(f"{limit}", encoding="ascii")
            return
    raise FileNotFoundError(group)


def _in_group(group: Path, arguments: list[str]) -> str:
    """Run a command in a cgroup and return its output."""
    done = subprocess.run(
        [sys.executable, "-m", "finetuning_exam", *arguments],
        preexec_fn=lambda: (group / "cgroup.procs").write_text(f"{os.getpid()}", encoding="ascii"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WAIT_S,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.slow
def test_a_run_keeps_to_the_memory_of_its_cgroup(tmp_path: Path, memory_group: Path) -> None:
    """With half of the memory it would use, a run reports what it changes, succeeds, and has the
    same losses up to rounding.
    """
    words = ("river", "lamp", "quiet", "seven", "copper", "moss", "under", "seldom")
    answers = [" ".join(words[(i * j) % 8] for j in range(220)) for i in range(1, 31)]
    examples = [{"instruction": f"Say {i}.", "output": it} for i, it in enumerate(answers)]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(f"{json.dumps(it)}\n" for it in examples), encoding="utf-8")

    def command(name: str) -> list[str]:
        flags = "--max_steps 6 --answered_examples 0 --device cpu --lora_dropout 0 " + " ".join(
            LEAN
        )
        return ["train", str(data), "--output_dir", str(tmp_path / name), *flags.split()]

    free = _in_group(memory_group, command("free"))
    assert "Limited memory" not in free
    peak = json.loads((tmp_path / "free" / "run.json").read_text())["measured"]["peak_bytes"]
    _limit(memory_group, peak // 2)
    limited = _in_group(memory_group, command("limited"))
    assert "Limited memory (" in limited
    free_losses, limited_losses = (
        [it["loss"] for it in read_metrics(tmp_path / name / METRICS) if "loss" in it]
        for name in ("free", "limited")
    )
    assert len(free_losses) >= 1
    assert limited_losses == pytest.approx(free_losses, rel=1e-4)


# Non-finite numbers


@pytest.mark.parametrize("fast_path", [("all",), ("none",)])
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_non_finite_number_ends_the_run_before_the_step(
    models: Models,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    fast_path: FastPieces,
) -> None:
    """A non-finite loss or gradient ends the run with exit code 5 and lists the rows; the optimizer
    does not take the step, and the checkpoint before is intact.
    """
    import torch

    from finetuning_exam.training.trl import ObjectiveTrainer

    original = ObjectiveTrainer.compute_loss
    n_steps = 0

    def compute(self: ObjectiveTrainer[Any], *args: Any, **named: Any) -> torch.Tensor:
        loss = original(self, *args, **named)
        if self.state.global_step < 2:
            return loss
        if what == "gradient":
            loss.register_hook(lambda gradient: gradient * float("inf"))
        return loss

    monkeypatch.setattr(ObjectiveTrainer, "compute_loss", compute)
    if what == "loss":
        step = ObjectiveTrainer.training_step

        def training_step(self: ObjectiveTrainer[Any], *args: Any, **named: Any) -> object:
            if self.state.global_step == 2:
                with torch.no_grad():
                    for name, parameter in self.model.named_parameters():
                        if "lora_B" in name:
                            parameter.fill_(float("nan"))
            return step(self, *args, **named)

        monkeypatch.setattr(ObjectiveTrainer, "training_step", training_step)
    optimizer_step = torch.optim.AdamW.step

    def counted(self: torch.optim.AdamW, *args: Any, **named: Any) -> object:
        nonlocal n_steps
        n_steps += 1
        return optimizer_step(self, *args, **named)

    monkeypatch.setattr(torch.optim.AdamW, "step", counted)
    settings = brisk(models.folder(), max_steps=6, save_steps=1, fast_path=fast_path)
    with pytest.raises(DivergedError) as caught:
        run_training(settings, tmp_path, rows(12))
    assert caught.value.exit_code == 5
    assert "at step 3 is " in str(caught.value)
    assert "Rows in this step: rows.jsonl:" in str(caught.value)
    assert n_steps == 2
    assert find_checkpoint(tmp_path, "latest").step == 2


# No network


def test_a_base_on_the_hub_without_network(project: Project, tmp_path: Path) -> None:
    """A base that cannot be downloaded is a clear error; one in a folder needs no network."""
    log = tmp_path / "log"
    command = project.command(tmp_path / "out", "--model", "nobody/nothing")
    assert run(command, log) == 2
    said = log.read_text(encoding="utf-8")
    assert "nobody/nothing: not a local folder, and not in the cache of the Hub" in said
    assert "Give the path of a folder with the model" in said
    assert "network" not in said


def test_the_run_json_of_a_finished_run_has_a_result(project: Project) -> None:
    """A finished run is marked by its result; only an unfinished one has a state."""
    record = json.loads((project.folder / "whole" / "run.json").read_text(encoding="utf-8"))
    assert "state" not in record
    assert record["result"]["steps"] == 12
