"""The notes below the headline of a report."""

from __future__ import annotations

import math

from finetuning_exam.evaluation.exam import Exam
from finetuning_exam.evaluation.verdict import is_significant
from finetuning_exam.report.headline import (
    CEILING,
    SIGNIFICANCE,
    answered_words,
    fold_differences,
    folds_words,
    forgetting_words,
    headline,
    learned_form_only,
)
from finetuning_exam.report.text import counted, p_value, percent
from finetuning_exam.run_record import RunRecord


def report_notes(exam: Exam, run: RunRecord) -> list[str]:
    """Return the facts that a reader needs to interpret the verdict."""
    overall, data = exam.overall, run.data
    notes: list[str] = []
    if exam.folds:
        notes += [
            f"{folds_words(exam)} The training curve is that of the saved adapter; the tuned "
            "answers are those of the fold's adapter.",
            "The adapters share most of their training rows, so the interval is somewhat too "
            f"narrow, and the verdict takes a side only at p ≤ {exam.level:g}.",
            f"Difference in each fold, in nats per token: {fold_differences(exam)}.",
        ]
    if not exam.is_held_out:
        notes.append(
            "The exam was taken on the training rows: these figures show what was memorized, "
            "not how the model answers new questions."
        )
    if math.isnan(overall.nll_per_token.interval.low):
        notes.append("There are too few examples for a confidence interval.")
    if overall.n_clusters < overall.n_examples:
        notes.append(
            f"The {overall.n_examples:,} examples count as "
            f"{counted(overall.n_clusters, 'piece')} of evidence: wordings of one fact "
            "(the same question, group, or answer of a few questions) count as one."
        )
    change = overall.nll_per_token
    if change.interval.excludes_zero and not is_significant(change, exam.level):
        notes.append(
            "The interval excludes zero, but the permutation test is not significant "
            f"({p_value(change.p_value)}; it must be at most {exam.level:g}), so the verdict takes "
            "no side."
        )
    signs = change.signs
    if signs.n_lower + signs.n_higher:
        notes.append(
            f"Counting signs only: the right answers became more likely in "
            f"{counted(signs.n_lower, 'piece')} of evidence and less likely in "
            f"{signs.n_higher:,} (sign test, {p_value(signs.p_value)})."
        )
    notes += _choice_notes(exam)
    if exam.is_held_out and data.exam_rows_also_taught:
        notes.append(
            f"{counted(data.exam_rows_also_taught, 'question')} of the exam file also in the "
            "training file: excluded from this exam."
        )
    if exam.forgetting.interval.low > 0 and forgetting_words(exam) not in headline(exam):
        notes.append(f"Forgetting: {forgetting_words(exam)}.")
    if answered := answered_words(exam):
        notes.append(f"{answered}. Likelihood was measured on all examples.")
    return notes


def _choice_notes(exam: Exam) -> list[str]:
    choice = exam.overall.choice_accuracy
    if choice.n_questions == 0:
        return [
            "There was no multiple choice (it needs --answered_examples and two different answers "
            "with the same tag), so the exam cannot show whether the answers were learned or only "
            "their form."
        ]
    name = "accuracy" if exam.overall.labels else "multiple choice"
    figures = f"{name} {percent(choice.base)} → {percent(choice.tuned)}"
    if choice.base >= CEILING:
        return [
            f"The base already chose nearly every right answer ({figures}), which leaves no room "
            "for improvement."
        ]
    if not learned_form_only(exam):
        return []
    rise = "did not rise" if choice.tuned <= choice.base else "did not rise significantly"
    return [
        f"The form was learned rather than the answers: {figures} {rise} "
        f"({p_value(choice.p_value)}; significant below {SIGNIFICANCE:g})."
    ]
