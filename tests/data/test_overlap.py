"""Specification of exam examples that are also trained on, and that they are left out."""

from __future__ import annotations

from dataclasses import replace

from drawn_rows import FRACTIONS, SEEDS, drawn_files, lines_of, numbered_rows, unhurried
from hypothesis import given

from finetuning_exam.data.records import Example
from finetuning_exam.data.split import overlap, split_examples


def test_overlap_finds_trained_groups() -> None:
    """An example whose group is in the training data overlaps, whatever its question; an absent
    group does not count.
    """
    train = (Example("p", "a", 1, "d", group="g"), Example("q", "a", 2, "d"))
    exam = tuple(
        Example(f"new {line}", "a", line, "e", group=group)
        for line, group in enumerate(["g", "", "h", "G"], start=1)
    )
    assert lines_of(overlap(exam, train)) == [1]
    split = split_examples(train, exam, 0.1, 42)
    assert (lines_of(split.exam), lines_of(split.taught)) == ([2, 3, 4], [1])
    assert split_examples(train, exam[:1], 0.1, 42).exam_is_training


def test_overlap_finds_trained_questions() -> None:
    """`overlap` returns the exam examples whose question is in the training data."""
    exam = (
        Example("What is ls?", "x", 1, "e.jsonl"),
        Example("What is cd?", "x", 2, "e.jsonl"),
        Example("Sort", "x", 3, "e.jsonl", input="b a"),
    )
    train = (
        Example("what is  ls", "another answer", 1, "d.jsonl"),
        Example("Sort", "x", 2, "d.jsonl", input="c b"),
    )
    assert lines_of(overlap(exam, train)) == [1]
    assert overlap(exam, ()) == ()


@unhurried
@given(rows=drawn_files(least=20), seed=SEEDS)
def test_a_split_never_overlaps_itself(rows: tuple[Example, ...], seed: int) -> None:
    """The held-out examples of a file share neither question nor group with the training part."""
    split = split_examples(rows, None, 0.2, seed)
    if not split.exam_is_training:
        assert overlap(split.exam, split.train) == ()
        assert overlap(split.exam, split.validation) == ()


@unhurried
@given(rows=drawn_files(), fraction=FRACTIONS, seed=SEEDS)
def test_trained_questions_are_left_out_of_an_exam_file(
    rows: tuple[Example, ...], fraction: float, seed: int
) -> None:
    """Examples of an exam file whose question is in the training file are not in the exam,
    whichever part of the training file has it.
    """
    new = tuple(Example(f"new {line}", "a", line, "e.jsonl") for line in (1, 2))
    taught = tuple(
        replace(row, instruction=f" {row.instruction.capitalize()}\n", path="e.jsonl")
        for row in rows
    )
    split = split_examples(rows, (new[0], *taught, new[1]), fraction, seed)
    assert split.exam == new
    assert split.taught == taught
    assert not split.exam_is_training


def test_an_exam_file_of_trained_questions_is_the_training() -> None:
    """If every question is trained on, the exam asks training examples, and the split says so."""
    rows = numbered_rows(50)
    split = split_examples(rows, rows[3:9], 0.1, 0)
    assert split.exam == rows[3:9]
    assert split.exam_is_training
    assert split.taught == ()
