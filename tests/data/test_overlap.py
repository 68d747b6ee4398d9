"""Specification of the exam's rows that were taught, and that they are left out."""

from __future__ import annotations

from dataclasses import replace

from drawn_rows import FRACTIONS, SEEDS, drawn_files, lines_of, numbered_rows, unhurried
from hypothesis import given

from finetuning_exam.data.records import Example
from finetuning_exam.data.split import overlap, split_examples


def test_overlap_finds_groups_that_were_taught() -> None:
    """A row whose group stands in the training rows is taught, whatever it asks; having no group
    is no group.
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


def test_overlap_finds_questions_that_were_taught() -> None:
    """`overlap` gives the exam's rows whose question stands in the training rows."""
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
    """What is held out of a file shares neither question nor group with what trains."""
    split = split_examples(rows, None, 0.2, seed)
    if not split.exam_is_training:
        assert overlap(split.exam, split.train) == ()
        assert overlap(split.exam, split.validation) == ()


@unhurried
@given(rows=drawn_files(), fraction=FRACTIONS, seed=SEEDS)
def test_taught_questions_are_left_out_of_an_exam_file(
    rows: tuple[Example, ...], fraction: float, seed: int
) -> None:
    """Rows of an exam file whose question stands in the training file do not sit the exam,
    whichever part of the training file they are in.
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


def test_an_exam_file_of_taught_questions_is_the_training() -> None:
    """Where every question was taught the exam is of training rows, and says so."""
    rows = numbered_rows(50)
    split = split_examples(rows, rows[3:9], 0.1, 0)
    assert split.exam == rows[3:9]
    assert split.exam_is_training
    assert split.taught == ()
