"""How many examples were answered, and how answers ended, in every output."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from finetuning_exam.answer_limit import AnswerLimit, AnswerReason
from finetuning_exam.evaluation.exam import Exam
from finetuning_exam.evaluation.results import Pair
from finetuning_exam.model.generation.generate import Answer
from finetuning_exam.report.card import model_card
from finetuning_exam.report.comparison import Answered, score_note
from finetuning_exam.report.headline import answered_words
from finetuning_exam.report.html import render_report
from finetuning_exam.report.terminal import exam_summary
from finetuning_exam.report.text import REPEATED, answers_words, measures
from finetuning_exam.run_record import RunRecord


@pytest.mark.parametrize(
    ("n", "reason", "words"),
    [
        (60, "requested", "60 of 181 examples, chosen at random (as --answered_examples says)"),
        (0, "requested", "none of 181 examples (as --answered_examples says)"),
        (180, "enough", "180 of 181 examples, chosen at random (more would add little)"),
        (100, "unknown", "100 of 181 examples, chosen at random (the training's time is not known"),
        (60, "time", "(with more, they would take over 15% of the training's predicted time)"),
        (30, "fewest", "(the fewest; they take over 15% of the training's predicted time)"),
    ],
)
def test_a_part_of_the_answers_has_a_reason(n: int, reason: AnswerReason, words: str) -> None:
    """One line has both numbers and says why there are no more; nothing is said if all are."""
    said = answers_words(AnswerLimit(n, reason), 181)
    assert said.startswith("Answers: ")
    assert words in said
    assert answers_words(AnswerLimit(n, reason), n) == ""


def _shown(exam: Exam, run: RunRecord) -> dict[str, str]:
    """What each output says, on one line."""
    console = Console(width=200)
    with console.capture() as captured:
        console.print(exam_summary(exam))
    page = render_report(exam, run, ()).replace("&#39;", "'")
    texts = {"terminal": captured.get(), "report": page, "card": model_card(exam, run)}
    return {name: " ".join(text.split()) for name, text in texts.items()}


def test_every_output_says_how_many_were_answered(exam: Exam, run: RunRecord) -> None:
    """The terminal, the report and the card have the same words, with the questions that were
    posed as multiple choice if these are others.
    """
    n = exam.n_asking
    part = replace(exam, overall=replace(exam.overall, n_answered=1), answer_reason="time")
    expected = f"Answers: 1 of {n} examples, chosen at random (with more, they would take"
    for name, text in _shown(part, run).items():
        assert expected in text, name
        assert f"; multiple choice: {exam.overall.choice_accuracy.n_questions}" in text, name
    assert answered_words(replace(exam, overall=replace(exam.overall, n_answered=n))) == ""


def test_loops_are_shown_if_there_are_any(exam: Exam, run: RunRecord) -> None:
    """The share of answers that only repeated themselves has a line in every output; an exam
    without them has none.
    """
    looping = replace(exam, overall=replace(exam.overall, repeated=Pair(0.5, 0.0)))
    for name, text in _shown(looping, run).items():
        assert REPEATED in text, name
    for name, text in _shown(exam, run).items():
        assert REPEATED not in text, name
    (line,) = [it for it in measures(looping.overall) if it.name == REPEATED]
    assert (line.better, line.base, line.tuned) == ("lower", "50.0%", "0.0%")


def test_an_answer_that_repeats_itself_is_marked(exam: Exam, run: RunRecord) -> None:
    """In the report and beside each answer of `compare`, in place of "did not stop"."""
    row = replace(exam.rows[0], base_answer=Answer("no no no", stopped=False, repeats=True))
    page = render_report(replace(exam, rows=(row, *exam.rows[1:])), run, ())
    assert "did not stop (repeats)" in page
    assert score_note(Answered("no no", False, repeats=True), "") == "did not stop (repeats)"
    assert score_note(Answered("no no", False), "") == "did not stop on its own"
