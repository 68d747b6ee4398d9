"""Specification of finding the exam file."""

from __future__ import annotations

from pathlib import Path

import pytest
from read_files import ALPACA, write_content

from finetuning_exam.data.reading.read import exam_file_of

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize(
    ("train", "exam"),
    [
        ("train.jsonl", "exam.jsonl"),
        ("permits_train.csv", "permits_exam.csv"),
        ("a/train-2.json", "a/exam-2.json"),
        ("train.jsonl.gz", "exam.jsonl.gz"),
        ("trainer.jsonl", None),
        ("constrain.jsonl", None),
        ("data.jsonl", None),
        ("train/data.jsonl", None),
    ],
)
def test_the_exam_file_is_known_by_its_name(train: str, exam: str | None) -> None:
    """An exam file next to the training file has its name with the word train replaced by exam."""
    for name in (
        "exam.jsonl",
        "permits_exam.csv",
        "a/exam-2.json",
        "exam.jsonl.gz",
        "examer.jsonl",
    ):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    assert exam_file_of([train], None) == exam


def test_the_exam_file_asked_for_wins() -> None:
    """`--eval_file` takes precedence, whether that file exists or not."""
    write_content(ALPACA, "exam.jsonl")
    assert exam_file_of(["train.jsonl"], "other.jsonl") == "other.jsonl"
    assert exam_file_of(["train.jsonl", "b"], "other.jsonl") == "other.jsonl"


def test_several_files_and_hub_datasets_have_no_exam_file_by_name() -> None:
    """No exam file is looked for next to several files, and a folder is not an exam file."""
    write_content(ALPACA, "exam.jsonl")
    Path("exam").mkdir()
    assert exam_file_of(["train.jsonl", "more.jsonl"], None) is None
    assert exam_file_of(["train"], None) is None
    assert exam_file_of(["hub:me/train"], None) is None
