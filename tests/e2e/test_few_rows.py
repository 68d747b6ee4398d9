"""Files of one or a few rows run to the end, and say what they cannot tell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fault_commands import Said
from tiny import LEAN, Models, rows, write_rows

from finetuning_exam.data.records import Example

QUICK = ("--device", "cpu", "--answered_examples", "1", "--max_new_tokens", "4", *LEAN)
SAME = rows(1) * 24


@pytest.fixture
def said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Said:
    """An object that runs commands in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Said(capsys)


@pytest.mark.parametrize(
    ("examples", "flags", "planned", "held_out"),
    [
        (rows(1), ("--max_steps", "4"), "4 steps of 1 row (4 epochs)", "1 different question in 1"),
        (
            rows(2),
            ("--max_steps", "4", "--eval_fraction", "0.4"),
            "4 steps of 2 rows (4 epochs)",
            "2 different questions in 2 rows",
        ),
        (rows(2), ("--num_train_epochs", "0.1"), "1 step of 2 rows", "2 different questions in 2"),
        (rows(3), ("--num_train_epochs", "0.01"), "1 step of 3 rows", "3 different questions in 3"),
        (
            rows(2),
            ("--max_steps", "2", "--gradient_accumulation_steps", "64"),
            "2 steps of 2 rows (2 epochs)",
            "2 different questions in 2 rows",
        ),
        (SAME, ("--max_steps", "2"), "2 steps of 16 rows", "1 different question in 24 rows"),
    ],
    ids=["one", "two", "0.1 epochs", "0.01 epochs", "64 passes", "24 times the same"],
)
def test_few_rows_run_to_the_end(
    said: Said,
    models: Models,
    examples: tuple[Example, ...],
    flags: tuple[str, ...],
    planned: str,
    held_out: str,
) -> None:
    """A run of a few rows takes at least one step of the rows there are, says that nothing is held
    out and how few questions there are, and ends with "too few examples to tell".
    """
    path = str(write_rows(Path("rows.jsonl"), examples))
    assert said.fte("train", path, "--model", str(models.folder()), *QUICK, *flags) == 0
    text = " ".join(said.out.split())
    assert planned in text
    assert f"Warning: nothing is held out ({held_out}" in text
    assert "Verdict: too few examples to tell" in text
    assert "No validation rows" in text
    run = json.loads(Path("output/run.json").read_text(encoding="utf-8"))
    assert run["result"]["steps"] >= 1


@pytest.mark.parametrize("fast_path", ["all", "none"])
def test_accumulation_over_more_rows_than_there_are_changes_nothing(
    said: Said, models: Models, fast_path: str
) -> None:
    """A step of 64 passes over two rows is the step of one pass over both."""
    path = str(write_rows(Path("rows.jsonl"), rows(2)))
    found = []
    for passes in ("1", "64"):
        out = f"out-{passes}"
        flags = ("--gradient_accumulation_steps", passes, "--per_device_train_batch_size", "2")
        one = ("--output_dir", out, "--max_steps", "2", "--logging_steps", "1")
        model = ("--model", str(models.folder()), "--fast_path", fast_path, "--dtype", "float32")
        assert said.fte("train", path, *model, *QUICK, *flags, *one) == 0
        lines = (Path(out) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        found.append([(row["loss"], row["grad_norm"]) for row in map(json.loads, lines)])
    assert len(found[0]) == 2
    for (loss, norm), (other_loss, other_norm) in zip(*found, strict=True):
        assert other_loss == pytest.approx(loss, rel=1e-5)
        assert other_norm == pytest.approx(norm, rel=1e-4)
