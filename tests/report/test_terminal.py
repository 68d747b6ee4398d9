"""Specification of the exam in a terminal: narrow ones say what they leave out."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from finetuning_exam.evaluation.exam import Exam, FoldFigures
from finetuning_exam.evaluation.results import Pair, Results
from finetuning_exam.evaluation.stats import Interval, PairedDifference
from finetuning_exam.report.headline import folds_words
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


def test_a_cross_validation_is_explained_below_the_headline(exam: Exam) -> None:
    """The saved adapter was not examined: that comes before any figure, at any width."""
    folds = (FoldFigures(24, 6, Pair(5.0, 3.5)), FoldFigures(25, 5, Pair(4.0, 4.25)))
    crossed = replace(exam, folds=folds)
    for width in (40, 80, 200):
        shown = " ".join(_shown(crossed, width).split())
        assert folds_words(crossed) in shown.partition("Exam: 40 examples")[0]
        assert "Forgetting (saved adapter): no measurable change" in shown
    assert "Forgetting: no measurable change" in _shown(exam, 80)
    assert "Cross-validation" not in _shown(exam, 80)


def test_a_question_is_shown_with_its_input(exam: Exam) -> None:
    """Without their input, two questions could look the same."""
    row = exam.rows[0]
    asked = replace(row, example=replace(row.example, instruction="Translate.", input="Haus"))
    assert "Translate." in _shown(replace(exam, rows=(asked,)), 200)
    assert "Haus" in _shown(replace(exam, rows=(asked,)), 200)


def test_a_figure_without_a_value_is_a_dash(exam: Exam) -> None:
    """No figure is shown as nan."""
    nothing = PairedDifference(5.0, math.nan, Interval(math.nan, math.nan))
    shown = _shown(replace(exam, overall=replace(exam.overall, nll_per_token=nothing)), 200)
    assert "5.000 → –" in shown
    assert "nan" not in shown
