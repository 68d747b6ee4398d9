"""The statistics behind the verdict: bootstrap intervals, permutation and sign tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
N_RESAMPLES = 4999
_MIN_SPREAD = 1e-3
"""Smallest standard error of a resample, as a share of the sample's standard error."""
_CHUNK = 256
"""Resamples drawn at a time, so that memory does not grow with `N_RESAMPLES`."""
_PRECISION = 1e-9
"""Accuracy of the bounds that are found by bisection."""
MIN_EXAMPLES_FOR_INTERVAL = 6
"""With five examples even a unanimous sign test has p > 0.05 (2 · 0.5⁵ = 0.0625)."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval; its bounds are NaN if there are too few examples for one."""

    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """True if both bounds lie on the same side of zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class SignTest:
    """Number of clusters whose figure fell and rose, and the two-sided p-value of the counts."""

    n_lower: int
    n_higher: int
    p_value: float


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Base against tuned: the sum over all examples divided by all tokens (or by all examples).

    `p_value` is that of the permutation test, NaN if there are too few clusters. `signs` is the
    sign test of the same differences, one per cluster.
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


@dataclass(frozen=True, slots=True)
class Divergence:
    """KL(base‖tuned) in nats per token: the mean over the predicted tokens of some texts, with its
    95% interval, by the bootstrap of texts.
    """

    kl_per_token: float
    interval: Interval
    n_tokens: int


def paired_difference(
    base: Sequence[float],
    tuned: Sequence[float],
    n_tokens: Sequence[int],
    seed: int,
    clusters: Sequence[str] | None = None,
    confidence: float = CONFIDENCE,
) -> PairedDifference:
    """Compare two models on the same examples by their summed NLL and token counts.

    Any other figure works too: with one token per example, the result is a difference of means.
    Examples with the same name in `clusters` are resampled together; without `clusters` each
    example stands alone.

    The interval is the studentized bootstrap (Efron and Tibshirani 1993, chapter 12) of the ratio
    Σ(tuned − base) / Σ tokens over resampled examples. On small exams it keeps its confidence
    level, which percentile methods do not (docs/decisions/0004-the-exam.md).
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


def divergence(kl: Sequence[float], n_tokens: Sequence[int], seed: int) -> Divergence:
    """Return the mean KL per token of texts, from the sum and the number of tokens of each."""
    found = paired_difference([0.0] * len(kl), kl, n_tokens, seed)
    return Divergence(found.difference, found.interval, sum(n_tokens))


def family_confidence(n_intervals: int) -> float:
    """Return the confidence of each of `n_intervals` that together hold 95% (Bonferroni)."""
    return 1 - (1 - CONFIDENCE) / max(1, n_intervals)


def _sums(values: Sequence[float], clusters: Sequence[str] | None) -> NDArray[np.float64]:
    """Return the sum of each cluster, in order of first appearance: (clusters,)."""
    if clusters is None:
        return np.asarray(values, dtype=np.float64)
    place = {name: index for index, name in enumerate(dict.fromkeys(clusters))}
    where = [place[name] for name in clusters]
    if len(where) != len(values):
        raise ValueError("clusters and values differ in length")
    return np.bincount(where, values, minlength=len(place)).astype(np.float64)


def permutation_p_value(differences: NDArray[np.float64], seed: int) -> float:
    """Return the two-sided p-value of the sum under random signs (Fisher 1935).

    If the models were equal, each difference would be as likely to have the opposite sign. Exact
    for up to 12 differences, otherwise from `N_RESAMPLES` random draws. NaN if there are fewer than
    `MIN_EXAMPLES_FOR_INTERVAL`.
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
    """Run the exact two-sided sign test (Dixon and Mood 1946), ignoring changes of zero."""
    lower = sum(change < 0 for change in changes)
    higher = sum(change > 0 for change in changes)
    if lower + higher == 0:
        return SignTest(0, 0, 1.0)
    from scipy.stats import binomtest

    return SignTest(lower, higher, float(binomtest(lower, lower + higher, 0.5).pvalue))


def mcnemar_p_value(
    base: Sequence[bool], tuned: Sequence[bool], clusters: Sequence[str] | None = None
) -> float:
    """Return the p-value of McNemar's exact two-sided test (1947) of right answers gained and lost.

    Each cluster counts once, by the sign of its gains minus its losses.
    """
    changes = [float(after) - float(before) for before, after in zip(base, tuned, strict=True)]
    return sign_test(_sums(changes, clusters).tolist()).p_value


def paired_share_interval(
    n_gained: int, n_lost: int, n_pairs: int, confidence: float = CONFIDENCE
) -> Interval:
    """Return the score interval of a difference of two shares of the same examples (Tango 1998).

    The difference is (`n_gained` - `n_lost`) / `n_pairs`, of examples that are right only after and
    only before. Unlike a bootstrap, the interval has a width even if no example changed, because a
    few examples do not show that none would.
    """
    return Interval(
        _least_difference(n_gained, n_lost, n_pairs, confidence),
        -_least_difference(n_lost, n_gained, n_pairs, confidence),
    )


def _least_difference(n_gained: int, n_lost: int, n_pairs: int, confidence: float) -> float:
    """Return the smallest difference that the score test does not reject, by bisection."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rejected, accepted = -1.0, (n_gained - n_lost) / n_pairs
    while accepted - rejected > _PRECISION:
        difference = (rejected + accepted) / 2
        # The likeliest share of examples lost, given the difference: a quadratic equation.
        b = (2 * n_pairs - n_gained + n_lost) * difference - n_gained - n_lost
        c = n_lost * difference * (1 - difference)
        lost = (math.sqrt(b * b + 8 * n_pairs * c) - b) / (4 * n_pairs)
        variance = n_pairs * max(0.0, 2 * lost + difference * (1 - difference))
        if n_gained - n_lost - n_pairs * difference > z * math.sqrt(variance):
            rejected = difference
        else:
            accepted = difference
    return accepted


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
        # A resample of identical examples has no spread; give it a small one.
        deviations.append((ratios - ratio) / np.maximum(errors, _MIN_SPREAD * error))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(deviations), [tail, 1 - tail])
    # A ratio of sums lies between the smallest and the largest ratio of a single example.
    per_token = differences / tokens
    bounds = np.clip([ratio - high * error, ratio - low * error], per_token.min(), per_token.max())
    return Interval(float(bounds[0]), float(bounds[1]))


def _ratio_and_error(
    differences: NDArray[np.float64], tokens: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ratio of sums over the last axis, and its standard error by linearization.

    Cochran, Sampling Techniques (1977), equation 6.13, without the finite population correction.
    """
    n_examples = differences.shape[-1]
    total = tokens.sum(axis=-1)
    ratio: NDArray[np.float64] = differences.sum(axis=-1) / total
    residuals = differences - ratio[..., np.newaxis] * tokens
    spread = (residuals**2).sum(axis=-1) * n_examples / (n_examples - 1)
    error: NDArray[np.float64] = np.sqrt(spread) / total
    return ratio, error
