"""A question that was typed: an example without a reference, or a refusal with its place."""

from __future__ import annotations

import pytest

from finetuning_exam.data.question import make_question
from finetuning_exam.data.records import Example
from finetuning_exam.errors import DataError


def test_a_question_is_an_example_without_an_answer() -> None:
    """Its text is the instruction, and its place is where it was typed."""
    assert make_question(" Why?\n", "argument", 3) == Example(" Why?\n", "", 3, "argument")
    assert make_question("Why?").where == "question:1"


@pytest.mark.parametrize(
    ("text", "fault"),
    [("", "is empty"), (" \n\t", "is empty"), ("a\udcffb", "is not UTF-8")],
)
def test_what_is_no_question_is_refused(text: str, fault: str) -> None:
    """An empty text, and bytes of the command line that are not UTF-8."""
    with pytest.raises(DataError) as caught:
        make_question(text, "argument", 2)
    assert str(caught.value) == f"argument:2: the question {fault}."
