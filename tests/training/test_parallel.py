"""Specification of the rule of several processes: only the main one touches the outside world."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import Models, brisk, checkpoints_in, ignore, rows

from finetuning_exam.data.split import Split
from finetuning_exam.errors import UsageError
from finetuning_exam.training.parallel import ALONE, Process, this_process
from finetuning_exam.training.run import prepare, train


def test_one_process_is_the_main_one() -> None:
    """Alone, every effect happens, its result comes back, and nobody is waited for."""
    assert this_process({}) == this_process({"WORLD_SIZE": "1"}) == ALONE
    assert ALONE.is_main
    assert ALONE.on_main(lambda: 7) == 7


def test_the_others_wait_until_the_main_process_is_done() -> None:
    """An effect happens in the main process alone, and every process then meets the others."""
    seen: list[str] = []
    for rank in (0, 1):
        process = Process(rank, 2, lambda rank=rank: seen.append(f"{rank} waits"))
        result = process.on_main(lambda rank=rank: seen.append(f"{rank} writes"))
        assert result is None
    assert seen == ["0 writes", "0 waits", "1 waits"]


def test_several_processes_are_refused() -> None:
    """A launcher that starts several is told that a run trains in one."""
    with pytest.raises(UsageError, match="one of 4 processes") as caught:
        this_process({"WORLD_SIZE": "4", "RANK": "2"})
    assert "torchrun" in caught.value.hint


def test_another_process_writes_nothing(models: Models, tmp_path: Path) -> None:
    """A whole training in a process that is not the main one leaves no file behind: no metrics,
    no checkpoint, no adapter.
    """
    settings = brisk(models.folder(), output_dir=str(tmp_path), save_steps=2)
    prepared = prepare(settings, Split(rows(8), rows(2), ()))
    waits: list[None] = []
    process = Process(1, 2, lambda: waits.append(None))
    result = train(prepared, checkpoints_in(tmp_path, process=process), ignore)
    assert result.steps == 4
    assert list(tmp_path.iterdir()) == []
    assert len(waits) > 6
