"""Answers of base and tuned model side by side: an HTML page and summary figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from finetuning_exam.evaluation.results import chrf, is_exact
from finetuning_exam.report.diff import Span, compare_words
from finetuning_exam.report.page import (
    AnswerView,
    beginning,
    make_environment,
    shorten,
    with_rest,
)
from finetuning_exam.report.text import counted, number, percent

EMPTY = "empty answer"
NOT_STOPPED = "did not stop on its own"
REPEATS = "did not stop (repeats)"


@dataclass(frozen=True, slots=True)
class Answered:
    """One model's answer.

    `stopped` is False if the answer was cut off, also where it `repeats` itself; `nll_per_token` is
    that of the reference, if any.
    """

    text: str
    stopped: bool = True
    nll_per_token: float | None = None
    repeats: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """One question with both answers, and the reference if there is one."""

    prompt: str
    base: Answered
    tuned: Answered
    reference: str = ""


@dataclass(frozen=True, slots=True)
class _View:
    prompt: str
    answers: tuple[AnswerView, ...]


def score_note(answered: Answered, reference: str) -> str:
    """Summarize an answer's scores, and note if it is empty or was cut off; may be empty."""
    notes = []
    if reference:
        notes.append(f"chrF {number(chrf(answered.text, reference), 0)}")
    if answered.nll_per_token is not None:
        notes.append(f"reference NLL {number(answered.nll_per_token, 2)} per token")
    if not answered.text.strip():
        notes.append(EMPTY)
    if not answered.stopped:
        notes.append(REPEATS if answered.repeats else NOT_STOPPED)
    return " · ".join(notes)


def marked(comparison: Comparison, answered: Answered) -> tuple[Span, ...]:
    """Split an answer into spans, marking the words that are not in the reference.

    Without a reference, mark the words of the tuned answer that are not in the base's.
    """
    if comparison.reference:
        return compare_words(answered.text, comparison.reference)
    if answered is comparison.base:
        return (Span(answered.text, False),) if answered.text else ()
    return compare_words(answered.text, comparison.base.text)


def summary(comparisons: Sequence[Comparison]) -> str:
    """Return the figures over all questions with a reference; empty if there are none."""
    known = [it for it in comparisons if it.reference]
    if not known:
        return ""
    n = len(known)
    sides = (
        [(it.base.text, it.reference) for it in known],
        [(it.tuned.text, it.reference) for it in known],
    )
    exact = [percent(sum(is_exact(*pair) for pair in side) / n, 0) for side in sides]
    mean = [number(math.fsum(chrf(*pair) for pair in side) / n, 1) for side in sides]
    return (
        f"{counted(n, 'question')} with a reference, base → tuned: "
        f"exact match {' → '.join(exact)}, chrF {' → '.join(mean)}"
    )


def _answers(comparison: Comparison) -> tuple[AnswerView, ...]:
    """The reference and both answers of one question, each cut to what a page shows."""
    base, tuned = comparison.base, comparison.tuned
    shown = replace(
        comparison,
        base=replace(base, text=beginning(base.text)),
        tuned=replace(tuned, text=beginning(tuned.text)),
    )
    reference = AnswerView("Reference", (Span(shorten(comparison.reference), False),), "")
    answers = (
        AnswerView(
            title,
            with_rest(marked(shown, part), whole.text),
            score_note(whole, comparison.reference),
        )
        for title, part, whole in (("Base", shown.base, base), ("Tuned", shown.tuned, tuned))
    )
    return (reference, *answers) if comparison.reference else tuple(answers)


def render_comparison(
    comparisons: Sequence[Comparison], adapter: str, base: str, command: str
) -> str:
    """Render the HTML page; every text from data or model is escaped."""
    return (
        make_environment()
        .get_template("compare.html.jinja")
        .render(
            views=[_View(shorten(it.prompt), _answers(it)) for it in comparisons],
            summary=[line for line in [summary(comparisons)] if line],
            has_references=any(it.reference for it in comparisons),
            adapter=adapter,
            base=base,
            command=command,
        )
    )
