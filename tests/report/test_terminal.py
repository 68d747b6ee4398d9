"""Specification of the exam in a terminal: narrow ones say what they leave out."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from finetuning_exam.evaluation.exam import Exam
from finetuning_exam.evaluation.results import Results
from finetuning_exam.report.terminal import exam_summary

TAGS = ("shell", "git", "docker", "kubectl", "python", "sql", "vim")


def _shown(exam: Exam, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(exam_summary(exam))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def tagged(exam: Exam, make_results: Callable[[int], Results]) -> Exam:
    """An exam with seven tags."""
    return replace(exam, by_tag=tuple((tag, make_results(30 + n)) for n, tag in enumerate(TAGS)))


@pytest.mark.parametrize("width", [40, 50, 60, 72, 80, 100, 130, 400])
def test_a_tag_has_a_column_or_is_named(tagged: Exam, width: int) -> None:
    """At any width every tag is a whole heading, or is named as left out; none is both."""
    shown = _shown(tagged, width)
    table, _, rest = shown.partition("Tags left out for lack of space: ")
    left_out = " ".join(rest.split()).partition(". ")[0].split(", ")
    columns = [tag for n, tag in enumerate(TAGS) if f"{tag} ({30 + n})" in table]
    assert columns + left_out == list(TAGS)
    assert len(columns) <= 5


def test_a_wide_terminal_has_five_tags(tagged: Exam) -> None:
    """Five tags have a column where there is room for them."""
    assert "Tags left out for lack of space: sql, vim." in _shown(tagged, 400)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_figure_is_cut(tagged: Exam, width: int) -> None:
    """A figure that is shown is shown whole, on one line, down to 60 columns."""
    assert "5.000 → 3.500" in _shown(tagged, width)
    assert "…" not in re.split("Examples", _shown(tagged, width))[0]


def test_without_tags_nothing_is_left_out(exam: Exam) -> None:
    """An exam without tags, or with a single one, has one column."""
    for by_tag in ((), exam.by_tag[:1]):
        assert "left out for lack" not in _shown(replace(exam, by_tag=by_tag), 40)
