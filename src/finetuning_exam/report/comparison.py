"""Answers of base and tuned model side by side, as a page and in figures."""

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
from finetuning_exam.report.text import number, percent


@dataclass(frozen=True, slots=True)
class Answered:
    """One model's answer; `nll_per_token` is that of the reference, where there is one."""

    text: str
    stopped: bool = True
    nll_per_token: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One question with both answers, and the reference where there is one."""

    prompt: str
    base: Answered
    tuned: Answered
    reference: str = ""


@dataclass(frozen=True, slots=True)
class _View:
    prompt: str
    answers: tuple[AnswerView, ...]


def score_note(answered: Answered, reference: str) -> str:
    """How near an answer is to its reference, and whether it was cut off; empty without both."""
    notes = []
    if reference:
        notes.append(f"chrF {number(chrf(answered.text, reference), 0)}")
    if answered.nll_per_token is not None:
        notes.append(f"reference {number(answered.nll_per_token, 2)} nats per token")
    if not answered.text.strip():
        notes.append("an empty answer")
    if not answered.stopped:
        notes.append("did not stop by itself")
    return " · ".join(notes)


def marked(comparison: Comparison, answered: Answered) -> tuple[Span, ...]:
    """An answer in pieces: marked is what the reference does not say; without a reference, what
    the base does not say.
    """
    if comparison.reference:
        return compare_words(answered.text, comparison.reference)
    if answered is comparison.base:
        return (Span(answered.text, False),) if answered.text else ()
    return compare_words(answered.text, comparison.base.text)


def summary(comparisons: Sequence[Comparison]) -> str:
    """Figures over all questions with a reference; empty where there is none."""
    known = [it for it in comparisons if it.reference]
    if not known:
        return ""
    n = len(known)
    exact = [sum(is_exact(side.text, it.reference) for side, it in _side(known, k)) for k in (0, 1)]
    mean = [
        math.fsum(chrf(side.text, it.reference) for side, it in _side(known, k)) / n for k in (0, 1)
    ]
    return (
        f"{n:,} with references, base → tuned: word for word {percent(exact[0] / n, 0)} → "
        f"{percent(exact[1] / n, 0)}, chrF {number(mean[0], 1)} → {number(mean[1], 1)}"
    )


def _side(comparisons: Sequence[Comparison], index: int) -> list[tuple[Answered, Comparison]]:
    return [((it.base, it.tuned)[index], it) for it in comparisons]


def _answers(comparison: Comparison) -> tuple[AnswerView, ...]:
    """The texts of one question, each as much as a page shows of it."""
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
    """The page; every text from data or model is escaped."""
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
