"""The exam's result in plain words: one source for terminal, report and model card."""

from __future__ import annotations

import math

from finetuning_exam.evaluation.exam import Exam
from finetuning_exam.evaluation.stats import PairedDifference

SIGNIFICANCE = 0.05
MIN_QUESTIONS = 20
SERIOUS_FORGETTING = math.log(1.25)
"""A rise of general text's NLL per token: its perplexity is up by a quarter."""
CEILING = 0.95
"""A base that answers more than this right leaves no room to rise."""


def learned_form_only(exam: Exam) -> bool:
    """Whether answers became likelier although the right one is not told apart any better.

    With few questions, or a base that answers nearly all of them, this cannot be said.
    """
    choice = exam.overall.choice_accuracy
    has_risen = choice.tuned > choice.base and choice.p_value < SIGNIFICANCE
    could_rise = choice.n_questions >= MIN_QUESTIONS and choice.base < CEILING
    return exam.verdict == "improved" and could_rise and not has_risen


def forgot_seriously(exam: Exam) -> bool:
    """Whether general text became a lot less likely, and more than chance explains."""
    return exam.forgetting.interval.low > SERIOUS_FORGETTING


def headline(exam: Exam) -> str:
    """The verdict and, in one sentence, what it means."""
    if not exam.is_held_out:
        return (
            "Too few examples to tell. The exam was taken on rows that were trained on, so it says "
            "nothing about new questions."
        )
    cost = f"; {forgetting_words(exam)}" if forgot_seriously(exam) else ""
    if learned_form_only(exam):
        return (
            "Improved, but it learned the form, not the answers: the held-out answers became "
            "likelier, yet the right one is told apart from wrong ones not measurably better"
            f"{cost}."
        )
    if exam.verdict == "improved" and cost:
        return (
            "Improved, but it forgot: held-out answers became likelier, and more than chance "
            f"explains{cost}."
        )
    if exam.verdict == "worse":
        return f"Worse: held-out answers became less likely, and more than chance explains{cost}."
    if exam.verdict == "improved":
        return "Improved: held-out answers became likelier, and more than chance explains."
    nothing = {
        "no measurable difference": "No measurable difference on the held-out examples",
        "too few examples to tell": "Too few examples to tell whether anything changed",
    }[exam.verdict]
    return f"{nothing}, but it forgot: {forgetting_words(exam)}." if cost else f"{nothing}."


def difference_words(difference: PairedDifference) -> str:
    """A difference in nats per token with its interval, such as `-1.52 (95% -1.60 to -1.44)`."""
    interval = difference.interval
    if math.isnan(interval.low):
        return f"{difference.difference:+.3f} (too few examples for an interval)"
    return f"{difference.difference:+.3f} (95%: {interval.low:+.3f} to {interval.high:+.3f})"


def forgetting_words(exam: Exam) -> str:
    """What happened to general text that nobody taught."""
    difference = exam.forgetting
    if math.isnan(difference.interval.low):
        return "too few paragraphs of general text to tell"
    if difference.interval.low > 0:
        share = math.expm1(difference.difference)
        return f"general text became less likely: perplexity {share:+.0%}"
    if difference.interval.high < 0:
        return "general text became likelier too"
    return "no measurable change on general text"
