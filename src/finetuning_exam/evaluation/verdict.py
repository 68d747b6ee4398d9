"""The verdict: the conclusion that the paired difference of base and tuned supports."""

from __future__ import annotations

import math
from typing import Literal

from finetuning_exam.evaluation.labels import LabelAccuracy
from finetuning_exam.evaluation.stats import CONFIDENCE, PairedDifference

Verdict = Literal["improved", "no measurable difference", "worse", "too few examples to tell"]

MIN_EXAMPLES_FOR_NO_DIFFERENCE = 20
"""With fewer, failing to find a difference says nothing."""


def verdict(
    difference: PairedDifference,
    n_clusters: int,
    *,
    is_held_out: bool = True,
    labels: LabelAccuracy | None = None,
) -> Verdict:
    """Return the verdict on a difference (tuned minus base, lower is better).

    `improved` and `worse` need both the interval, which must exclude zero, and the permutation
    test, which must be significant. In a classification, `improved` also needs labels that are
    better than guesses: there, likelier answers may only mean that the labels' names were learned.
    Otherwise the verdict is `no measurable difference`, or `too few examples to tell` with fewer
    than `MIN_EXAMPLES_FOR_NO_DIFFERENCE` pieces of evidence. It is also `too few examples to tell`
    on training rows and where there is no interval.
    """
    interval = difference.interval
    if not is_held_out or math.isnan(interval.low):
        return "too few examples to tell"
    if is_significant(difference):
        if interval.low > 0:
            return "worse"
        if not (labels and labels.is_guessing):
            return "improved"
        n_clusters = labels.n_clusters
    if n_clusters < MIN_EXAMPLES_FOR_NO_DIFFERENCE:
        return "too few examples to tell"
    return "no measurable difference"


def is_significant(difference: PairedDifference) -> bool:
    """Return True if the interval excludes zero and the permutation test is significant.

    On some small exams either criterion alone is met too often by chance, but rarely both at once.
    """
    return difference.interval.excludes_zero and not difference.p_value > 1 - CONFIDENCE
