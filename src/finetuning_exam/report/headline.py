"""The exam's result in words, shared by the terminal, the report and the model card."""

from __future__ import annotations

import math

from finetuning_exam.answer_limit import AnswerLimit
from finetuning_exam.evaluation.exam import Exam
from finetuning_exam.evaluation.labels import LabelAccuracy
from finetuning_exam.evaluation.stats import PairedDifference
from finetuning_exam.evaluation.verdict import is_significant
from finetuning_exam.report.labels import guesses_words
from finetuning_exam.report.skills import lost_title, lost_words
from finetuning_exam.report.text import (
    answers_words,
    choice_name,
    counted,
    interval_text,
    percent,
    signed,
)

SIGNIFICANCE = 0.05
MIN_QUESTIONS = 20
SERIOUS_FORGETTING = math.log(1.25)
"""Rise of the NLL per token of general text at which its perplexity is up by 25%."""
CEILING = 0.95
"""Share of right answers at which the base leaves no room for improvement."""


def folds_words(exam: Exam) -> str:
    """Say which adapters a cross-validation examined, and which one it saved; else empty."""
    if not exam.folds:
        return ""
    return (
        f"Cross-validation: {len(exam.folds)} adapters were examined, each on rows that it was not "
        "trained on. The saved adapter was trained in the same way on all rows and is not one of "
        "them, so the verdict is about this way of training. Only forgetting was measured on the "
        "saved adapter."
    )


def fold_differences(exam: Exam) -> str:
    """List the difference of each fold: `-1.520 (6 examples), -1.310 (6 examples)`."""
    return ", ".join(
        f"{signed(fold.nll_per_token.tuned - fold.nll_per_token.base)} "
        f"({counted(fold.n_exam, 'example')})"
        for fold in exam.folds
    )


def answered_words(exam: Exam) -> str:
    """Say how many of the examples were answered, and why; empty if all were."""
    limit = AnswerLimit(exam.overall.n_answered, exam.answer_reason)
    words = answers_words(limit, exam.n_asking)
    choice = exam.overall.choice_accuracy
    if not words or choice.n_questions == exam.overall.n_answered:
        return words
    return f"{words}; {choice_name(exam.overall).lower()}: {choice.n_questions:,}"


def learned_form_only(exam: Exam) -> bool:
    """Return True if answers became more likely while multiple choice did not improve.

    With few questions, or a base that already answers nearly all of them, return False: then
    multiple choice cannot show an improvement.
    """
    choice = exam.overall.choice_accuracy
    has_risen = choice.tuned > choice.base and choice.p_value < SIGNIFICANCE
    could_rise = choice.n_questions >= MIN_QUESTIONS and choice.base < CEILING
    return exam.verdict == "improved" and could_rise and not has_risen


def forgot_seriously(exam: Exam) -> bool:
    """Return True if the perplexity of general text rose by more than 25%, significantly."""
    return exam.forgetting.interval.low > SERIOUS_FORGETTING


def is_guessing(exam: Exam) -> bool:
    """Return True if the exam is a classification without labels that are better than guesses."""
    return exam.overall.labels is not None and exam.overall.labels.is_guessing


def headline(exam: Exam) -> str:
    """Return the verdict and one sentence on what it means."""
    costs = [forgetting_words(exam)] if forgot_seriously(exam) else []
    costs += filter(None, [lost_words(exam.skills)])
    cost = "".join(f"; {it}" for it in costs)
    if not exam.is_held_out:
        return (
            "Too few examples to tell. The exam was taken on training rows, so it says nothing "
            f"about new questions{cost}."
        )
    if learned_form_only(exam):
        figure = "the accuracy" if exam.overall.labels else "multiple choice"
        return (
            "Improved, but it learned the form, not the answers: held-out answers became "
            f"significantly more likely, but {figure} shows no measurable improvement{cost}."
        )
    if exam.verdict == "improved":
        but = f", but {_loss(exam)}" if cost else ""
        return f"Improved{but}: held-out answers became significantly more likely{cost}."
    if exam.verdict == "worse":
        guess = "; labels are no better than guessing" if is_guessing(exam) else ""
        return f"Worse: held-out answers became significantly less likely{guess}{cost}."
    if exam.overall.labels and is_guessing(exam):
        return f"{_guessing_words(exam, exam.overall.labels)}{cost}."
    nothing = {
        "no measurable difference": "No measurable difference on the held-out examples",
        "too few examples to tell": "Too few examples to tell whether anything changed",
    }[exam.verdict]
    return f"{nothing}, but {_loss(exam)}: {'; '.join(costs)}." if cost else f"{nothing}."


def _loss(exam: Exam) -> str:
    """Say in few words that it lost something: `it forgot` or `it lost a skill`."""
    return "it forgot" if forgot_seriously(exam) else lost_title(exam.skills)


def _guessing_words(exam: Exam, labels: LabelAccuracy) -> str:
    """Say that the labels are no better than guesses, or that there are too few to tell."""
    figures = (
        f"the tuned model picks the right label for {percent(labels.tuned.accuracy, 0)} of "
        f"{counted(labels.n_examples, 'held-out example')}; {guesses_words(labels)}"
    )
    if exam.verdict == "too few examples to tell":
        return f"Too few examples to tell whether it is better than guessing: {figures}"
    form = ""
    change = exam.overall.nll_per_token
    if is_significant(change, exam.level) and change.interval.high < 0:
        form = "; only the form of the answers was learned"
    return f"No better than guessing: {figures}{form}"


def difference_words(difference: PairedDifference) -> str:
    """Format a difference: `-1.520 nats per token (95% interval: -1.600 to -1.440)`."""
    has_interval = not math.isnan(difference.interval.low)
    interval = (
        f"95% interval: {interval_text(difference.interval)}"
        if has_interval
        else "no interval: too few examples"
    )
    return f"{signed(difference.difference)} nats per token ({interval})"


def forgetting_words(exam: Exam) -> str:
    """Describe how the likelihood of general text, which was not trained on, changed."""
    difference = exam.forgetting
    if math.isnan(difference.interval.low):
        return "too few paragraphs of general text to tell"
    if difference.interval.low > 0:
        share = math.expm1(difference.difference)
        return f"general text became less likely (perplexity {share:+.0%})"
    if difference.interval.high < 0:
        return "general text became more likely too"
    return "no measurable change on general text"
