"""A classification in words, tables and pages."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from finetuning_exam.evaluation.exam import Exam
from finetuning_exam.evaluation.labels import LabelAccuracy, Picked, label_accuracy
from finetuning_exam.evaluation.verdict import Verdict
from finetuning_exam.report.headline import headline
from finetuning_exam.report.html import render_report
from finetuning_exam.report.labels import accuracy_words, confusion, confusions_words, short
from finetuning_exam.report.terminal import exam_summary
from finetuning_exam.report.text import measures
from finetuning_exam.run_record import RunRecord

GUESS = ["yes"] * 40
RIGHT = ["yes", "no"] * 20


def _labels(right: list[str], tuned: list[str]) -> LabelAccuracy:
    names = map(str, range(len(right)))
    found = label_accuracy(
        [Picked(r, "yes", t, name) for r, t, name in zip(right, tuned, names, strict=True)], 0
    )
    assert found is not None
    return found


def _with_labels(exam: Exam, verdict: Verdict, labels: LabelAccuracy) -> Exam:
    return replace(exam, verdict=verdict, overall=replace(exam.overall, labels=labels))


def _terminal(exam: Exam) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(exam_summary(exam))
    return out.getvalue()


def test_a_guess_is_in_the_headline(exam: Exam) -> None:
    """The headline says that the labels are no better than guesses, and names both guesses."""
    found = _with_labels(exam, "no measurable difference", _labels(RIGHT, GUESS))
    assert headline(found) == (
        "No better than guessing: the tuned model picks the right label for 50% of 40 held-out "
        'examples; always answering "no" gives 50%, shuffled labels 50%; only the form of the '
        "answers was learned."
    )


def test_a_guess_in_a_small_exam_is_too_few_to_tell(exam: Exam) -> None:
    """Few examples cannot show whether a model guesses, and the headline does not claim it."""
    labels = _labels(RIGHT[:8], GUESS[:8])
    found = headline(_with_labels(exam, "too few examples to tell", labels))
    assert found.startswith("Too few examples to tell whether it is better than guessing: ")
    assert "50% of 8 held-out examples" in found


def test_a_worse_guess_is_both(exam: Exam) -> None:
    """Worse labels that are guesses too are said to be both."""
    found = headline(_with_labels(exam, "worse", _labels(RIGHT, GUESS)))
    assert found == (
        "Worse: held-out answers became significantly less likely; labels are no better than "
        "guessing."
    )


def test_learned_labels_are_improved(exam: Exam) -> None:
    """Labels that are right are an improvement like any other."""
    found = headline(_with_labels(exam, "improved", _labels(RIGHT, RIGHT)))
    assert found == "Improved: held-out answers became significantly more likely."


def test_labels_no_better_than_the_base_are_form(form_only_exam: Exam) -> None:
    """Where the base knew the labels as well, only the form was learned."""
    found = headline(_with_labels(form_only_exam, "improved", _labels(RIGHT, RIGHT)))
    assert "the form, not the answers" in found
    assert "the accuracy shows no measurable improvement" in found


def test_the_terminal_shows_accuracy_and_confusions(exam: Exam) -> None:
    """Accuracy of base beside tuned, balanced accuracy, guesses and the confusion table."""
    shown = _terminal(_with_labels(exam, "improved", _labels(RIGHT, RIGHT)))
    assert "Exam: 40 examples, 40 pieces of evidence" in shown
    assert "Accuracy (chance 25%)" in shown
    assert "Multiple choice" not in shown
    assert "Labels: base 50%, tuned 100% right; always answering" in shown
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "Balanced accuracy 50% → 100%" in lines
    assert "right label / tuned picks no yes" in lines
    assert "no 20 0" in lines
    assert "yes 0 20" in lines


def test_many_labels_are_listed_by_confusion(exam: Exam) -> None:
    """With more than six labels the terminal names the most frequent confusions."""
    right = [f"label {index % 10}" for index in range(60)]
    tuned = ["label 3" if label == "label 1" else label for label in right]
    shown = _terminal(_with_labels(exam, "improved", _labels(right, tuned)))
    assert 'Most frequent confusions: "label 3" for "label 1" (6)' in shown


def test_the_report_has_both_confusion_tables(exam: Exam, run: RunRecord) -> None:
    """The page has a section of labels, with a table of each model."""
    page = render_report(_with_labels(exam, "improved", _labels(RIGHT, RIGHT)), run, ())
    assert page.count("examples by right label (rows) and picked label (columns)") == 2
    assert "40 held-out examples, 40 pieces of evidence" in page
    assert "Labels" not in render_report(exam, run, ())


def test_hostile_labels_are_escaped(exam: Exam, run: RunRecord) -> None:
    """A label is text, whatever it contains."""
    right = ["<script>", "\x1b[31m" * 20] * 20
    found = _with_labels(exam, "improved", _labels(right, right))
    page = render_report(found, run, ())
    assert "<script>" not in page
    assert "\x1b" not in page + _terminal(found)


def test_measures_name_the_accuracy(exam: Exam) -> None:
    """The table of figures calls the choices accuracy, and adds the balanced one."""
    found = _with_labels(exam, "improved", _labels(RIGHT, RIGHT))
    names = [measure.name for measure in measures(found.overall)]
    assert "Accuracy (chance 25%)" in names
    assert "Balanced accuracy" in names


@pytest.mark.parametrize(
    ("label", "expected"),
    [("yes", "yes"), ("a\nb", "a‹U+000A›b"), ("x" * 30, "x" * 19 + "…")],
)
def test_labels_are_cut_to_one_short_line(label: str, expected: str) -> None:
    """A label in a table or a sentence is one line of at most twenty characters."""
    assert short(label) == expected


def test_confusions_without_errors() -> None:
    """Where every label is right there is nothing to name."""
    found = _labels(RIGHT, RIGHT)
    assert confusions_words(found, found.tuned) == "none"
    assert confusion(found, found.tuned).rows == (("no", (20, 0)), ("yes", (0, 20)))


@pytest.mark.parametrize("length", [20, 21, 60, 500])
def test_long_labels_stay_apart(exam: Exam, length: int) -> None:
    """Labels that begin alike have different names in tables and sentences, however long."""
    long = [f"{'I cannot tell you. ' * 30}"[: length - 1] + mark for mark in "ab"]
    found = _labels([long[0]] * 21 + [long[1]] * 20, [long[1]] * 41)
    names = confusion(found, found.tuned).labels
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= 23
    assert f'"{names[1]}" for "{names[0]}" (21)' in confusions_words(found, found.tuned)
    assert f'always answering "{names[0]}" gives 51%' in accuracy_words(found)
