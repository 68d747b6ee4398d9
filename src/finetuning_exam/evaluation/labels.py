"""Classification: how often a model picks the right label, and whether it does better than guesses.

Two guesses set the bar. One always answers the commonest label. The other answers the labels that
the model picked, but dealt to the examples at random; it shows what the model's picks are worth
without its questions.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finetuning_exam.data.split import normalized
from finetuning_exam.evaluation.stats import CONFIDENCE, N_RESAMPLES, sign_test

GUESSING_P = (1 - CONFIDENCE) / 2
"""A model is better than guessing if either of two one-sided tests is below this, which a guess
happens to reach in at most 5% of exams (Bonferroni).
"""
_CHUNK = 256


@dataclass(frozen=True, slots=True)
class Picks:
    """The labels that one model picked.

    `balanced_accuracy` is the mean over labels of the share of their examples that are right.
    `confusion[right][picked]` counts examples, in the order of the labels.
    """

    accuracy: float
    balanced_accuracy: float
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class LabelAccuracy:
    """Base and tuned model in a classification, and what guessing gives on the same examples.

    `labels` are in order of their number in the exam, so the first is the commonest; `majority` is
    its share. `shuffled` is the accuracy to expect of the tuned model's picks if they were dealt to
    the examples at random. Both p-values are one-sided: the tuned model against the commonest
    label, and against shuffled labels.
    """

    labels: tuple[str, ...]
    n_examples: int
    n_clusters: int
    base: Picks
    tuned: Picks
    majority: float
    shuffled: float
    p_majority: float
    p_shuffled: float

    @property
    def is_guessing(self) -> bool:
        """True if the tuned model is not measurably better than either guess."""
        return not (self.p_majority <= GUESSING_P or self.p_shuffled <= GUESSING_P)


@dataclass(frozen=True, slots=True)
class Picked:
    """One example of a classification: its right label, and what base and tuned model picked.

    `cluster` names its piece of evidence.
    """

    right: str
    base: str
    tuned: str
    cluster: str


def label_accuracy(examples: Sequence[Picked], seed: int) -> LabelAccuracy | None:
    """Compare the picks of base and tuned model with the right labels; None without examples.

    Accuracies are over all examples. In both tests each piece of evidence counts once: against the
    commonest label by the exact sign test of right answers gained and lost (McNemar 1947), against
    shuffled labels, where it is represented by its first example, by a permutation test.
    """
    if not examples:
        return None
    spelling: dict[str, str] = {}
    for it in examples:
        for label in (it.right, it.base, it.tuned):
            spelling.setdefault(normalized(label), label)
    right = [normalized(it.right) for it in examples]
    base = [normalized(it.base) for it in examples]
    tuned = [normalized(it.tuned) for it in examples]
    count = Counter(right)
    labels = sorted(spelling, key=lambda label: (-count[label], label))
    n = len(examples)
    n_picked = Counter(tuned)
    clusters = [it.cluster for it in examples]
    commonest = labels[0]
    return LabelAccuracy(
        labels=tuple(spelling[label] for label in labels),
        n_examples=n,
        n_clusters=len(set(clusters)),
        base=_picks(labels, right, base),
        tuned=_picks(labels, right, tuned),
        majority=count[commonest] / n,
        shuffled=sum(count[label] * n_picked[label] for label in labels) / n**2,
        p_majority=_against_one_label(right, tuned, clusters, commonest),
        p_shuffled=_against_shuffled(right, tuned, clusters, seed),
    )


def _picks(labels: Sequence[str], right: Sequence[str], picked: Sequence[str]) -> Picks:
    pairs = Counter(zip(right, picked, strict=True))
    confusion = tuple(tuple(pairs[label, other] for other in labels) for label in labels)
    shares = [
        row[place] / sum(row) for place, row in enumerate(confusion) if sum(row)
    ]  # of the labels that occur
    n_right = sum(row[place] for place, row in enumerate(confusion))
    return Picks(n_right / len(right), math.fsum(shares) / len(shares), confusion)


def _against_one_label(
    right: Sequence[str], picked: Sequence[str], clusters: Sequence[str], label: str
) -> float:
    """Return the one-sided p-value of the picks being right more often than one label is."""
    gains: Counter[str] = Counter()
    for reference, pick, cluster in zip(right, picked, clusters, strict=True):
        gains[cluster] += (pick == reference) - (label == reference)
    signs = sign_test([float(gain) for gain in gains.values()])
    # The two-sided p-value of a fair coin is twice the one-sided one of its rarer side.
    return signs.p_value / 2 if signs.n_higher > signs.n_lower else 1.0


def _against_shuffled(
    right: Sequence[str], picked: Sequence[str], clusters: Sequence[str], seed: int
) -> float:
    """Return the one-sided p-value of the picks being right more often than if they were dealt to
    the examples at random (Fisher 1935), from `N_RESAMPLES` random orders.
    """
    first: dict[str, int] = {}
    for index, cluster in enumerate(clusters):
        first.setdefault(cluster, index)
    codes = {label: code for code, label in enumerate(sorted({*right, *picked}))}
    references = np.array([codes[right[index]] for index in first.values()])
    picks = np.array([codes[picked[index]] for index in first.values()])
    n_right = int((references == picks).sum())
    draw = np.random.default_rng(seed)
    n_as_good = 0
    for start in range(0, N_RESAMPLES, _CHUNK):
        rows = np.tile(references, (min(_CHUNK, N_RESAMPLES - start), 1))
        shuffled = draw.permuted(rows, axis=1)
        n_as_good += int(((shuffled == picks).sum(axis=1) >= n_right).sum())
    return (1 + n_as_good) / (1 + N_RESAMPLES)
