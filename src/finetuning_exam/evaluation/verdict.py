"""The verdict: the conclusion that the paired difference of base and tuned supports."""

from __future__ import annotations

import math
from typing import Literal

from finetuning_exam.evaluation.labels import LabelAccuracy
from finetuning_exam.evaluation.stats import CONFIDENCE, PairedDifference

Verdict = Literal["improved", "no measurable difference", "worse", "too few examples to tell"]

LEVEL = 1 - CONFIDENCE
"""Largest p-value of the permutation test with which a verdict takes a side."""
FOLDS_LEVEL = 0.01
"""The same in a cross-validation, whose adapters share most of their training rows: their changes
are not independent, so small p-values are more frequent than they should be (decision 17)."""
MIN_EXAMPLES_FOR_NO_DIFFERENCE = 20
"""With fewer, failing to find a difference says nothing."""


def verdict(
    difference: PairedDifference,
    n_clusters: int,
    *,
    is_held_out: bool = True,
    labels: LabelAccuracy | None = None,
    level: float = LEVEL,
) -> Verdict:
    """Return the verdict on a difference (tuned minus base, lower is better).

    `improved` and `worse` need both the interval, which must exclude zero, and the permutation
    test, whose p-value must be at most `level`. In a classification, `improved` also needs labels
    that are better than guesses: there, likelier answers may only mean that the labels' names were
    learned. Otherwise the verdict is `no measurable difference`, or `too few examples to tell` with
    fewer than `MIN_EXAMPLES_FOR_NO_DIFFERENCE` pieces of evidence. It is also `too few examples to
    tell` on training rows and where there is no interval.
    """
    interval = difference.interval
    if not is_held_out or math.isnan(interval.low):
        return "too few examples to tell"
    if is_significant(difference, level):
        if interval.low > 0:
            return "worse"
        if not (labels and labels.is_guessing):
            return "improved"
        n_clusters = labels.n_clusters
    if n_clusters < MIN_EXAMPLES_FOR_NO_DIFFERENCE:
        return "too few examples to tell"
    return "no measurable difference"


def is_significant(difference: PairedDifference, level: float = LEVEL) -> bool:
    """Return True if the interval excludes zero and the permutation test is significant.

    On some small exams either criterion alone is met too often by chance, but rarely both at once.
    """
    return difference.interval.excludes_zero and not difference.p_value > level
