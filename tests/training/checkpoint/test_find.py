"""Specification of checkpoints: found by step, used only whole, rotated."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from finetuning_exam.durable import MANIFEST, write_folder
from finetuning_exam.errors import AdapterError, UsageError
from finetuning_exam.training.checkpoint.find import (
    NEEDED,
    CheckpointRef,
    Retention,
    checkpoint_path,
    checkpoints,
    find_checkpoint,
    needed_space,
)

OUT = Path("out")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in a folder of its own, so that a path in a message is short."""
    monkeypatch.chdir(tmp_path)
    OUT.mkdir()
    return tmp_path


def _checkpoint(step: int) -> Path:
    path = checkpoint_path(OUT, step)
    write_folder(path, lambda folder: [(folder / name).write_text(name) for name in NEEDED][:0])
    return path


def test_checkpoints_are_in_order_of_step() -> None:
    """Checkpoints come by their number, not by their name or time; other folders are none."""
    for step in (20, 100, 3):
        os.utime(_checkpoint(step), (step, 10**9 - step))
    for name in ("checkpoint-", "checkpoint-7x", "xcheckpoint-7", "checkpoint--1"):
        (OUT / name).mkdir()
    (OUT / "checkpoint-9").touch()
    assert checkpoints(OUT) == tuple((step, OUT / f"checkpoint-{step}") for step in (3, 20, 100))


def test_latest_is_the_whole_checkpoint_with_most_steps() -> None:
    """`latest` is the highest step; a path is that checkpoint."""
    for step in (20, 100, 3):
        _checkpoint(step)
    assert find_checkpoint(OUT, "latest") == CheckpointRef(OUT / "checkpoint-100")
    assert find_checkpoint(OUT, "latest").step == 100
    assert find_checkpoint(OUT, "out/checkpoint-20") == CheckpointRef(OUT / "checkpoint-20")


@pytest.mark.parametrize("name", [*NEEDED, MANIFEST])
def test_a_damaged_checkpoint_is_named_and_passed_over(name: str) -> None:
    """The one before is taken, and the reason is told; named outright, it is refused."""
    _checkpoint(20)
    (_checkpoint(100) / name).unlink()
    assert find_checkpoint(OUT, "latest") == CheckpointRef(
        OUT / "checkpoint-20", (f"out/checkpoint-100: {name} is missing",)
    )
    with pytest.raises(AdapterError, match=f"out/checkpoint-100: is damaged .{name} is missing"):
        find_checkpoint(OUT, "out/checkpoint-100")


def test_a_checkpoint_with_too_few_files_is_none() -> None:
    """A checkpoint whose manifest does not list a file that resuming needs is refused."""
    write_folder(OUT / "checkpoint-1", lambda folder: (folder / "x").touch())
    with pytest.raises(AdapterError, match=r"does not list adapter_model\.safetensors"):
        find_checkpoint(OUT, "latest")


def test_checkpoints_that_are_all_damaged_are_told() -> None:
    """Where none is whole, all are named with their reasons, and the code is 3."""
    for step in (3, 20):
        (_checkpoint(step) / "state.json").write_text("x")
    with pytest.raises(AdapterError) as caught:
        find_checkpoint(OUT, "latest")
    assert str(caught.value) == (
        "out: every checkpoint is damaged (out/checkpoint-20: state.json has 1 bytes, not 10; "
        "out/checkpoint-3: state.json has 1 bytes, not 10). "
        "Start again with --overwrite_output_dir."
    )
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("exists", [True, False])
def test_resuming_without_a_checkpoint_is_told(exists: bool) -> None:
    """`latest` where there is none names the folder, be it empty or missing."""
    if not exists:
        OUT.rmdir()
    with pytest.raises(UsageError) as caught:
        find_checkpoint(OUT, "latest")
    assert str(caught.value) == (
        "out: holds no checkpoint to resume from. Leave out --resume_from_checkpoint."
    )


@pytest.mark.parametrize("path", ["out/checkpoint-1", "out", "file"])
def test_a_path_that_is_no_checkpoint_is_told(path: str) -> None:
    """A folder of another name, a file or nothing is no checkpoint."""
    Path("file").touch()
    with pytest.raises(UsageError) as caught:
        find_checkpoint(OUT, path)
    assert str(caught.value) == (
        f"{path}: is no checkpoint. Give latest, or a checkpoint-N folder of a run."
    )


def _left() -> list[int]:
    return [step for step, _ in checkpoints(OUT)]


@pytest.mark.parametrize(("keep", "left"), [(1, [8, 10]), (2, [8, 10]), (3, [6, 8, 10])])
def test_the_newest_are_kept(keep: int, left: list[int]) -> None:
    """As many as asked for, but two at least; nothing is beside them."""
    rotation = Retention(OUT, keep)
    for step in (2, 4, 6, 8, 10):
        _checkpoint(step)
        rotation.add(step)
    assert _left() == left
    assert len(os.listdir(OUT)) == len(left)


def test_a_damaged_checkpoint_does_not_count_as_kept() -> None:
    """What was passed over in a resume does not push out the one that was resumed from."""
    for step in (2, 4, 6):
        _checkpoint(step)
    (OUT / "checkpoint-6" / "state.json").unlink()
    rotation = Retention(OUT, 2, find_checkpoint(OUT, "latest"))
    _checkpoint(5)
    rotation.add(5)
    assert _left() == [4, 5, 6], "two whole ones, and the damaged one not yet overwritten"
    _checkpoint(6)
    rotation.add(6)
    assert _left() == [5, 6]


def test_a_checkpoint_elsewhere_is_not_counted() -> None:
    """Resuming from another folder's checkpoint leaves this folder's rotation to itself."""
    rotation = Retention(OUT, 2, CheckpointRef(Path("other/checkpoint-4")))
    for step in (5, 6):
        _checkpoint(step)
        rotation.add(step)
    assert _left() == [5, 6]


def test_the_space_a_run_needs_grows_with_what_it_keeps() -> None:
    """Each checkpoint takes four times the adapter; one more is being written."""
    assert needed_space(10**6, 2) == 13 * 10**6 + 5 * 10**6
    assert needed_space(10**6, 1) == needed_space(10**6, 2) < needed_space(10**6, 3)
