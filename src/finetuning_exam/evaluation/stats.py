"""The statistics behind a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
N_RESAMPLES = 4999
_MIN_SPREAD = 1e-3
_CHUNK = 256
"""Resamples drawn at once, so that memory does not grow with their number."""
MIN_EXAMPLES_FOR_INTERVAL = 6
"""Below six even a unanimous sign test has p > 0.05 (2 · 0.5⁵ = 0.0625)."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval; NaN bounds where there are too few examples for one."""

    low: float
    high: float

    @property
    def leaves_zero_out(self) -> bool:
        """Whether it lies wholly on one side of zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class SignTest:
    """Pieces of evidence whose figure fell and rose, and the two-sided p-value of the counts."""

    n_lower: int
    n_higher: int
    p_value: float


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Base against tuned: sums over all examples, divided by all tokens (or by all examples).

    `p_value` is the permutation test's, NaN where there are too few examples. `signs` looks at the
    same differences by their signs alone, one for each cluster.
    """

    base: float
    tuned: float
    interval: Interval
    p_value: float = math.nan
    signs: SignTest = SignTest(0, 0, 1.0)

    @property
    def difference(self) -> float:
        """Tuned minus base."""
        return self.tuned - self.base


def paired_difference(
    base: Sequence[float],
    tuned: Sequence[float],
    n_tokens: Sequence[int],
    seed: int,
    clusters: Sequence[str] | None = None,
    confidence: float = CONFIDENCE,
) -> PairedDifference:
    """Compare two models on the same examples by their summed NLL and token counts.

    Any other figure does too: with ones for tokens it is the mean over examples. Examples with
    the same name in `clusters` belong together and are resampled as one.

    The interval is the studentized bootstrap (Efron and Tibshirani 1993, chapter 12) of the ratio
    Σ(tuned − base) / Σ tokens over resampled examples. On small exams it keeps its level where
    percentile methods do not (docs/decisions/0004-the-exam.md).
    """
    total = sum(n_tokens)
    if not total:
        return PairedDifference(math.nan, math.nan, Interval(math.nan, math.nan))
    changes = [after - before for before, after in zip(base, tuned, strict=True)]
    differences = _sums(changes, clusters)
    return PairedDifference(
        math.fsum(base) / total,
        math.fsum(tuned) / total,
        _ratio_interval(differences, _sums(n_tokens, clusters), seed, confidence),
        permutation_p_value(differences, seed),
        sign_test(differences.tolist()),
    )


def family_confidence(n_intervals: int) -> float:
    """Confidence of each of several intervals that shall hold together (Bonferroni)."""
    return 1 - (1 - CONFIDENCE) / max(1, n_intervals)


def _sums(values: Sequence[float], clusters: Sequence[str] | None) -> NDArray[np.float64]:
    """The sum of each cluster, in order of first appearance: (clusters,)."""
    if clusters is None:
        return np.asarray(values, dtype=np.float64)
    place = {name: index for index, name in enumerate(dict.fromkeys(clusters))}
    where = [place[name] for name in clusters]
    if len(where) != len(values):
        raise ValueError("zip: clusters and values differ in length")
    return np.bincount(where, values, minlength=len(place)).astype(np.float64)


def permutation_p_value(differences: NDArray[np.float64], seed: int) -> float:
    """Two-sided p-value of the sum under random signs (Fisher 1935); NaN for too few.

    Were the two models alike, each difference could as well have been the other way round. Exact
    for up to 12 differences, else from `N_RESAMPLES` drawn signs.
    """
    if len(differences) < MIN_EXAMPLES_FOR_INTERVAL:
        return math.nan
    from scipy.stats import permutation_test

    found = permutation_test(
        (differences,),
        lambda changes, axis: changes.sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=N_RESAMPLES,
        batch=_CHUNK,
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def sign_test(changes: Sequence[float]) -> SignTest:
    """Exact two-sided sign test (Dixon and Mood 1946); what did not change says nothing."""
    lower = sum(change < 0 for change in changes)
    higher = sum(change > 0 for change in changes)
    if lower + higher == 0:
        return SignTest(0, 0, 1.0)
    from scipy.stats import binomtest

    return SignTest(lower, higher, float(binomtest(lower, lower + higher, 0.5).pvalue))


def mcnemar_p_value(
    base: Sequence[bool], tuned: Sequence[bool], clusters: Sequence[str] | None = None
) -> float:
    """Two-sided exact McNemar test (1947) of whether right answers are gained as often as lost.

    A cluster counts once, by whether it gained more than it lost.
    """
    changes = [float(after) - float(before) for before, after in zip(base, tuned, strict=True)]
    return sign_test(_sums(changes, clusters).tolist()).p_value


def _ratio_interval(
    differences: NDArray[np.float64], tokens: NDArray[np.float64], seed: int, confidence: float
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
    tail = (1 - confidence) / 2
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
