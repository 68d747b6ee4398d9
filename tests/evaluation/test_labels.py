"""A classification: the accuracy of both models, and whether the tuned one only guesses."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetuning_exam.data.records import Example
from finetuning_exam.evaluation.labels import (
    GUESSING_P,
    LabelAccuracy,
    Picked,
    label_accuracy,
)
from finetuning_exam.evaluation.results import ExamRow, summarize
from finetuning_exam.evaluation.stats import Interval, PairedDifference
from finetuning_exam.evaluation.verdict import verdict
from finetuning_exam.model.score import Score

BETTER = PairedDifference(2.0, 1.0, Interval(-1.2, -0.8), 0.001)
WORSE = PairedDifference(1.0, 2.0, Interval(0.8, 1.2), 0.001)


def _found(right: Sequence[str], tuned: Sequence[str], clusters: str = "") -> LabelAccuracy:
    """The accuracy of these picks; the base picks the first label always."""
    names = clusters or [str(index) for index in range(len(right))]
    found = label_accuracy(
        [Picked(r, right[0], t, c) for r, t, c in zip(right, tuned, names, strict=True)], seed=0
    )
    assert found is not None
    return found


def _in_turn(n: int, n_labels: int) -> list[str]:
    return [f"label {index % n_labels}" for index in range(n)]


def test_figures_are_computed_by_hand() -> None:
    """Accuracy, balanced accuracy, confusions and both guesses, of base and tuned."""
    found = _found(["a", "a", "a", "b"], ["a", "a", "b", "b"])
    assert found.labels == ("a", "b")
    assert found.tuned.accuracy == 0.75
    assert found.tuned.balanced_accuracy == pytest.approx((2 / 3 + 1) / 2)
    assert found.tuned.confusion == ((2, 1), (0, 1))
    assert (found.base.accuracy, found.base.balanced_accuracy) == (0.75, 0.5)
    assert found.base.confusion == ((3, 0), (1, 0))
    assert found.majority == 0.75
    assert found.shuffled == pytest.approx((3 * 2 + 1 * 2) / 16)
    assert (found.n_examples, found.n_clusters) == (4, 4)


def test_spellings_of_a_label_are_one_label() -> None:
    """Case and a final mark are no matter."""
    found = _found(["Yes", "no", "YES."], ["yes", "No", "yes"])
    assert found.labels == ("Yes", "no")
    assert found.tuned.accuracy == 1.0


@pytest.mark.parametrize("n_labels", [2, 3, 4, 10])
def test_right_labels_are_no_guesses(n_labels: int) -> None:
    """Forty right labels are better than guessing, whatever the number of labels."""
    right = _in_turn(40, n_labels)
    assert not _found(right, right).is_guessing


@pytest.mark.parametrize("n_labels", [2, 3, 4, 10])
def test_one_label_for_everything_is_a_guess(n_labels: int) -> None:
    """A model that always answers the commonest label is guessing, as it is no better than that,
    and as good with shuffled labels.
    """
    right = [*_in_turn(40, n_labels), *["label 0"] * 40]
    found = _found(right, ["label 0"] * 80)
    assert found.tuned.accuracy == found.majority == found.shuffled > 0.5
    assert (found.p_majority, found.p_shuffled) == (1.0, 1.0)
    assert found.is_guessing


def test_a_rare_label_that_is_recognized_is_no_guess() -> None:
    """Of 100 examples 90 have one label. A model that recognizes the others, but is wrong as often
    on the common ones, is no better than the commonest label but better than shuffled ones.
    """
    right = ["common"] * 90 + ["rare"] * 10
    picked = ["common"] * 80 + ["rare"] * 20
    found = _found(right, picked)
    assert found.tuned.accuracy == found.majority
    assert found.p_majority == 1.0
    assert found.p_shuffled < 0.001
    assert not found.is_guessing


@pytest.mark.parametrize("n_labels", [2, 3, 4, 10])
def test_random_labels_are_seldom_called_better_than_guesses(n_labels: int) -> None:
    """Of 200 models that answer at random, at most one in twenty seems to be better than that."""
    draw = random.Random(n_labels)
    right = _in_turn(40, n_labels)
    called_better = 0
    for _ in range(200):
        picked = [f"label {draw.randrange(n_labels)}" for _ in right]
        called_better += not _found(right, picked).is_guessing
    assert called_better <= 10


def test_copies_of_an_example_count_once() -> None:
    """One question twenty times and its opposite twenty times are two pieces: that is a guess."""
    right = ["yes"] * 20 + ["no"] * 20
    found = _found(right, right, "a" * 20 + "b" * 20)
    assert found.tuned.accuracy == 1.0
    assert found.n_clusters == 2
    assert found.is_guessing


@given(
    picks=st.lists(st.tuples(*[st.sampled_from("abc")] * 2), min_size=1, max_size=30),
)
def test_a_confusion_table_counts_every_example(picks: list[tuple[str, str]]) -> None:
    """Its cells add up to the examples and its diagonal to the right ones; p-values are shares."""
    found = _found([right for right, _ in picks], [picked for _, picked in picks])
    for side in (found.base, found.tuned):
        assert sum(map(sum, side.confusion)) == len(picks)
        diagonal = sum(row[place] for place, row in enumerate(side.confusion))
        assert side.accuracy == pytest.approx(diagonal / len(picks))
        assert 0 <= side.balanced_accuracy <= 1
    assert 0 < found.p_majority <= 1
    assert 0 < found.p_shuffled <= 1
    assert found.is_guessing == (min(found.p_majority, found.p_shuffled) > GUESSING_P)


# The verdict


def test_a_guess_is_not_improved() -> None:
    """Answers that became likelier are no improvement if the labels are guesses."""
    right = _in_turn(40, 2)
    guess = _found(right, ["label 0"] * 40)
    assert verdict(BETTER, 40) == "improved"
    assert verdict(BETTER, 40, labels=guess) == "no measurable difference"
    assert verdict(BETTER, 40, labels=_found(right, right)) == "improved"
    assert verdict(WORSE, 40, labels=guess) == "worse"


def test_few_labels_cannot_tell_a_guess() -> None:
    """With fewer than twenty pieces of evidence, labels that may be guesses are too few to tell."""
    right = _in_turn(12, 2)
    assert verdict(BETTER, 40, labels=_found(right, ["label 0"] * 12)) == "too few examples to tell"


# Which rows are a classification


def _row(index: int, label: str | None, labels: tuple[str, ...] = ("yes", "no")) -> ExamRow:
    return ExamRow(
        Example(f"Is {index} even?", "no" if index % 2 else "yes", index + 1, "exam.jsonl"),
        Score(4.0, 2, 3),
        Score(2.0, 2, 3),
        base_chose_right=False,
        tuned_chose_right=True,
        n_options=max(2, len(labels)),
        labels=labels if label else (),
        base_label=label,
        tuned_label=label,
    )


def _labels_of(rows: list[ExamRow]) -> LabelAccuracy | None:
    return summarize(rows, [str(index) for index in range(len(rows))], seed=0).labels


def test_rows_of_one_classification_have_labels() -> None:
    """Rows that choose from the same labels are summarized as a classification."""
    found = _labels_of([_row(index, "yes") for index in range(10)])
    assert found is not None
    assert found.tuned.accuracy == 0.5


def test_rows_of_another_kind_have_no_accuracy() -> None:
    """Beside a question of fact, a text, or other labels, there is no common accuracy; rows that
    were not asked are no matter.
    """
    rows = [_row(index, "yes") for index in range(10)]
    fact = _row(10, None)
    other = _row(10, "red", ("red", "blue"))
    text = ExamRow(Example("", "A text.", 11, "exam.jsonl"), Score(4.0, 2, 3), Score(2.0, 2, 3))
    for row in (fact, other, text):
        assert _labels_of([*rows, row]) is None
    unasked = ExamRow(rows[0].example, Score(4.0, 2, 3), Score(2.0, 2, 3))
    assert _labels_of([*rows, unasked]) == _labels_of(rows)
    assert _labels_of([unasked]) is None


@pytest.mark.parametrize(("n_options", "chance"), [(2, 0.5), (3, 1 / 3), (10, 0.1)])
def test_chance_is_one_over_the_number_of_options(n_options: int, chance: float) -> None:
    """Two labels are guessed right half the time."""
    labels = tuple(f"label {index}" for index in range(n_options))
    rows = [_row(index, "label 0", labels) for index in range(10)]
    found = summarize(rows, [str(index) for index in range(10)], seed=0)
    assert found.choice_accuracy.chance == pytest.approx(chance)
