"""report.html: the exam as one self-contained page without scripts."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from finetuning_exam.data.encoding.chat import question
from finetuning_exam.evaluation.exam import Exam
from finetuning_exam.evaluation.results import ExamRow, Results
from finetuning_exam.evaluation.stats import family_confidence
from finetuning_exam.machine import library_versions
from finetuning_exam.model.generation.generate import Answer
from finetuning_exam.model.score import Score
from finetuning_exam.report.calls import CallLine, call_lines, calls_words
from finetuning_exam.report.comparison import EMPTY, NOT_STOPPED, REPEATS
from finetuning_exam.report.diff import Span, compare_words
from finetuning_exam.report.headline import (
    difference_words,
    forgetting_words,
    forgot_seriously,
    headline,
    learned_form_only,
)
from finetuning_exam.report.labels import Confusion, accuracy_words, confusion, tests_words
from finetuning_exam.report.notes import report_notes
from finetuning_exam.report.page import (
    AnswerView,
    beginning,
    make_environment,
    shorten,
    with_rest,
)
from finetuning_exam.report.plots import (
    difference_plot,
    frontier_plot,
    frontier_words,
    loss_plot,
    loss_words,
    share_words,
)
from finetuning_exam.report.skills import SkillTable, divergence_words, lost, skill_table
from finetuning_exam.report.text import (
    ABSENT,
    Measure,
    counted,
    measures,
    number,
    signed,
)
from finetuning_exam.run_record import RunRecord
from finetuning_exam.training.run_folder import EXAM

N_EXAMPLES_SHOWN = 10


@dataclass(frozen=True, slots=True)
class ExampleView:
    """One example as shown in the report."""

    difference: str
    where: str
    tag: str
    prompt: str
    answers: tuple[AnswerView, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """Everything the template shows besides the exam and the run."""

    tone: Literal["improved", "worse", "unsure"]
    title: str
    headline: str
    difference: str
    meaning: str
    notes: tuple[str, ...]
    measures: tuple[Measure, ...]
    labels: str
    confusions: tuple[tuple[str, Confusion], ...]
    tags: tuple[tuple[str, Results], ...]
    tag_confidence: float
    forgetting: str
    forgetting_has_interval: bool
    frontier_plot: Markup
    frontier_words: str
    divergence: str
    calls: str
    call_lines: tuple[CallLine, ...]
    skills: SkillTable | None
    loss_plot: Markup
    loss_words: str
    difference_plot: Markup
    share_words: str
    improved: tuple[ExampleView, ...]
    harmed: tuple[ExampleView, ...]
    settings: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]


def render_report(exam: Exam, run: RunRecord, metrics: tuple[dict[str, float], ...]) -> str:
    """Render the report as an HTML page; every text from data or model is escaped."""
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
        difference=difference_words(exam.overall.nll_per_token),
        meaning=_meaning(exam),
        notes=tuple(report_notes(exam, run)),
        measures=measures(exam.overall),
        labels=_label_words(exam),
        confusions=_confusions(exam),
        tags=tuple(sorted(exam.by_tag, key=lambda item: -item[1].n_examples)),
        tag_confidence=family_confidence(len(exam.by_tag)),
        forgetting=forgetting_words(exam),
        forgetting_has_interval=not math.isnan(exam.forgetting.interval.low),
        frontier_plot=Markup(frontier_plot(run.result) if run.result.frontier else ""),
        frontier_words=frontier_words(run.result) if run.result.frontier else "",
        divergence=divergence_words(exam.divergence) if exam.divergence else "",
        calls=calls_words(exam.overall.calls) if exam.overall.calls else "",
        call_lines=call_lines(exam.overall.calls) if exam.overall.calls else (),
        skills=skill_table(exam.skills) if exam.skills else None,
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


def _label_words(exam: Exam) -> str:
    labels = exam.overall.labels
    return f"{accuracy_words(labels)} ({tests_words(labels)})" if labels else ""


def _confusions(exam: Exam) -> tuple[tuple[str, Confusion], ...]:
    labels = exam.overall.labels
    if labels is None:
        return ()
    return ("Base", confusion(labels, labels.base)), ("Tuned", confusion(labels, labels.tuned))


def _tone(exam: Exam) -> Literal["improved", "worse", "unsure"]:
    if exam.verdict == "worse":
        return "worse"
    has_doubts = learned_form_only(exam) or forgot_seriously(exam) or lost(exam.skills)
    return "improved" if exam.verdict == "improved" and not has_doubts else "unsure"


def _setting(value: object) -> str:
    if value is None:
        return ABSENT
    return " ".join(map(str, value)) or ABSENT if isinstance(value, tuple) else str(value)


def pick_examples(rows: Sequence[ExamRow]) -> tuple[list[ExamRow], list[ExamRow]]:
    """Pick the most improved and the most harmed rows, preferring rows with answers."""
    candidates = [row for row in rows if row.tuned_answer is not None] or list(rows)
    ordered = sorted(candidates, key=_difference)
    improved = [row for row in ordered if _difference(row) < 0][:N_EXAMPLES_SHOWN]
    harmed = [row for row in reversed(ordered) if _difference(row) > 0][:N_EXAMPLES_SHOWN]
    return improved, harmed


def _meaning(exam: Exam) -> str:
    """Restate the difference as a ratio of likelihoods and as perplexities."""
    change = exam.overall.nll_per_token
    if not math.isfinite(change.difference) or abs(change.difference) > 20:
        return ""
    factor = math.exp(-change.difference)
    times = (
        f"{factor:.2f} times as likely" if factor >= 1 else f"{1 / factor:.2f} times less likely"
    )
    rows = "held-out" if exam.is_held_out else "training"
    return (
        f"On average, a token of the right answers to "
        f"{counted(exam.overall.n_examples, f'{rows} question')} became {times} "
        f"(perplexity {number(_perplexity(change.base), 2)} → "
        f"{number(_perplexity(change.tuned), 2)})."
    )


def _perplexity(nll: float) -> float:
    return math.exp(nll) if nll < 700 else math.inf


def _difference(row: ExamRow) -> float:
    return row.tuned_score.nll_per_token - row.base_score.nll_per_token


def _example(row: ExamRow) -> ExampleView:
    example = row.example
    reference = AnswerView("Reference", (Span(shorten(example.answer, EXAM), False),), "")
    return ExampleView(
        signed(_difference(row), 2),
        example.where,
        example.tag,
        shorten(question(example), EXAM),
        (
            reference,
            _answer("Base", row.base_answer, row.base_score, example.answer),
            _answer("Tuned", row.tuned_answer, row.tuned_score, example.answer),
        ),
    )


def _answer(title: str, answer: Answer | None, score: Score, reference: str) -> AnswerView:
    title = f"{title} · NLL {number(score.nll_per_token, 2)} per token"
    if answer is None:
        return AnswerView(title, (), "scored only; no answer was generated")
    end = "" if answer.stopped else REPEATS if answer.repeats else NOT_STOPPED
    if not answer.text.strip():
        return AnswerView(title, (), end or EMPTY)
    spans = compare_words(beginning(answer.text), reference)
    return AnswerView(title, with_rest(spans, answer.text, EXAM), end)
