"""What an exam's rows amount to: every figure of base and tuned over a set of examples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from finetuning_exam.data.records import Example
from finetuning_exam.data.split import prompt_key
from finetuning_exam.evaluation.generate import Answer
from finetuning_exam.evaluation.score import N_DISTRACTORS, Score
from finetuning_exam.evaluation.stats import PairedDifference, mcnemar_p_value, paired_difference

CHANCE = 1 / (N_DISTRACTORS + 1)


@dataclass(frozen=True, slots=True)
class Pair:
    """One figure of base and tuned; NaN where there was nothing to measure."""

    base: float
    tuned: float


@dataclass(frozen=True, slots=True)
class ChoiceAccuracy:
    """Share of multiple-choice questions answered right; `p_value` of tuned against base."""

    base: float
    tuned: float
    chance: float
    p_value: float
    n_questions: int


@dataclass(frozen=True, slots=True)
class Results:
    """The figures of one set of examples. chrF is the mean over answers, 0 to 100."""

    n_examples: int
    n_answered: int
    nll_per_token: PairedDifference
    bits_per_byte: Pair
    exact_match: Pair
    chrf: Pair
    choice_accuracy: ChoiceAccuracy
    stopped: Pair


@dataclass(frozen=True, slots=True)
class ExamRow:
    """One example as it was examined; answers are None where none was generated."""

    example: Example
    base_score: Score
    tuned_score: Score
    base_answer: Answer | None = None
    tuned_answer: Answer | None = None
    base_chose_right: bool | None = None
    tuned_chose_right: bool | None = None


def summarize(rows: Sequence[ExamRow], seed: int) -> Results:
    """All figures of a set of rows; the interval is drawn from `seed`."""
    base = [row.base_score for row in rows]
    tuned = [row.tuned_score for row in rows]
    answered = [row for row in rows if row.base_answer is not None]
    asked = [row for row in rows if row.base_chose_right is not None]
    base_right = [bool(row.base_chose_right) for row in asked]
    tuned_right = [bool(row.tuned_chose_right) for row in asked]
    return Results(
        n_examples=len(rows),
        n_answered=len(answered),
        nll_per_token=compare_scores(base, tuned, seed, [cluster(row.example) for row in rows]),
        bits_per_byte=Pair(_bits_per_byte(base), _bits_per_byte(tuned)),
        exact_match=Pair(*(_mean(side) for side in _each_answer(answered, _is_exact))),
        chrf=Pair(*(_mean(side) for side in _each_answer(answered, _chrf))),
        choice_accuracy=ChoiceAccuracy(
            _mean(base_right),
            _mean(tuned_right),
            CHANCE,
            mcnemar_p_value(base_right, tuned_right),
            len(asked),
        ),
        stopped=Pair(*(_mean(side) for side in _each_answer(answered, _has_stopped))),
    )


def compare_scores(
    base: Sequence[Score], tuned: Sequence[Score], seed: int, clusters: Sequence[str] | None = None
) -> PairedDifference:
    """Base against tuned in nats per token, from the scores of the same rows in the same order."""
    return paired_difference(
        [score.nll for score in base],
        [score.nll for score in tuned],
        [score.n_tokens for score in base],
        seed,
        clusters,
    )


def cluster(example: Example) -> str:
    """Examples of one group, or with the same question, are one piece of evidence."""
    return f"group {example.group}" if example.group else f"prompt {prompt_key(example)}"


def _bits_per_byte(scores: Sequence[Score]) -> float:
    """All nats of the answers (end token included), in bits, over their UTF-8 bytes."""
    n_bytes = sum(score.n_bytes for score in scores)
    return math.fsum(score.nll for score in scores) / math.log(2) / n_bytes


def _each_answer(
    rows: Sequence[ExamRow], measure: Callable[[Answer, str], float]
) -> tuple[list[float], list[float]]:
    """A measure of every base answer, and of every tuned answer, against the reference."""
    base = [measure(row.base_answer, row.example.answer) for row in rows if row.base_answer]
    tuned = [measure(row.tuned_answer, row.example.answer) for row in rows if row.tuned_answer]
    return base, tuned


def _is_exact(answer: Answer, reference: str) -> float:
    return float(answer.text.split() == reference.split())


def _chrf(answer: Answer, reference: str) -> float:
    """ChrF of one answer, 0 to 100 (Popović 2015), as sacrebleu computes it."""
    from sacrebleu import sentence_chrf

    return float(sentence_chrf(answer.text, [reference]).score)


def _has_stopped(answer: Answer, _reference: str) -> float:
    return float(answer.stopped)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
