"""Rows of finished folds are read back exactly, and concluded together."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetuning_exam.data.records import Example, Turn
from finetuning_exam.evaluation import exam as exam_module
from finetuning_exam.evaluation.exam_plan import ExamPlan
from finetuning_exam.evaluation.folds import ExaminedFold, conclude_folds, read_rows, write_rows
from finetuning_exam.evaluation.results import ExamRow
from finetuning_exam.evaluation.stats import Interval, PairedDifference
from finetuning_exam.model.generation.generate import Answer
from finetuning_exam.model.score import Score
from finetuning_exam.model.session import Session

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCORES = st.builds(
    Score, st.floats(0, 1e6, allow_nan=False), st.integers(1, 999), st.integers(1, 999)
)
ANSWERS = st.none() | st.builds(Answer, TEXT, st.booleans())
EXAMPLES = st.builds(
    Example,
    TEXT,
    TEXT,
    st.integers(1, 99),
    st.just("d.jsonl"),
    TEXT,
    TEXT,
    TEXT,
    st.lists(st.builds(Turn, st.sampled_from(["user", "assistant"]), TEXT), max_size=2).map(tuple),
    st.integers(0, 9),
)
ROWS = st.builds(
    ExamRow,
    EXAMPLES,
    SCORES,
    SCORES,
    ANSWERS,
    ANSWERS,
    st.none() | st.booleans(),
    st.none() | st.booleans(),
    st.integers(2, 20),
    st.lists(TEXT, max_size=3).map(tuple),
    st.none() | TEXT,
    st.none() | TEXT,
)


@given(rows=st.lists(ROWS, min_size=1, max_size=4))
def test_rows_are_read_back_exactly(rows: list[ExamRow]) -> None:
    """Every text and every float is the one that was written; the examples are the ones given."""
    moved = [replace(row.example, path="elsewhere/d.jsonl") for row in rows]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        write_rows(path, rows)
        found = read_rows(path, moved)
    assert found == tuple(
        replace(row, example=example) for row, example in zip(rows, moved, strict=True)
    )


def _row(number: int, change: float = -1.0) -> ExamRow:
    return ExamRow(
        Example(f"Question {number}?", f"Answer {number}.", number, "d.jsonl"),
        Score(10.0, 4, 9),
        Score(10.0 + 4 * change, 4, 9),
    )


def test_a_score_that_is_no_number_is_read_back(tmp_path: Path) -> None:
    """A model that computes NaN does not cost the fold."""
    row = replace(_row(1), tuned_score=Score(math.nan, 4, 9))
    write_rows(tmp_path / "rows.json", [row])
    found = read_rows(tmp_path / "rows.json", [row.example])
    assert found is not None
    assert math.isnan(found[0].tuned_score.nll)


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "[]",
        "{}",
        '{"rows": [',
        '{"rows": [{"example": {}}]}',
        '{"rows": 3}',
        '{"rows": []}',
    ],
    ids=str,
)
def test_damaged_rows_are_none(tmp_path: Path, content: str | None) -> None:
    """A missing, truncated or incomplete file counts as no exam."""
    path = tmp_path / "rows.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    assert read_rows(path, [_row(1).example]) is None


def test_rows_of_other_examples_are_none(tmp_path: Path) -> None:
    """Rows are only taken for the examples that they are of, in their order."""
    path = tmp_path / "rows.json"
    write_rows(path, [_row(1), _row(2)])
    one, two = _row(1).example, _row(2).example
    assert read_rows(path, [one, two]) is not None
    for others in ([two, one], [one], [one, two, two], [one, replace(two, answer="Other.")]):
        assert read_rows(path, others) is None
    content = json.loads(path.read_text(encoding="utf-8"))
    content["rows"][0]["example"]["line"] = 7
    path.write_text(json.dumps(content), encoding="utf-8")
    assert read_rows(path, [one, two]) is None


def test_folds_are_concluded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are in the order of the file, whatever the folds, and every row counts once."""
    forgetting = PairedDifference(3.0, 3.1, Interval(0.05, 0.15))
    monkeypatch.setattr(exam_module, "_general", lambda session, plan: (forgetting, None))
    rows = [_row(number, -1.0 - number / 100) for number in range(1, 31)]
    order = [row.example for row in rows]
    plan = ExamPlan(1, 16, 200, None, 512, is_held_out=False, general=(), known=tuple(order))
    examined = [ExaminedFold(20, tuple(rows[start::3])) for start in range(3)]
    exam = conclude_folds(cast(Session, None), plan, examined, order)
    assert [row.example for row in exam.rows] == order
    assert (exam.verdict, exam.is_held_out) == ("improved", True)
    assert exam.overall.n_clusters == 30
    assert exam.forgetting is forgetting
    assert [(fold.n_train, fold.n_exam) for fold in exam.folds] == [(20, 10)] * 3
    tuned = [fold.nll_per_token.tuned for fold in exam.folds]
    assert tuned == pytest.approx([1.355, 1.345, 1.335])
    again = conclude_folds(cast(Session, None), plan, examined[::-1], order)
    assert repr((again.overall, again.rows)) == repr((exam.overall, exam.rows))  # NaN is not NaN
