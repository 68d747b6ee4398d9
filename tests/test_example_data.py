"""Specification of the example data: train.jsonl and exam.jsonl at the root."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from finetuning_exam.data.reading.read import read_sound_records
from finetuning_exam.data.records import Example
from finetuning_exam.data.split import overlap
from finetuning_exam.settings import FieldSettings

ROOT = Path(__file__).parents[1]
TOPICS = {"shell", "git", "docker", "kubectl"}


def _examples(name: str) -> tuple[Example, ...]:
    return read_sound_records([str(ROOT / name)], FieldSettings()).examples


def test_the_training_file_is_large_enough() -> None:
    """At least 600 records on at least 200 facts, each of one of the four topics."""
    train = _examples("train.jsonl")
    assert len(train) >= 600
    assert len({example.answer for example in train}) >= 200
    assert {example.tag for example in train} == TOPICS


def test_every_fact_is_taught_in_several_wordings() -> None:
    """No question occurs twice; every answer has at least three questions, all of one topic."""
    train = _examples("train.jsonl")
    assert len({example.instruction.casefold() for example in train}) == len(train)
    assert min(Counter(example.answer for example in train).values()) >= 3
    topics = {(example.answer, example.tag) for example in train}
    assert len(topics) == len({answer for answer, _ in topics})


def test_the_exam_is_of_new_wordings_and_untaught_commands() -> None:
    """Of at least 100 questions none is taught; `reworded` answers are taught, `unseen` are not."""
    train, exam = _examples("train.jsonl"), _examples("exam.jsonl")
    assert len(exam) >= 100
    assert overlap(exam, train) == ()
    taught = {example.answer for example in train}
    assert {example.tag for example in exam} == {"reworded", "unseen"}
    assert all((example.answer in taught) == (example.tag == "reworded") for example in exam)
