"""The verdict: what the paired difference of base and tuned supports."""

from __future__ import annotations

import math
from typing import Literal

from finetuning_exam.evaluation.stats import CONFIDENCE, PairedDifference

Verdict = Literal["improved", "no measurable difference", "worse", "too few examples to tell"]

MIN_EXAMPLES_FOR_NO_DIFFERENCE = 20
"""Below this, not having found a difference says nothing."""


def verdict(difference: PairedDifference, n_examples: int, *, is_held_out: bool = True) -> Verdict:
    """What interval and permutation test both support: a side if the interval lies wholly on one
    side of zero, and the test finds that no chance.

    On training rows, and where there is no interval, nothing can be told; with fewer than 20
    examples the absence of a difference cannot be told either.
    """
    interval = difference.interval
    if not is_held_out or math.isnan(interval.low):
        return "too few examples to tell"
    if not is_chance(difference):
        return "improved" if interval.high < 0 else "worse"
    if n_examples < MIN_EXAMPLES_FOR_NO_DIFFERENCE:
        return "too few examples to tell"
    return "no measurable difference"


def is_chance(difference: PairedDifference) -> bool:
    """Whether the difference may be none: the interval holds zero, or the test is not significant.

    Each of the two takes a side too often on some small exams, and seldom both on the same.
    """
    return not difference.interval.leaves_zero_out or difference.p_value > 1 - CONFIDENCE
