"""Only the main process of several has side effects."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from tiny import Models, brisk, checkpoints_in, ignore, rows

from finetuning_exam import train as train_run
from finetuning_exam.data.split import Split
from finetuning_exam.errors import ModelError, UsageError
from finetuning_exam.settings import TrainSettings
from finetuning_exam.training.parallel import SINGLE_PROCESS, Process, this_process
from finetuning_exam.training.prepare import prepare
from finetuning_exam.training.run import train


def test_one_process_is_the_main_one() -> None:
    """A single process runs every effect, returns its result, and waits for no other."""
    assert this_process({}) == this_process({"WORLD_SIZE": "1"}) == SINGLE_PROCESS
    assert SINGLE_PROCESS.is_main
    assert SINGLE_PROCESS.on_main(lambda: 7) == 7


def test_the_others_wait_until_the_main_process_is_done() -> None:
    """An effect runs only in the main process, and every process then waits at the barrier."""
    seen: list[str] = []
    for rank in (0, 1):
        process = Process(rank, 2, partial(seen.append, f"{rank} waits"))
        result = process.on_main(partial(seen.append, f"{rank} writes"))
        assert result is None
    assert seen == ["0 writes", "0 waits", "1 waits"]


def test_several_processes_are_refused() -> None:
    """Starting several processes is an error that names the launcher."""
    with pytest.raises(UsageError, match="one of 4 processes") as caught:
        this_process({"WORLD_SIZE": "4", "RANK": "2"})
    assert "torchrun" in caught.value.hint


def test_another_process_writes_nothing(models: Models, tmp_path: Path) -> None:
    """A complete training in a process other than the main one leaves no file behind: no metrics,
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


def test_another_process_makes_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only the main process checks the output folder, which creates it."""
    data, out = tmp_path / "data.jsonl", tmp_path / "out"
    data.write_text('{"prompt": "Q?", "completion": "A."}\n' * 3, encoding="utf-8")
    settings = TrainSettings(
        data=(str(data),), output_dir=str(out), model_name_or_path=str(tmp_path / "missing")
    )
    for rank, is_made in ((1, False), (0, True)):
        process = Process(rank, 2)
        monkeypatch.setattr("finetuning_exam.api.train.this_process", lambda it=process: it)
        with pytest.raises(ModelError):
            train_run(settings)
        assert out.exists() == is_made
