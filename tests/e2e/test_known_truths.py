"""Trainings whose outcome is known beforehand, on the built-in base: the exam has to say so."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from finetuning_exam.cli import main

ROOT = Path(__file__).parents[2]
TRAIN, EXAM = ROOT / "train.jsonl", ROOT / "exam.jsonl"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def _lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _write(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _run(out: Path, train: Path, exam: Path, *flags: str) -> tuple[dict[str, Any], str]:
    """The exam and the report of a training."""
    shown = ("--max_new_tokens", "40")
    arguments = ["train", str(train), "--eval_file", str(exam), "--output_dir", str(out)]
    assert main([*arguments, *shown, *flags]) == 0
    exam_json = json.loads((out / "exam.json").read_text(encoding="utf-8"))
    report = (out / "report.html").read_text(encoding="utf-8")
    return exam_json, report


def _reworded(folder: Path) -> Path:
    return _write(folder / "held.jsonl", [it for it in _lines(EXAM) if it["tag"] == "reworded"])


def test_a_good_training_is_improved(tmp_path: Path) -> None:
    """The example data, by the default recipe, teaches facts: held-out wordings are answered, and
    right ones are chosen.
    """
    exam, report = _run(tmp_path / "out", TRAIN, _reworded(tmp_path))
    assert exam["verdict"] == "improved"
    choice = exam["choice_accuracy"]
    assert choice["tuned"] > choice["base"]
    assert choice["p_value"] < 0.001
    assert exam["exact_match"]["tuned"] > 0.5
    assert "the form, not the answers" not in report


def test_shuffled_answers_teach_the_form_only(tmp_path: Path) -> None:
    """Every answer belongs to another question: the loss may fall, the choices do not rise, and
    the headline says that the form was learned, not the answers.
    """
    rows = _lines(TRAIN)
    answers = [row["output"] for row in rows]
    random.Random(0).shuffle(answers)
    shuffled = [{**row, "output": answer} for row, answer in zip(rows, answers, strict=True)]
    exam, report = _run(
        tmp_path / "out",
        _write(tmp_path / "shuffled.jsonl", shuffled),
        _reworded(tmp_path),
        *("--num_train_epochs", "2", "--learning_rate", "1e-3"),
    )
    assert exam["nll_per_token"]["difference"] < 0
    choice = exam["choice_accuracy"]
    assert choice["tuned"] <= choice["base"] or choice["p_value"] >= 0.05
    assert exam["verdict"] == "improved"
    assert "it learned the form, not the answers" in report


def test_training_on_the_exam_is_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An adapter of the exam's own rows gets no verdict, in the training and in a later exam."""
    held = _reworded(tmp_path)
    out = tmp_path / "out"
    exam, report = _run(
        out, _write(tmp_path / "same.jsonl", _lines(held)), held, "--num_train_epochs", "3"
    )
    assert exam["verdict"] == "too few examples to tell"
    assert "rows that were trained on" in report
    assert main(["exam", str(held), "--adapter", str(out), "--answered_examples", "0"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "also in the training file" in said
    assert "Verdict: too few examples to tell" in said


def test_over_training_forgets(tmp_path: Path) -> None:
    """Twenty passes over sixty rows at a high rate cost the base what it knew, and that is in the
    headline whatever the verdict.
    """
    few = _write(tmp_path / "few.jsonl", _lines(TRAIN)[:60])
    exam, report = _run(
        tmp_path / "out",
        few,
        _reworded(tmp_path),
        *("--num_train_epochs", "20", "--learning_rate", "1e-2", "--eval_fraction", "0"),
    )
    assert exam["forgetting"]["ci_low"] > 0.5
    assert "but it forgot" in report
    assert "General text became less likely" in report
