"""What an exam's rows amount to: every figure of base and tuned over a set of examples."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from finetuning_exam.data.records import Example
from finetuning_exam.data.split import normalized, prompt_key
from finetuning_exam.evaluation.choices import N_DISTRACTORS
from finetuning_exam.evaluation.stats import (
    CONFIDENCE,
    PairedDifference,
    mcnemar_p_value,
    paired_difference,
)
from finetuning_exam.model.generation.generate import Answer
from finetuning_exam.model.score import Score

CHANCE = 1 / (N_DISTRACTORS + 1)
MOST_WORDINGS = 8
MOST_WORDINGS_SHARE = 0.05
"""An answer of more examples than either is a label, not a fact in several wordings."""


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
class Shares(Pair):
    """A share of all answers, with the p-value of tuned against base."""

    p_value: float = 1.0


@dataclass(frozen=True, slots=True)
class Results:
    """The figures of one set of examples. chrF is the mean over answers, 0 to 100.

    `n_clusters` is how many pieces of evidence the examples are; see `clusters`.
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


def summarize(
    rows: Sequence[ExamRow], names: Sequence[str], seed: int, confidence: float = CONFIDENCE
) -> Results:
    """All figures of a set of rows, which belong to clusters by name; intervals are drawn from
    `seed`.
    """
    base = [row.base_score for row in rows]
    tuned = [row.tuned_score for row in rows]
    answered = [(row, name) for row, name in zip(rows, names, strict=True) if row.base_answer]
    answers = [row for row, _ in answered]
    answer_names = [name for _, name in answered]
    base_chrf, tuned_chrf = _each_answer(answers, _chrf)
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
        stopped=Pair(*(_mean(side) for side in _each_answer(answers, _has_stopped))),
    )


def _exact_match(rows: Sequence[ExamRow], names: Sequence[str]) -> Shares:
    base, tuned = _each_answer(rows, _is_exact)
    p_value = mcnemar_p_value([x > 0 for x in base], [x > 0 for x in tuned], names)
    return Shares(_mean(base), _mean(tuned), p_value)


def _choice_accuracy(rows: Sequence[ExamRow], names: Sequence[str]) -> ChoiceAccuracy:
    asked = [
        (bool(row.base_chose_right), bool(row.tuned_chose_right), name)
        for row, name in zip(rows, names, strict=True)
        if row.base_chose_right is not None
    ]
    base, tuned = [it[0] for it in asked], [it[1] for it in asked]
    p_value = mcnemar_p_value(base, tuned, [it[2] for it in asked])
    return ChoiceAccuracy(_mean(base), _mean(tuned), CHANCE, p_value, len(asked))


def compare_scores(
    base: Sequence[Score],
    tuned: Sequence[Score],
    seed: int,
    clusters: Sequence[str] | None = None,
    confidence: float = CONFIDENCE,
) -> PairedDifference:
    """Base against tuned in nats per token, from the scores of the same rows in the same order."""
    return paired_difference(
        [score.nll for score in base],
        [score.nll for score in tuned],
        [score.n_tokens for score in base],
        seed,
        clusters,
        confidence,
    )


def clusters(examples: Sequence[Example]) -> list[str]:
    """A name for each example; examples with the same name are one piece of evidence.

    These are examples of one group, with the same question, or with the same answer: several
    wordings of one fact. An answer that is given to many examples is a label, as in
    classification, and joins none.
    """
    n_of_answer = Counter(normalized(it.answer) for it in examples)
    most = max(MOST_WORDINGS, MOST_WORDINGS_SHARE * len(examples))
    union = _Union(len(examples))
    first: dict[str, int] = {}
    for index, example in enumerate(examples):
        answer = normalized(example.answer)
        keys = [f"prompt {prompt_key(example)}"]
        keys += [f"group {example.group}"] if example.group else []
        keys += [f"answer {answer}"] if n_of_answer[answer] <= most else []
        for key in keys:
            union.join(first.setdefault(key, index), index)
    return [str(union.root(index)) for index in range(len(examples))]


class _Union:
    """Disjoint sets of the numbers below `n` (Tarjan 1975)."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))

    def root(self, index: int) -> int:
        """The smallest number of the set."""
        while self._parent[index] != index:
            self._parent[index] = self._parent[self._parent[index]]
            index = self._parent[index]
        return index

    def join(self, one: int, other: int) -> None:
        """Make one set of two."""
        low, high = sorted((self.root(one), self.root(other)))
        self._parent[high] = low


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


def is_exact(text: str, reference: str) -> bool:
    """Whether an answer is the reference word for word; white space makes no difference."""
    return text.split() == reference.split()


def chrf(text: str, reference: str) -> float:
    """ChrF of one answer, 0 to 100 (Popović 2015), as sacrebleu computes it."""
    from sacrebleu import sentence_chrf

    return float(sentence_chrf(text, [reference]).score)


def _is_exact(answer: Answer, reference: str) -> float:
    return float(is_exact(answer.text, reference))


def _chrf(answer: Answer, reference: str) -> float:
    return chrf(answer.text, reference)


def _has_stopped(answer: Answer, _reference: str) -> float:
    return float(answer.stopped)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
