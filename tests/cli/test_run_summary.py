"""The summary before the first step: time, memory, and what was changed to save memory."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console
from tiny import Models, rows, write_rows

from finetuning_exam.api.events import DataRead
from finetuning_exam.cli import main
from finetuning_exam.cli.run_summary import print_cost, print_memory, print_used
from finetuning_exam.data.check import Check
from finetuning_exam.data.reading.read import Records
from finetuning_exam.data.split import Split
from finetuning_exam.evaluation.outlook import ExamOutlook
from finetuning_exam.run_file import read
from finetuning_exam.run_record import Cost, MicroBatches, RunRecord
from finetuning_exam.training import prepare
from finetuning_exam.training.cost.footprint import Activations, Footprint
from finetuning_exam.training.cost.memory import MemoryPlan

FOOTPRINT = Footprint(Activations(1.0, 1.0, 1.0), None, 2, 0, 0, is_cpu=True)
COST = Cost(train_seconds=110.2, exam_seconds=9.7, peak_bytes=1_913_000_000)
DEFAULT = MicroBatches(2048, checkpointing=False)


def _summary(
    chosen: MicroBatches = DEFAULT,
    *,
    returns_freed_memory: bool = False,
    fits: bool = True,
    can_stop: bool = False,
) -> list[str]:
    console = Console(file=io.StringIO(), width=60)
    plan = MemoryPlan(DEFAULT, chosen, FOOTPRINT, 2_400_000_000, returns_freed_memory, fits)
    print_memory(console, plan)
    print_cost(console, COST, can_stop=can_stop)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_time_and_memory_are_one_line() -> None:
    """With enough memory, the prediction is a single line."""
    assert _summary() == ["Estimated: 1 min 50 s of training, 10 s of exam, 1.9 GB of memory"]


def test_an_estimate_mentions_early_stopping() -> None:
    """If the run may stop early, the estimate says that it is for all steps."""
    assert _summary(can_stop=True) == [
        "Estimated: 1 min 50 s of training, 10 s of exam, 1.9 GB of memory (without early stopping)"
    ]


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        (MicroBatches(512, checkpointing=False), "512 tokens"),
        (MicroBatches(512, checkpointing=True), "512 tokens, gradient checkpointing"),
        (MicroBatches(2048, checkpointing=True), "2,048 tokens, gradient checkpointing"),
    ],
)
def test_changes_to_save_memory_are_reported(chosen: MicroBatches, words: str) -> None:
    """Every departure from the defaults is reported with the free memory."""
    line = f"Limited memory (2.4 GB free): micro-batches of at most {words}"
    slower = "freed memory is returned to the system at once (slower)"
    assert _summary(chosen)[0] == line
    assert _summary(chosen, returns_freed_memory=True)[0] == f"{line}, {slower}"
    assert _summary(returns_freed_memory=True)[0] == f"Limited memory (2.4 GB free): {slower}"


def test_rows_that_may_not_fit_are_a_warning() -> None:
    """If nothing fits, the run starts with a warning and a hint."""
    assert _summary(MicroBatches(512, checkpointing=True), fits=False)[1] == (
        "Warning: the longest rows may need more than the 2.4 GB of free memory. "
        "Lower --max_length, --eval_batch_size or --per_device_train_batch_size."
    )


def test_a_resumed_run_keeps_its_micro_batches(
    models: Models,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A run that started with little memory keeps its micro-batches when it is resumed with plenty,
    and the rest is estimated; a new run with plenty of memory uses the default.
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
        monkeypatch.setattr(prepare, "free_memory", lambda device: free)
        assert main([*flags, *more]) == 0
        finished = read(out)
        record = finished.record() if finished else None
        assert record is not None
        records.append(record)
        return capsys.readouterr().out

    assert "Warning: the longest rows may need more than the 0 MB of free memory" in train(9)
    shutil.rmtree(out / "checkpoint-4")
    resumed = train(10**12, "--resume_from_checkpoint", "latest")
    assert "Resuming from" in resumed
    assert "Warning: the longest" not in resumed
    train(10**12)
    chosen = [it.plan.micro_batches for it in records]
    assert chosen[0] == chosen[1]
    assert chosen[0].checkpointing
    assert chosen[2] == DEFAULT
    assert all(it.predicted and it.predicted.peak_bytes > 0 for it in records)


def test_the_split_is_shown_again_if_rows_were_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Rows that could not be used are counted once each, and the parts are those really used."""
    console, all_rows = Console(width=200), rows(30)
    split = Split(all_rows[:20], all_rows[20:25], all_rows[25:])
    check = Check(Records((), all_rows, ()), None, (), ())
    read = DataRead(check, split, ExamOutlook(5, 5, can_tell=False))
    print_used(console, read, split)
    assert capsys.readouterr().out == ""
    print_used(console, read, Split(all_rows[2:20], all_rows[20:24], all_rows[25:]))
    assert capsys.readouterr().out == (
        "Left out 3 examples. Split: 18 examples to train on, 4 to choose the best step, "
        "5 for the exam (held out from the same data).\n"
    )


@pytest.mark.parametrize(("n", "batch"), [(11, 11), (16, 16), (19, 16)])
def test_a_step_has_the_rows_that_there_are(
    models: Models, tmp_path: Path, capsys: pytest.CaptureFixture[str], n: int, batch: int
) -> None:
    """With fewer rows than a batch holds, check and train name those that there are."""
    data, model = str(write_rows(tmp_path / "d.jsonl", rows(n))), str(models.folder())
    assert main(["check", data, "--model", model]) == 0
    assert f" of {batch} rows." in capsys.readouterr().out
    quick = ["--max_steps", "1", "--answered_examples", "0", "--device", "cpu", "--lora_r", "2"]
    output = str(tmp_path / "out")
    assert main(["train", data, "--model", model, "--output_dir", output, *quick]) == 0
    shown = capsys.readouterr().out
    assert f"1 step of {batch} rows (" in shown
    assert f"Split: {n} examples to train on, 0 to choose the best step, {n} for" in shown
