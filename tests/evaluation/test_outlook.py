"""Before the training: whether the exam can have a verdict at all, and what would help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from finetuning_exam.data.check import Check, split_checked
from finetuning_exam.data.folds import fold_splits
from finetuning_exam.data.reading.read import Records
from finetuning_exam.data.records import Example
from finetuning_exam.evaluation.outlook import (
    FEWEST_IN_FOLDS,
    ExamOutlook,
    exam_outlook,
    pooled_outlook,
)
from finetuning_exam.evaluation.stats import MIN_EXAMPLES_FOR_INTERVAL, paired_difference
from finetuning_exam.evaluation.verdict import FOLDS_LEVEL, verdict


def _facts(n: int, start: int = 0) -> tuple[Example, ...]:
    return tuple(Example(f"What is {i}?", f"It is {i}.", i, "d") for i in range(start, start + n))


def _classes(n: int, n_labels: int) -> tuple[Example, ...]:
    return tuple(Example(f"Which is {i}?", f"label {i % n_labels}", i, "d") for i in range(n))


def _outlook(
    examples: Sequence[Example], fraction: float = 0.1, exam: Sequence[Example] = ()
) -> ExamOutlook:
    file = Records((), tuple(exam), ()) if exam else None
    check = Check(Records((), tuple(examples), ()), file, (), ())
    return exam_outlook(check, split_checked(check, fraction, 42), fraction, 42)


@pytest.mark.parametrize("n", range(1, 9))
def test_the_fewest_pieces_are_those_of_the_verdict(n: int) -> None:
    """A unanimous exam gets a verdict from exactly the size from which the outlook promises one."""
    found = paired_difference([2.0] * n, [1.0 + 0.01 * i for i in range(n)], [1] * n, seed=0)
    can_tell = verdict(found, n) == "improved"
    assert can_tell == (n >= MIN_EXAMPLES_FOR_INTERVAL)
    assert _outlook(_facts(40), exam=_facts(n, 100)).can_tell == can_tell


@pytest.mark.parametrize(
    ("n_rows", "n_exam", "can_tell", "fraction"),
    [
        pytest.param(12, 12, False, None, id="nothing is held out"),
        pytest.param(20, 2, False, 0.3, id="20 rows"),
        pytest.param(40, 4, False, 0.15, id="40 rows"),
        pytest.param(50, 5, False, 0.15, id="50 rows"),
        pytest.param(51, 6, True, None, id="51 rows"),
        pytest.param(600, 60, True, None, id="600 rows"),
    ],
)
def test_the_share_that_would_help_is_found(
    n_rows: int, n_exam: int, can_tell: bool, fraction: float | None
) -> None:
    """Of a small file, the smallest share is named with which a verdict is possible."""
    found = _outlook(_facts(n_rows))
    assert replace(found, folds=None) == ExamOutlook(n_exam, n_exam, can_tell, fraction)


@pytest.mark.parametrize("n_rows", [30, 45, 50])
def test_the_share_that_is_named_helps(n_rows: int) -> None:
    """With the named share the outlook is better."""
    found = _outlook(_facts(n_rows))
    assert found.fraction is not None
    assert _outlook(_facts(n_rows), found.fraction).can_tell


def test_a_share_of_nothing_is_too_little() -> None:
    """Without any share the exam uses the training rows; a share is named."""
    found = _outlook(_facts(100), 0.0)
    assert not found.can_tell
    assert found.fraction == 0.15


def test_pieces_count_rather_than_rows() -> None:
    """A hundred rows of four groups have an exam of a piece or two, and no share helps."""
    rows = tuple(Example(f"q{i}", f"a{i}", i, "d", group=f"g{i % 4}") for i in range(100))
    found = _outlook(rows)
    assert found.n_clusters <= 4
    assert not found.can_tell
    assert found.fraction is None


@pytest.mark.parametrize(
    ("rows", "folds"),
    [
        pytest.param(_facts(5), None, id="5 facts"),
        pytest.param(_facts(7), None, id="7 facts"),
        pytest.param(_facts(8), 5, id="8 facts"),
        pytest.param(_facts(50), 5, id="50 facts"),
        pytest.param(_facts(51), None, id="the exam is large enough"),
        pytest.param(tuple(_facts(1) * 40), None, id="one question"),
        pytest.param(
            tuple(replace(it, group=f"g{it.line % 4}") for it in _facts(40)), None, id="4 groups"
        ),
        pytest.param(
            tuple(replace(it, group=f"g{it.line % 8}") for it in _facts(40)), 5, id="8 groups"
        ),
        pytest.param(
            tuple(replace(it, answer="Yes.") for it in _facts(4)), None, id="wordings of one fact"
        ),
        pytest.param(_classes(12, 2), 5, id="12 labels"),
    ],
)
def test_folds_are_offered_where_they_help(rows: tuple[Example, ...], folds: int | None) -> None:
    """Where the exam cannot tell but the rows of all folds together can, `--folds 5` would help."""
    assert _outlook(rows).folds == folds
    assert not _outlook(rows).can_tell or folds is None
    if folds:
        fold_splits(rows, folds, 0.1, 42)  # which does not refuse them
        assert pooled_outlook(rows).can_tell


@pytest.mark.parametrize("n", range(1, 12))
def test_the_fewest_pieces_are_those_of_a_cross_validations_verdict(n: int) -> None:
    """A unanimous cross-validation has a verdict from exactly the size that the outlook names."""
    found = paired_difference([2.0] * n, [1.0 + 0.01 * i for i in range(n)], [1] * n, seed=0)
    can_tell = verdict(found, n, level=FOLDS_LEVEL) == "improved"
    assert can_tell == (n >= FEWEST_IN_FOLDS)
    assert pooled_outlook(_facts(n)).can_tell == can_tell


def test_folds_need_groups_apart() -> None:
    """Rows that are nearly the same stay together: four bundles of them are not five folds."""
    rows = _facts(40)
    links = tuple((index % 4, index) for index in range(4, 40))
    check = Check(Records((), rows, ()), None, (), links)
    split = split_checked(check, 0.1, 42)
    assert exam_outlook(check, split, 0.1, 42).folds is None


def test_an_exam_file_has_no_share() -> None:
    """The size of an exam file does not depend on a share."""
    assert _outlook(_facts(40), exam=_facts(3, 100)) == ExamOutlook(3, 3, can_tell=False)


@pytest.mark.parametrize(
    ("n_exam", "n_labels", "can_tell"),
    [(7, 2, False), (8, 2, True), (6, 3, True), (6, 4, True), (8, 4, True)],
)
def test_labels_need_enough_to_rule_out_guesses(n_exam: int, n_labels: int, can_tell: bool) -> None:
    """Seven questions with two labels may all be guessed right; eight hardly."""
    training = _classes(100, n_labels)
    exam = [Example(f"New {i}?", f"label {i % n_labels}", i, "e") for i in range(n_exam)]
    found = _outlook(training, exam=exam)
    assert found == ExamOutlook(n_exam, n_exam, can_tell)


def test_one_label_cannot_show_anything() -> None:
    """An exam that asks for one label only is passed by always answering it."""
    exam = [Example(f"New {i}?", "label 0", i, "e") for i in range(30)]
    assert not _outlook(_classes(100, 2), exam=exam).can_tell
