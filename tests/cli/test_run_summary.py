"""What is said before the first step of time, memory, and what was changed where it is short."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console
from tiny import Models, rows, write_rows

from finetuning_exam.cli import main
from finetuning_exam.cli.run_summary import print_cost, print_memory
from finetuning_exam.run_file import read
from finetuning_exam.run_record import Cost, MicroBatches, RunRecord
from finetuning_exam.training import run
from finetuning_exam.training.cost.memory import Activations, Footprint, MemoryPlan

FOOTPRINT = Footprint(Activations(1.0, 1.0, 1.0), None, 2, 0, 0, is_cpu=True)
COST = Cost(train_seconds=110.2, exam_seconds=9.7, peak_bytes=1_913_000_000)
WANTED = MicroBatches(2048, checkpointing=False)


def _as_user_error(
    chosen: MicroBatches = WANTED,
    *,
    returns_freed: bool = False,
    fits: bool = True,
    can_stop: bool = False,
) -> list[str]:
    console = Console(file=io.StringIO(), width=60)
    plan = MemoryPlan(WANTED, chosen, FOOTPRINT, 2_400_000_000, returns_freed, fits)
    print_memory(console, plan)
    print_cost(console, COST, can_stop=can_stop)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_time_and_memory_are_one_line() -> None:
    """Where memory is enough, one line tells what the run takes."""
    assert _as_user_error() == ["About 1 min 50 s of training and 10 s of exam, 1.9 GB of memory"]


def test_a_run_that_may_stop_says_so() -> None:
    """With early stopping the time is that of all steps."""
    assert _as_user_error(can_stop=True) == [
        "About 1 min 50 s of training and 10 s of exam (without early stopping), 1.9 GB of memory"
    ]


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        (MicroBatches(512, checkpointing=False), "512 tokens"),
        (MicroBatches(512, checkpointing=True), "512 tokens and gradient checkpointing"),
        (MicroBatches(2048, checkpointing=True), "2,048 tokens and gradient checkpointing"),
    ],
)
def test_what_short_memory_changed_is_said(chosen: MicroBatches, words: str) -> None:
    """What departs from the default is told with the memory that is free."""
    told = f"2.4 GB of memory are free: micro-batches of at most {words}"
    slower = "what is freed goes back to the system at once, which takes longer"
    assert _as_user_error(chosen)[0] == told
    assert _as_user_error(chosen, returns_freed=True)[0] == f"{told}; {slower}"
    assert _as_user_error(returns_freed=True)[0] == f"2.4 GB of memory are free: {slower}"


def test_what_does_not_fit_is_a_warning() -> None:
    """Where nothing fits, the run begins with a warning and the way out."""
    assert _as_user_error(MicroBatches(512, checkpointing=True), fits=False)[1] == (
        "Warning: the longest rows may need more memory than the 2.4 GB that are free. "
        "Lower --max_length, --eval_batch_size or --per_device_train_batch_size."
    )


def test_a_resumed_run_keeps_the_micro_batches_it_began_with(
    models: Models,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A run that began where memory was short goes on as it began where memory is plenty, with an
    estimate of the rest; a run of its own there takes the default.
    """
    data = write_rows(tmp_path / "rows.jsonl", rows(24))
    out = tmp_path / "out"
    flags = ["train", str(data), "--model", str(models.folder()), "--output_dir", str(out)]
    flags += [
        "--device",
        "cpu",
        "--max_steps",
        "4",
        "--save_steps",
        "2",
        "--answered_examples",
        "2",
    ]
    records: list[RunRecord] = []

    def train(free: int, *more: str) -> str:
        monkeypatch.setattr(run, "free_memory", lambda device: free)
        assert main([*flags, *more]) == 0
        finished = read(out)
        record = finished.record() if finished else None
        assert record is not None
        records.append(record)
        return capsys.readouterr().out

    assert "Warning: the longest rows may need more memory than the 0 MB" in train(9)
    shutil.rmtree(out / "checkpoint-4")
    resumed = train(10**12, "--resume_from_checkpoint", "latest")
    assert "resuming from" in resumed
    assert "Warning: the longest" not in resumed
    train(10**12)
    chosen = [it.plan.micro_batches for it in records]
    assert chosen[0] == chosen[1]
    assert chosen[0].checkpointing
    assert chosen[2] == WANTED
    assert all(it.predicted and it.predicted.peak_bytes > 0 for it in records)
