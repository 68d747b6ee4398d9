"""Specification of `fte train` on faulty records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from checks import BAD, MISSING, SOUND, write_lines
from tiny import LEAN, Models

from finetuning_exam.cli import main

pytestmark = pytest.mark.usefixtures("folder")


def _train(models: Models, *arguments: str) -> int:
    quick = (
        "--max_steps",
        "1",
        "--device",
        "cpu",
        "--answered_examples",
        "0",
        "--lora_r",
        "2",
        *LEAN,
    )
    return main(["train", *arguments, "--model", str(models.folder()), *quick])


def test_train_does_not_start_with_faulty_records(
    models: Models, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every error is reported with its place and a hint; no output folder is created."""
    path = write_lines("d.jsonl", *SOUND, BAD, "x")
    assert _train(models, path) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.splitlines() == [
        "fte train:",
        f"d.jsonl:7: {MISSING}",
        "d.jsonl:8: not valid JSON (expected a value at column 1).",
        "Run fte check d.jsonl to see them by kind. "
        "To train without these records, add --skip_bad_rows.",
    ]
    assert not Path("output").exists()


def test_train_can_go_on_without_the_faulty_records(
    models: Models, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--skip_bad_rows` leaves them out and reports their number; the rest is trained on."""
    path = write_lines("d.jsonl", *SOUND, BAD, "x")
    assert _train(models, path, "--skip_bad_rows") == 0
    output = capsys.readouterr().out
    assert "Warning: skipped 2 records with errors." in output
    assert "Split: 6 examples to train on" in output
    run = json.loads(Path("output/run.json").read_text(encoding="utf-8"))
    assert run["data"]["n_train"] == 6


def test_train_needs_a_record(models: Models, capsys: pytest.CaptureFixture[str]) -> None:
    """If all records have errors, `--skip_bad_rows` has nothing to train on."""
    assert _train(models, write_lines("d.jsonl", BAD), "--skip_bad_rows") == 2
    assert capsys.readouterr().err == "fte train: d.jsonl: no record can be used.\n"


def test_an_exam_file_that_cannot_be_used_ends_the_run(
    models: Models, capsys: pytest.CaptureFixture[str]
) -> None:
    """If no exam record is usable, the run does not start, with `--skip_bad_rows` or without."""
    path, exam = write_lines("d.jsonl", *SOUND), write_lines("e.jsonl", BAD)
    assert _train(models, path, "--eval_file", exam, "--skip_bad_rows") == 2
    assert "e.jsonl: no record can be used." in capsys.readouterr().err
