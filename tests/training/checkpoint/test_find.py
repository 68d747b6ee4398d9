"""Checkpoints are found by step and used only if intact, and old ones are deleted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from finetuning_exam.durable import MANIFEST, write_folder
from finetuning_exam.errors import AdapterError, UsageError
from finetuning_exam.training.checkpoint.find import (
    REQUIRED_FILES,
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
    """Run every test in its own folder, so that paths in messages are short."""
    monkeypatch.chdir(tmp_path)
    OUT.mkdir()
    return tmp_path


def _checkpoint(step: int) -> Path:
    def fill(folder: Path) -> None:
        for name in REQUIRED_FILES:
            (folder / name).write_text(name)

    path = checkpoint_path(OUT, step)
    write_folder(path, fill)
    return path


def test_checkpoints_are_in_order_of_step() -> None:
    """Checkpoints are ordered by step, not by name or time, and other folders are ignored."""
    for step in (20, 100, 3):
        os.utime(_checkpoint(step), (step, 10**9 - step))
    for name in ("checkpoint-", "checkpoint-7x", "xcheckpoint-7", "checkpoint--1"):
        (OUT / name).mkdir()
    (OUT / "checkpoint-9").touch()
    assert checkpoints(OUT) == tuple((step, OUT / f"checkpoint-{step}") for step in (3, 20, 100))


def test_latest_is_the_intact_checkpoint_with_the_most_steps() -> None:
    """`latest` selects the highest step; a path selects that checkpoint."""
    for step in (20, 100, 3):
        _checkpoint(step)
    assert find_checkpoint(OUT, "latest") == CheckpointRef(OUT / "checkpoint-100")
    assert find_checkpoint(OUT, "latest").step == 100
    assert find_checkpoint(OUT, "out/checkpoint-20") == CheckpointRef(OUT / "checkpoint-20")


@pytest.mark.parametrize("name", [*REQUIRED_FILES, MANIFEST])
def test_a_damaged_checkpoint_is_named_and_passed_over(name: str) -> None:
    """`latest` falls back to the one before and gives the reason; by path, it is refused."""
    _checkpoint(20)
    (_checkpoint(100) / name).unlink()
    assert find_checkpoint(OUT, "latest") == CheckpointRef(
        OUT / "checkpoint-20", (f"out/checkpoint-100: {name} is missing",)
    )
    with pytest.raises(
        AdapterError, match=f"out/checkpoint-100: damaged checkpoint .{name} is missing"
    ):
        find_checkpoint(OUT, "out/checkpoint-100")


def test_an_incomplete_checkpoint_is_refused() -> None:
    """A checkpoint whose manifest does not list a file that resuming needs is refused."""
    write_folder(OUT / "checkpoint-1", lambda folder: (folder / "x").touch())
    with pytest.raises(AdapterError, match=r"does not list adapter_model\.safetensors"):
        find_checkpoint(OUT, "latest")


def test_checkpoints_that_are_all_damaged_are_an_error() -> None:
    """If none is intact, each is reported with its reason, and the exit code is 3."""
    for step in (3, 20):
        (_checkpoint(step) / "state.json").write_text("x")
    with pytest.raises(AdapterError) as caught:
        find_checkpoint(OUT, "latest")
    assert str(caught.value) == (
        "out: all checkpoints are damaged (out/checkpoint-20: state.json has 1 bytes, not 10; "
        "out/checkpoint-3: state.json has 1 bytes, not 10). "
        "Start over with --overwrite_output_dir."
    )
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("exists", [True, False])
def test_resuming_without_a_checkpoint_is_an_error(exists: bool) -> None:
    """`latest` without a checkpoint names the folder, whether it is empty or missing."""
    if not exists:
        OUT.rmdir()
    with pytest.raises(UsageError) as caught:
        find_checkpoint(OUT, "latest")
    assert str(caught.value) == (
        "out: no checkpoint to resume from. "
        "Remove --resume_from_checkpoint to start from the beginning."
    )


@pytest.mark.parametrize("path", ["out/checkpoint-1", "out", "file"])
def test_a_path_that_is_not_a_checkpoint_is_an_error(path: str) -> None:
    """A folder with another name, a file, and a missing path are refused."""
    Path("file").touch()
    with pytest.raises(UsageError) as caught:
        find_checkpoint(OUT, path)
    assert str(caught.value) == (
        f'{path}: not a checkpoint. Pass "latest" or a checkpoint-N folder of a run.'
    )


def _remaining_steps() -> list[int]:
    return [step for step, _ in checkpoints(OUT)]


@pytest.mark.parametrize(("keep", "left"), [(1, [8, 10]), (2, [8, 10]), (3, [6, 8, 10])])
def test_the_newest_are_kept(keep: int, left: list[int]) -> None:
    """As many as requested are kept, but at least two, and nothing else remains."""
    retention = Retention(OUT, keep)
    for step in (2, 4, 6, 8, 10):
        _checkpoint(step)
        retention.add(step)
    assert _remaining_steps() == left
    assert len(os.listdir(OUT)) == len(left)


def test_a_damaged_checkpoint_does_not_count_as_kept() -> None:
    """A checkpoint passed over when resuming does not displace the one resumed from."""
    for step in (2, 4, 6):
        _checkpoint(step)
    (OUT / "checkpoint-6" / "state.json").unlink()
    retention = Retention(OUT, 2, find_checkpoint(OUT, "latest"))
    _checkpoint(5)
    retention.add(5)
    assert _remaining_steps() == [4, 5, 6], (
        "two intact ones, and the damaged one not yet overwritten"
    )
    _checkpoint(6)
    retention.add(6)
    assert _remaining_steps() == [5, 6]


def test_a_checkpoint_elsewhere_is_not_counted() -> None:
    """A checkpoint in another folder is not counted in this one."""
    retention = Retention(OUT, 2, CheckpointRef(Path("other/checkpoint-4")))
    for step in (5, 6):
        _checkpoint(step)
        retention.add(step)
    assert _remaining_steps() == [5, 6]


def test_the_space_a_run_needs_grows_with_what_it_keeps() -> None:
    """Each checkpoint takes four times the adapter, and one more is needed while writing."""
    assert needed_space(10**6, 2) == 13 * 10**6 + 5 * 10**6
    assert needed_space(10**6, 1) == needed_space(10**6, 2) < needed_space(10**6, 3)
