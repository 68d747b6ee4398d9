"""report.html: the exam for people, one self-contained file without scripts."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from finetuning_exam.evaluation.exam import Exam
from finetuning_exam.evaluation.results import ExamRow, Results
from finetuning_exam.evaluation.stats import family_confidence
from finetuning_exam.evaluation.verdict import is_chance
from finetuning_exam.machine import library_versions
from finetuning_exam.model.generation.generate import Answer
from finetuning_exam.model.score import Score
from finetuning_exam.report.diff import Span, compare_words
from finetuning_exam.report.headline import (
    CEILING,
    SIGNIFICANCE,
    forgetting_words,
    forgot_seriously,
    headline,
    learned_form_only,
)
from finetuning_exam.report.page import (
    AnswerView,
    beginning,
    make_environment,
    shorten,
    with_rest,
)
from finetuning_exam.report.plots import difference_plot, loss_plot, loss_words, share_words
from finetuning_exam.report.text import (
    ABSENT,
    Measure,
    counted,
    measures,
    number,
    p_value,
    percent,
    signed,
)
from finetuning_exam.run_record import RunRecord
from finetuning_exam.training.run_folder import EXAM

N_EXAMPLES_SHOWN = 10


@dataclass(frozen=True, slots=True)
class ExampleView:
    """One example as the report shows it."""

    difference: str
    where: str
    tag: str
    prompt: str
    answers: tuple[AnswerView, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """What the template shows besides the exam and the run themselves."""

    tone: Literal["improved", "worse", "unsure"]
    title: str
    headline: str
    has_interval: bool
    meaning: str
    notes: tuple[str, ...]
    measures: tuple[Measure, ...]
    tags: tuple[tuple[str, Results], ...]
    tag_confidence: float
    forgetting: str
    forgetting_has_interval: bool
    loss_plot: Markup
    loss_words: str
    difference_plot: Markup
    share_words: str
    improved: tuple[ExampleView, ...]
    harmed: tuple[ExampleView, ...]
    settings: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]


def render_report(exam: Exam, run: RunRecord, metrics: tuple[dict[str, float], ...]) -> str:
    """The whole report as an HTML page; every text from data or model is escaped."""
    template = make_environment().get_template("report.html.jinja")
    return template.render(exam=exam, run=run, page=_page(exam, run, metrics))


def _page(exam: Exam, run: RunRecord, metrics: tuple[dict[str, float], ...]) -> Page:
    improved, harmed = pick_examples(exam.rows)
    title, _, sentence = re.sub("[:.] ", "\n", headline(exam), count=1).rstrip(".").partition("\n")
    best_step = run.result.best_step
    return Page(
        tone=_tone(exam),
        title=title,
        headline=sentence,
        has_interval=not math.isnan(exam.overall.nll_per_token.interval.low),
        meaning=_meaning(exam),
        notes=tuple(_notes(exam, run)),
        measures=measures(exam.overall),
        tags=tuple(sorted(exam.by_tag, key=lambda item: -item[1].n_examples)),
        tag_confidence=family_confidence(len(exam.by_tag)),
        forgetting=forgetting_words(exam),
        forgetting_has_interval=not math.isnan(exam.forgetting.interval.low),
        loss_plot=Markup(loss_plot(metrics, best_step)),
        loss_words=loss_words(metrics, best_step),
        difference_plot=Markup(difference_plot(exam.rows)),
        share_words=share_words(exam.rows),
        improved=tuple(_example(row) for row in improved),
        harmed=tuple(_example(row) for row in harmed),
        settings=tuple(
            (field.name, _setting(getattr(run.settings, field.name)))
            for field in dataclasses.fields(run.settings)
        ),
        versions=library_versions(),
    )


def _tone(exam: Exam) -> Literal["improved", "worse", "unsure"]:
    if exam.verdict == "worse":
        return "worse"
    has_doubts = learned_form_only(exam) or forgot_seriously(exam)
    return "improved" if exam.verdict == "improved" and not has_doubts else "unsure"


def _setting(value: object) -> str:
    if value is None:
        return ABSENT
    return " ".join(map(str, value)) or ABSENT if isinstance(value, tuple) else str(value)


def pick_examples(rows: Sequence[ExamRow]) -> tuple[list[ExamRow], list[ExamRow]]:
    """The most improved and the most harmed rows, among the answered ones if there are any."""
    candidates = [row for row in rows if row.tuned_answer is not None] or list(rows)
    ordered = sorted(candidates, key=_difference)
    improved = [row for row in ordered if _difference(row) < 0][:N_EXAMPLES_SHOWN]
    harmed = [row for row in reversed(ordered) if _difference(row) > 0][:N_EXAMPLES_SHOWN]
    return improved, harmed


def _meaning(exam: Exam) -> str:
    change = exam.overall.nll_per_token
    if not math.isfinite(change.difference) or abs(change.difference) > 20:
        return ""
    factor = math.exp(-change.difference)
    times = (
        f"{factor:.2f} times as likely" if factor >= 1 else f"{1 / factor:.2f} times less likely"
    )
    rows = "held-out" if exam.is_held_out else "training"
    return (
        f"On average a token of the right answers to {exam.overall.n_examples:,} {rows} questions "
        f"became {times} (perplexity {number(_perplexity(change.base), 2)} → "
        f"{number(_perplexity(change.tuned), 2)})."
    )


def _perplexity(nll: float) -> float:
    return math.exp(nll) if nll < 700 else math.inf


def _notes(exam: Exam, run: RunRecord) -> list[str]:
    """What the reader must know to read the verdict rightly."""
    overall, data = exam.overall, run.data
    notes: list[str] = []
    if not exam.is_held_out:
        notes.append(
            "The exam was taken on the training rows: these figures show what was memorised, "
            "not what the model can do with new questions."
        )
    if math.isnan(overall.nll_per_token.interval.low):
        notes.append("There are too few examples for a confidence interval.")
    if overall.n_clusters < overall.n_examples:
        notes.append(
            f"The {overall.n_examples:,} examples count as {overall.n_clusters:,} pieces of "
            "evidence: those with the same question, answer or group belong together."
        )
    change = overall.nll_per_token
    if change.interval.leaves_zero_out and is_chance(change):
        notes.append(
            "No side is taken although the interval leaves zero out: with signs drawn at random, "
            f"so large a difference comes about too often ({p_value(change.p_value)})."
        )
    signs = change.signs
    if signs.n_lower + signs.n_higher:
        notes.append(
            f"By sign alone: the right answers became likelier in {signs.n_lower:,} pieces of "
            f"evidence and less likely in {signs.n_higher:,} (sign test, "
            f"{p_value(signs.p_value)})."
        )
    notes += _choice_notes(exam)
    if exam.is_held_out and data.exam_rows_also_taught:
        notes.append(
            f"{counted(data.exam_rows_also_taught, 'question')} of the exam file also in the "
            "training file: left out of this exam."
        )
    if exam.forgetting.interval.low > 0 and forgetting_words(exam) not in headline(exam):
        notes.append(f"Something was forgotten: {forgetting_words(exam)}.")
    if overall.n_answered < overall.n_examples:
        notes.append(
            f"Answers were generated for a sample of {overall.n_answered:,} of "
            f"{overall.n_examples:,} examples; likelihood was measured on all of them."
        )
    return notes


def _choice_notes(exam: Exam) -> list[str]:
    choice = exam.overall.choice_accuracy
    if choice.n_questions == 0:
        return [
            "No multiple choice was asked (it needs four different answers in a tag), so nothing "
            "tells whether the answers or only their form was learned."
        ]
    figures = f"multiple choice {percent(choice.base)} → {percent(choice.tuned)}"
    if choice.base >= CEILING:
        return [f"The base already chose nearly every right answer ({figures}): no room to rise."]
    if not learned_form_only(exam):
        return []
    rise = "did not rise" if choice.tuned <= choice.base else "rose no more than chance explains"
    return [
        f"The form rather than the answers was learned: {figures} {rise} "
        f"({p_value(choice.p_value)}; significant below {SIGNIFICANCE:g})."
    ]


def _difference(row: ExamRow) -> float:
    return row.tuned_score.nll_per_token - row.base_score.nll_per_token


def _example(row: ExamRow) -> ExampleView:
    example = row.example
    prompt = f"{example.instruction}\n\n{example.input}" if example.input else example.instruction
    reference = AnswerView("Reference", (Span(shorten(example.answer, EXAM), False),), "")
    return ExampleView(
        signed(_difference(row), 2),
        example.where,
        example.tag,
        shorten(prompt, EXAM),
        (
            reference,
            _answer("Base", row.base_answer, row.base_score, example.answer),
            _answer("Tuned", row.tuned_answer, row.tuned_score, example.answer),
        ),
    )


def _answer(title: str, answer: Answer | None, score: Score, reference: str) -> AnswerView:
    title = f"{title} · {number(score.nll_per_token, 2)} nats per token"
    if answer is None:
        return AnswerView(title, (), "not answered, only scored")
    end = "" if answer.stopped else "did not stop by itself"
    if not answer.text.strip():
        return AnswerView(title, (), end or "an empty answer")
    spans = compare_words(beginning(answer.text), reference)
    return AnswerView(title, with_rest(spans, answer.text, EXAM), end)
