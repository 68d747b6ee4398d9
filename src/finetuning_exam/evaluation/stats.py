"""The statistics behind a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["improved", "no measurable difference", "worse", "too few examples to tell"]

CONFIDENCE = 0.95
N_RESAMPLES = 4999
_MIN_SPREAD = 1e-3
_CHUNK = 256
"""Resamples drawn at once, so that memory does not grow with their number."""
MIN_EXAMPLES_FOR_INTERVAL = 6
"""Below six even a unanimous sign test has p > 0.05 (2 · 0.5⁵ = 0.0625)."""
MIN_EXAMPLES_FOR_NO_DIFFERENCE = 20
"""Below this, not having found a difference says nothing."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95% confidence interval; NaN bounds where there are too few examples for one."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Base against tuned in nats per token: sums over all examples, divided by all tokens."""

    base: float
    tuned: float
    interval: Interval

    @property
    def difference(self) -> float:
        """Tuned minus base; negative is better."""
        return self.tuned - self.base


def paired_difference(
    base: Sequence[float],
    tuned: Sequence[float],
    n_tokens: Sequence[int],
    seed: int,
    clusters: Sequence[str] | None = None,
) -> PairedDifference:
    """Compare two models on the same examples by their summed NLL and token counts.

    Examples with the same name in `clusters` belong together and are resampled as one.

    The interval is the studentized bootstrap (Efron and Tibshirani 1993, chapter 12) of the ratio
    Σ(tuned − base) / Σ tokens over resampled examples. On small exams it keeps its level where
    percentile methods do not (docs/decisions/0004-the-exam.md).
    """
    total = sum(n_tokens)
    names = list(clusters) if clusters is not None else [str(i) for i in range(len(n_tokens))]
    place = {name: index for index, name in enumerate(dict.fromkeys(names))}
    tokens, differences = np.zeros(len(place)), np.zeros(len(place))
    for name, n, before, after in zip(names, n_tokens, base, tuned, strict=True):
        tokens[place[name]] += n
        differences[place[name]] += after - before
    return PairedDifference(
        math.fsum(base) / total,
        math.fsum(tuned) / total,
        _ratio_interval(differences, tokens, seed),
    )


def verdict(difference: PairedDifference, n_examples: int, *, is_held_out: bool = True) -> Verdict:
    """What the interval supports: a side if it lies wholly on one side of zero.

    On training rows, and where there is no interval, nothing can be told; with fewer than 20
    examples the absence of a difference cannot be told either.
    """
    interval = difference.interval
    if not is_held_out or math.isnan(interval.low):
        return "too few examples to tell"
    if interval.high < 0:
        return "improved"
    if interval.low > 0:
        return "worse"
    if n_examples < MIN_EXAMPLES_FOR_NO_DIFFERENCE:
        return "too few examples to tell"
    return "no measurable difference"


def mcnemar_p_value(base: Sequence[bool], tuned: Sequence[bool]) -> float:
    """Two-sided exact McNemar test (1947) of whether right answers are gained as often as lost."""
    gained = sum(after and not before for before, after in zip(base, tuned, strict=True))
    lost = sum(before and not after for before, after in zip(base, tuned, strict=True))
    if gained + lost == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(gained, gained + lost, 0.5).pvalue)


def _ratio_interval(
    differences: NDArray[np.float64], tokens: NDArray[np.float64], seed: int
) -> Interval:
    n_examples = len(differences)
    if n_examples < MIN_EXAMPLES_FOR_INTERVAL:
        return Interval(math.nan, math.nan)
    ratio, error = _ratio_and_error(differences, tokens)
    if error == 0.0:
        return Interval(float(ratio), float(ratio))
    generator = np.random.default_rng(seed)
    deviations: list[NDArray[np.float64]] = []
    for start in range(0, N_RESAMPLES, _CHUNK):
        shape = (min(_CHUNK, N_RESAMPLES - start), n_examples)
        chosen = generator.integers(0, n_examples, shape)
        ratios, errors = _ratio_and_error(differences[chosen], tokens[chosen])
        # A resample of like examples has no spread of its own; it is given a small one.
        deviations.append((ratios - ratio) / np.maximum(errors, _MIN_SPREAD * error))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(deviations), [tail, 1 - tail])
    # A ratio of sums lies between the smallest and the largest ratio of one example.
    per_token = differences / tokens
    bounds = np.clip([ratio - high * error, ratio - low * error], per_token.min(), per_token.max())
    return Interval(float(bounds[0]), float(bounds[1]))


def _ratio_and_error(
    differences: NDArray[np.float64], tokens: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The ratio of sums over the last axis and its standard error by linearization.

    Cochran, Sampling Techniques (1977), equation 6.13 without the finite population correction.
    """
    n_examples = differences.shape[-1]
    total = tokens.sum(axis=-1)
    ratio: NDArray[np.float64] = differences.sum(axis=-1) / total
    residuals = differences - ratio[..., np.newaxis] * tokens
    spread = (residuals**2).sum(axis=-1) * n_examples / (n_examples - 1)
    error: NDArray[np.float64] = np.sqrt(spread) / total
    return ratio, error
