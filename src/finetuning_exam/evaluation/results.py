"""The figures of an exam: base against tuned, over a set of examples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from finetuning_exam.data.records import Example
from finetuning_exam.data.thoughts import said
from finetuning_exam.evaluation.calls import (
    CallAccuracy,
    CallAnswer,
    call_accuracy,
    found_calls,
)
from finetuning_exam.evaluation.choices import N_DISTRACTORS
from finetuning_exam.evaluation.labels import LabelAccuracy, Picked, label_accuracy
from finetuning_exam.evaluation.stats import (
    CONFIDENCE,
    PairedDifference,
    mcnemar_p_value,
    paired_difference,
)
from finetuning_exam.model.generation.generate import Answer
from finetuning_exam.model.score import Score

N_OPTIONS = N_DISTRACTORS + 1
"""Options of a question where there are enough different answers."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One figure for base and tuned; NaN if nothing was measured."""

    base: float
    tuned: float


@dataclass(frozen=True, slots=True)
class ChoiceAccuracy:
    """Share of multiple-choice questions answered correctly.

    `chance` is what guessing would give: the mean of one over the number of options. `p_value` is
    that of McNemar's test of tuned against base.
    """

    base: float
    tuned: float
    chance: float
    p_value: float
    n_questions: int


@dataclass(frozen=True, slots=True)
class Shares(Pair):
    """A share of all answers, with the p-value of McNemar's test of tuned against base."""

    p_value: float = 1.0


@dataclass(frozen=True, slots=True)
class Results:
    """The figures of a set of examples.

    `n_clusters` is the number of pieces of evidence; see `data.evidence`. `chrf` is the mean over
    answers, 0 to 100. `stopped` is the share of answers that the model ended on its own, and
    `repeated` that of answers which did not stop and only repeated themselves. `labels`
    is None where the examples are no classification, or none of them was asked, and `calls` where
    no answer is to call a tool. Of an answer with a thought, what follows the thought is judged.
    """

    n_examples: int
    n_clusters: int
    n_answered: int
    nll_per_token: PairedDifference
    bits_per_byte: Pair
    exact_match: Shares
    chrf: PairedDifference
    choice_accuracy: ChoiceAccuracy
    stopped: Pair
    labels: LabelAccuracy | None = None
    calls: CallAccuracy | None = None
    repeated: Pair = Pair(math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class ExamRow:
    """One example with its scores; answers and choices are None if it was not asked.

    `n_options` is the number of options that both models chose from. In a classification `labels`
    are these options, and `base_label` and `tuned_label` those that were picked.
    """

    example: Example
    base_score: Score
    tuned_score: Score
    base_answer: Answer | None = None
    tuned_answer: Answer | None = None
    base_chose_right: bool | None = None
    tuned_chose_right: bool | None = None
    n_options: int = N_OPTIONS
    labels: tuple[str, ...] = ()
    base_label: str | None = None
    tuned_label: str | None = None


def summarize(
    rows: Sequence[ExamRow], names: Sequence[str], seed: int, confidence: float = CONFIDENCE
) -> Results:
    """Compute all figures of a set of rows.

    Args:
        rows: The examples with their scores and answers.
        names: The piece of evidence of each row; see `data.evidence`.
        seed: Seed of the bootstrap and of the permutation tests.
        confidence: Confidence level of the intervals.
    """
    base = [row.base_score for row in rows]
    tuned = [row.tuned_score for row in rows]
    answered = [(row, name) for row, name in zip(rows, names, strict=True) if row.base_answer]
    answers = [row for row, _ in answered]
    answer_names = [name for _, name in answered]
    base_chrf, tuned_chrf = _each_answer(answers, chrf)
    return Results(
        n_examples=len(rows),
        n_clusters=len(set(names)),
        n_answered=len(answered),
        nll_per_token=compare_scores(base, tuned, seed, names, confidence),
        bits_per_byte=Pair(_bits_per_byte(base), _bits_per_byte(tuned)),
        exact_match=_exact_match(answers, answer_names),
        chrf=paired_difference(
            base_chrf, tuned_chrf, [1] * len(answers), seed, answer_names, confidence
        ),
        choice_accuracy=_choice_accuracy(rows, names),
        stopped=Pair(
            _mean([row.base_answer.stopped for row in answers if row.base_answer]),
            _mean([row.tuned_answer.stopped for row in answers if row.tuned_answer]),
        ),
        labels=label_accuracy(_picked(rows, names), seed),
        calls=call_accuracy(_called(answers, answer_names), seed),
        repeated=Pair(
            _mean([row.base_answer.repeats for row in answers if row.base_answer]),
            _mean([row.tuned_answer.repeats for row in answers if row.tuned_answer]),
        ),
    )


def _called(rows: Sequence[ExamRow], names: Sequence[str]) -> list[CallAnswer]:
    """Return what the answers to questions with tools call."""
    found = (
        found_calls(row.example, row.base_answer.text, row.tuned_answer.text, name)
        for row, name in zip(rows, names, strict=True)
        if row.base_answer and row.tuned_answer
    )
    return [it for it in found if it]


def _picked(rows: Sequence[ExamRow], names: Sequence[str]) -> list[Picked]:
    """Return the picks of rows that are one classification; empty if they are anything else."""
    asked = [row for row in rows if row.base_chose_right is not None]
    if len({row.labels for row in asked}) != 1 or any(row.example.is_plain_text for row in rows):
        return []
    return [
        Picked(row.example.answer, row.base_label, row.tuned_label, name)
        for row, name in zip(rows, names, strict=True)
        if row.base_label is not None and row.tuned_label is not None
    ]


def _exact_match(rows: Sequence[ExamRow], names: Sequence[str]) -> Shares:
    base, tuned = _each_answer(rows, is_exact)
    p_value = mcnemar_p_value([x > 0 for x in base], [x > 0 for x in tuned], names)
    return Shares(_mean(base), _mean(tuned), p_value)


def _choice_accuracy(rows: Sequence[ExamRow], names: Sequence[str]) -> ChoiceAccuracy:
    asked = [
        (row, name)
        for row, name in zip(rows, names, strict=True)
        if row.base_chose_right is not None
    ]
    base = [bool(row.base_chose_right) for row, _ in asked]
    tuned = [bool(row.tuned_chose_right) for row, _ in asked]
    chance = _mean([1 / row.n_options for row, _ in asked]) if asked else 1 / N_OPTIONS
    p_value = mcnemar_p_value(base, tuned, [name for _, name in asked])
    return ChoiceAccuracy(_mean(base), _mean(tuned), chance, p_value, len(asked))


def compare_scores(
    base: Sequence[Score],
    tuned: Sequence[Score],
    seed: int,
    clusters: Sequence[str] | None = None,
    confidence: float = CONFIDENCE,
) -> PairedDifference:
    """Compare base and tuned in nats per token; both score the same rows in the same order."""
    return paired_difference(
        [score.nll for score in base],
        [score.nll for score in tuned],
        [score.n_tokens for score in base],
        seed,
        clusters,
        confidence,
    )


def _bits_per_byte(scores: Sequence[Score]) -> float:
    """Return the bits of all answers (end token included) over their UTF-8 bytes."""
    n_bytes = sum(score.n_bytes for score in scores)
    return math.fsum(score.nll for score in scores) / math.log(2) / n_bytes


def _each_answer(
    rows: Sequence[ExamRow], measure: Callable[[str, str], float]
) -> tuple[list[float], list[float]]:
    """Apply a measure to each base answer and each tuned answer, against the reference."""

    def measured(row: ExamRow, answer: Answer | None) -> list[float]:
        return [measure(said(answer.text), said(row.example.answer))] if answer else []

    base = [value for row in rows for value in measured(row, row.base_answer)]
    tuned = [value for row in rows for value in measured(row, row.tuned_answer)]
    return base, tuned


def is_exact(text: str, reference: str) -> bool:
    """Return True if an answer equals its reference, ignoring differences in white space."""
    return text.split() == reference.split()


def chrf(text: str, reference: str) -> float:
    """Return the chrF of one answer, 0 to 100 (Popović 2015), computed by sacrebleu."""
    from sacrebleu import sentence_chrf

    return float(sentence_chrf(text, [reference]).score)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
