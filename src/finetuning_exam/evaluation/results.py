"""The figures of an exam: base against tuned, over a set of examples."""

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
"""An answer that more examples share than both limits is a label, not one fact reworded."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One figure for base and tuned; NaN if nothing was measured."""

    base: float
    tuned: float


@dataclass(frozen=True, slots=True)
class ChoiceAccuracy:
    """Share of multiple-choice questions answered correctly.

    `p_value` is that of McNemar's test of tuned against base.
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

    `n_clusters` is the number of independent pieces of evidence; see `clusters`. `chrf` is the mean
    over answers, 0 to 100. `stopped` is the share of answers that the model ended on its own.
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
    """One example with its scores; answers and choices are None if it was not asked."""

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
    """Compute all figures of a set of rows.

    Args:
        rows: The examples with their scores and answers.
        names: The cluster of each row; see `clusters`.
        seed: Seed of the bootstrap and of the permutation test.
        confidence: Confidence level of the intervals.
    """
    base = [row.base_score for row in rows]
    tuned = [row.tuned_score for row in rows]
    answered = [(row, name) for row, name in zip(rows, names, strict=True) if row.base_answer]
    answers = [row for row, _ in answered]
    answer_names = [name for _, name in answered]
    base_chrf, tuned_chrf = _each_answer(answers, lambda answer, right: chrf(answer.text, right))
    base_stopped, tuned_stopped = _each_answer(answers, lambda answer, _: float(answer.stopped))
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
        stopped=Pair(_mean(base_stopped), _mean(tuned_stopped)),
    )


def _exact_match(rows: Sequence[ExamRow], names: Sequence[str]) -> Shares:
    base, tuned = _each_answer(rows, lambda answer, right: float(is_exact(answer.text, right)))
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
    """Compare base and tuned in nats per token; both score the same rows in the same order."""
    return paired_difference(
        [score.nll for score in base],
        [score.nll for score in tuned],
        [score.n_tokens for score in base],
        seed,
        clusters,
        confidence,
    )


def clusters(examples: Sequence[Example]) -> list[str]:
    """Name the cluster of each example; a cluster is one piece of evidence.

    Examples with the same question, the same answer or the same group are wordings of one fact and
    form a cluster. An answer shared by many examples is a label, as in classification, and joins
    none of them.
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
    """Disjoint sets of the integers below `n` (union-find, Tarjan 1975)."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))

    def root(self, index: int) -> int:
        """Return the smallest member of the set that holds `index`."""
        while self._parent[index] != index:
            self._parent[index] = self._parent[self._parent[index]]
            index = self._parent[index]
        return index

    def join(self, one: int, other: int) -> None:
        """Merge two sets."""
        low, high = sorted((self.root(one), self.root(other)))
        self._parent[high] = low


def _bits_per_byte(scores: Sequence[Score]) -> float:
    """Return the bits of all answers (end token included) over their UTF-8 bytes."""
    n_bytes = sum(score.n_bytes for score in scores)
    return math.fsum(score.nll for score in scores) / math.log(2) / n_bytes


def _each_answer(
    rows: Sequence[ExamRow], measure: Callable[[Answer, str], float]
) -> tuple[list[float], list[float]]:
    """Apply a measure to each base answer and each tuned answer, against the reference."""
    base = [measure(row.base_answer, row.example.answer) for row in rows if row.base_answer]
    tuned = [measure(row.tuned_answer, row.example.answer) for row in rows if row.tuned_answer]
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
