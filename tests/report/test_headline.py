"""Specification of the headline of an exam."""

from __future__ import annotations

from dataclasses import replace

import pytest

from finetuning_exam.evaluation.exam import Exam, FoldFigures
from finetuning_exam.evaluation.results import ChoiceAccuracy, Pair
from finetuning_exam.evaluation.stats import Interval, PairedDifference
from finetuning_exam.evaluation.verdict import Verdict
from finetuning_exam.report.headline import (
    fold_differences,
    folds_words,
    forgetting_words,
    forgot_seriously,
    headline,
    learned_form_only,
)


def _with_choice(exam: Exam, base: float, tuned: float, p_value: float, n: int) -> Exam:
    choice = ChoiceAccuracy(base, tuned, 0.25, p_value, n)
    return replace(exam, overall=replace(exam.overall, choice_accuracy=choice))


@pytest.mark.parametrize(
    ("base", "tuned", "p_value", "n", "expected"),
    [
        pytest.param(0.3, 0.3, 1.0, 20, True, id="no rise"),
        pytest.param(0.3, 0.4, 0.05, 40, True, id="a rise by chance"),
        pytest.param(0.5, 0.2, 0.001, 40, True, id="a fall"),
        pytest.param(0.3, 0.4, 0.049, 40, False, id="a rise"),
        pytest.param(0.3, 0.3, 1.0, 19, False, id="few questions"),
        pytest.param(0.94, 0.94, 1.0, 40, True, id="room to rise"),
        pytest.param(0.95, 0.95, 1.0, 40, False, id="no room to rise"),
    ],
)
def test_only_the_form_was_learned(
    exam: Exam, base: float, tuned: float, p_value: float, n: int, expected: bool
) -> None:
    """The headline says so if multiple choice, with at least 20 questions and room for
    improvement, did not improve significantly.
    """
    found = _with_choice(exam, base, tuned, p_value, n)
    assert learned_form_only(found) == expected
    assert headline(found).startswith(
        "Improved, but it learned the form, not the answers:" if expected else "Improved: "
    )


def test_only_an_improvement_is_of_form(exam: Exam) -> None:
    """Without an improvement there is no form that was learned."""
    found = _with_choice(replace(exam, verdict="worse"), 0.3, 0.3, 1.0, 40)
    assert not learned_form_only(found)
    assert headline(found).startswith("Worse: ")


@pytest.mark.parametrize(
    ("low", "is_serious"), [(0.23, True), (0.22, False), (-0.1, False), (float("nan"), False)]
)
def test_serious_forgetting_is_in_the_headline(exam: Exam, low: float, is_serious: bool) -> None:
    """The headline says so if the perplexity of general text rose significantly above +25%."""
    found = replace(exam, forgetting=PairedDifference(3.0, 3.5, Interval(low, 0.7)))
    assert forgot_seriously(found) == is_serious
    assert headline(found).startswith("Improved, but it forgot: ") == is_serious
    assert ("perplexity +65%" in headline(found)) == is_serious


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        ("worse", "Worse: held-out answers became significantly less likely; "),
        ("no measurable difference", "No measurable difference on the held-out examples, but "),
        ("too few examples to tell", "Too few examples to tell whether anything changed, but "),
    ],
)
def test_forgetting_is_in_the_headline_whatever_the_verdict(
    exam: Exam, verdict: Verdict, expected: str
) -> None:
    """Forgetting is reported with every verdict."""
    forgetting = PairedDifference(3.0, 3.5, Interval(0.4, 0.6))
    found = headline(replace(exam, verdict=verdict, forgetting=forgetting))
    assert found.startswith(expected)
    assert found.endswith("general text became less likely (perplexity +65%).")


def test_few_paragraphs_say_nothing_about_forgetting(exam: Exam) -> None:
    """Without an interval, not even the absence of a change is claimed."""
    nothing = Interval(float("nan"), float("nan"))
    found = replace(exam, forgetting=PairedDifference(3.0, 9.0, nothing))
    assert forgetting_words(found) == "too few paragraphs of general text to tell"
    assert not forgot_seriously(found)


def test_form_and_forgetting_are_both_reported(form_only_exam: Exam) -> None:
    """Learning only the form may still have caused forgetting."""
    found = replace(form_only_exam, forgetting=PairedDifference(3.0, 3.5, Interval(0.4, 0.6)))
    assert "the form, not the answers" in headline(found)
    assert "perplexity +65%" in headline(found)


def test_a_cross_validation_says_what_was_examined(exam: Exam) -> None:
    """K adapters were examined, on rows they had not seen, and the saved one is not among them."""
    assert folds_words(exam) == ""
    folds = (FoldFigures(24, 6, Pair(5.0, 3.5)), FoldFigures(25, 5, Pair(4.0, 4.25)))
    crossed = replace(exam, folds=folds)
    assert folds_words(crossed) == (
        "Cross-validation: 2 adapters were examined, each on rows that it was not trained on. The "
        "saved adapter was trained in the same way on all rows and is not one of them, so the "
        "verdict is about this way of training. Only forgetting was measured on the saved adapter."
    )
    assert fold_differences(crossed) == "-1.500 (6 examples), +0.250 (5 examples)"
