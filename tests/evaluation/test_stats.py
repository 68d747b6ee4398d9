"""The statistics behind the verdict, checked against closed forms and by simulation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from finetuning_exam.evaluation.stats import (
    Interval,
    PairedDifference,
    family_confidence,
    mcnemar_p_value,
    paired_difference,
    paired_share_interval,
    permutation_p_value,
    sign_test,
)
from finetuning_exam.evaluation.verdict import Verdict, verdict


def _difference(low: float, high: float) -> PairedDifference:
    return PairedDifference(2.0, 2.0 + (low + high) / 2, Interval(low, high))


def _pairs(n: int, shift: float, seed: int) -> tuple[list[float], list[float], list[int]]:
    """Return summed NLLs of `n` examples whose nats per token differ by `shift` and noise."""
    draw = np.random.default_rng(seed)
    tokens = draw.integers(5, 60, n)
    base = tokens * draw.uniform(1, 4, n)
    tuned = base + tokens * (shift + draw.normal(0, 0.3, n))
    return base.tolist(), tuned.tolist(), tokens.tolist()


# Difference and interval


def test_the_difference_is_of_sums_over_tokens() -> None:
    """Nats per token are all nats over all tokens, so long examples weigh more."""
    found = paired_difference([10.0, 40.0], [8.0, 30.0], [5, 20], seed=0)
    assert (found.base, found.tuned) == (2.0, 38 / 25)
    assert found.difference == pytest.approx(-12 / 25)


@pytest.mark.parametrize("n", [1, 5])
def test_few_examples_have_no_interval(n: int) -> None:
    """Below six examples there is no interval."""
    base, tuned, tokens = _pairs(n, -1.0, 0)
    interval = paired_difference(base, tuned, tokens, 0).interval
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_six_examples_have_an_interval() -> None:
    """With six examples or more there is an interval."""
    assert paired_difference(*_pairs(6, -1.0, 0), 0).interval.high < 0


def test_equal_models_differ_by_exactly_zero() -> None:
    """Equal scores give difference and interval of exactly zero."""
    base, _, tokens = _pairs(30, 0.0, 0)
    found = paired_difference(base, base, tokens, 0)
    assert (found.difference, found.interval) == (0.0, Interval(0.0, 0.0))


def test_a_constant_difference_is_its_own_interval() -> None:
    """If every example gains the same per token, the interval is that gain."""
    found = paired_difference([4.0] * 8, [3.0] * 8, [2] * 8, 0)
    assert found.interval == Interval(-0.5, -0.5)


def test_the_interval_is_drawn_from_its_seed() -> None:
    """The same seed gives the same interval, another seed another one close by."""
    pairs = _pairs(50, -0.1, 3)
    first, again, other = (paired_difference(*pairs, seed).interval for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert (first.low, first.high) == pytest.approx((other.low, other.high), abs=0.02)


def test_the_interval_agrees_with_the_normal_one() -> None:
    """With many examples of equal length the bootstrap interval is the t interval."""
    draw = np.random.default_rng(0)
    differences = draw.normal(-0.1, 0.5, 400)
    found = paired_difference([0.0] * 400, differences.tolist(), [1] * 400, 0).interval
    low, high = stats.t.interval(0.95, 399, differences.mean(), stats.sem(differences))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.01)


def test_examples_are_resampled_with_their_tokens() -> None:
    """The interval of a ratio takes each example's tokens along: it has the error of the delta
    method, not that of tokens drawn apart.
    """
    draw = np.random.default_rng(1)
    tokens = draw.integers(1, 200, 300)
    differences = -0.5 * tokens + draw.normal(0, 0.2, 300)  # nearly constant per token
    found = paired_difference([0.0] * 300, differences.tolist(), tokens.tolist(), 0).interval
    ratio = differences.sum() / tokens.sum()
    residual = differences - ratio * tokens
    error = math.sqrt(float((residual**2).sum())) / float(tokens.sum())
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.2)


@settings(max_examples=25, deadline=None)
@given(
    shift=st.floats(-0.5, 0.5),
    n=st.integers(6, 40),
    seed=st.integers(0, 1000),
)
def test_the_interval_holds_the_difference(shift: float, n: int, seed: int) -> None:
    """The measured difference lies within its own interval; swapping the models mirrors it."""
    base, tuned, tokens = _pairs(n, shift, seed)
    found = paired_difference(base, tuned, tokens, 0)
    assert found.interval.low <= found.difference <= found.interval.high
    mirrored = paired_difference(tuned, base, tokens, 0)
    assert mirrored.difference == pytest.approx(-found.difference)
    assert mirrored.interval.low == pytest.approx(-found.interval.high, abs=0.1)


@pytest.mark.parametrize(("n", "has_interval"), [(1, False), (5, False), (6, True)])
def test_copies_count_once(n: int, has_interval: bool) -> None:
    """Thirty copies of `n` examples are `n` examples: below six there is no interval."""
    base, tuned, tokens = _pairs(n, -1.0, 0)
    names = [str(i) for i in range(n)] * 30
    found = paired_difference(base * 30, tuned * 30, tokens * 30, 0, names)
    once = paired_difference(base, tuned, tokens, 0)
    assert found.difference == pytest.approx(once.difference)
    if has_interval:
        assert (found.interval.low, found.interval.high) == pytest.approx(
            (once.interval.low, once.interval.high)
        )
    else:
        assert math.isnan(found.interval.low)
        assert verdict(found, n) == "too few examples to tell"


def test_names_of_their_own_change_nothing() -> None:
    """If every cluster has one example, `clusters` makes no difference."""
    pairs = _pairs(20, -0.1, 0)
    assert paired_difference(*pairs, 0, [f"c{i}" for i in range(20)]) == paired_difference(
        *pairs, 0
    )


def _assert_bounded(base: list[float], tuned: list[float], tokens: list[int], seed: int) -> None:
    per_token = [(t - b) / n for b, t, n in zip(base, tuned, tokens, strict=True)]
    found = paired_difference(base, tuned, tokens, seed)
    rounding = 1e-12
    assert min(per_token) - rounding <= found.interval.low
    assert found.interval.low - rounding <= found.difference <= found.interval.high + rounding
    assert found.interval.high <= max(per_token) + rounding


def test_nearly_equal_examples_do_not_explode() -> None:
    """With one outlier among equal examples the interval lies between them and takes no side."""
    base, tuned, tokens = [5.1] * 24, [4.3] * 23 + [6.7], [7] * 24
    _assert_bounded(base, tuned, tokens, 0)
    found = paired_difference(base, tuned, tokens, 0)
    assert verdict(found, 24) == "no measurable difference"


@settings(max_examples=40, deadline=None)
@given(
    gains=st.lists(st.sampled_from([-0.8, -0.8 + 1e-13, -0.8, 1.6]), min_size=6, max_size=30),
    n_tokens=st.integers(1, 50),
    seed=st.integers(0, 99),
)
def test_the_interval_lies_within_the_examples(
    gains: list[float], n_tokens: int, seed: int
) -> None:
    """No bound exceeds the smallest or largest difference per token of a single example."""
    tokens = [n_tokens + i % 3 for i in range(len(gains))]
    _assert_bounded([5.1] * len(gains), [5.1 + gain for gain in gains], tokens, seed)


# Verdict


@pytest.mark.parametrize(
    ("low", "high", "n_examples", "is_held_out", "expected"),
    [
        (-0.3, -0.1, 100, True, "improved"),
        (0.1, 0.3, 100, True, "worse"),
        (-0.1, 0.1, 100, True, "no measurable difference"),
        (-0.3, -0.1, 6, True, "improved"),
        (0.1, 0.3, 19, True, "worse"),
        (-0.1, 0.1, 19, True, "too few examples to tell"),
        (-0.1, 0.1, 20, True, "no measurable difference"),
        (0.0, 0.0, 20, True, "no measurable difference"),
        (0.0, 0.0, 19, True, "too few examples to tell"),
        (-0.3, 0.0, 100, True, "no measurable difference"),
        (0.0, 0.3, 100, True, "no measurable difference"),
        (math.nan, math.nan, 5, True, "too few examples to tell"),
        (-0.3, -0.1, 100, False, "too few examples to tell"),
        (0.1, 0.3, 100, False, "too few examples to tell"),
        (-0.1, 0.1, 100, False, "too few examples to tell"),
    ],
)
def test_the_verdict_is_what_the_interval_supports(
    low: float, high: float, n_examples: int, is_held_out: bool, expected: Verdict
) -> None:
    """The verdict takes a side if the interval excludes zero. It never judges training rows, nor
    reports the absence of a difference with fewer than twenty examples.
    """
    found = verdict(_difference(low, high), n_examples, is_held_out=is_held_out)
    assert found == expected


def test_a_difference_of_nan_is_never_an_improvement() -> None:
    """A diverged model has scores of NaN, which give no verdict."""
    found = paired_difference([1.0] * 30, [math.nan] * 30, [1] * 30, 0)
    assert verdict(found, 30) == "too few examples to tell"


@pytest.mark.parametrize("sizes", [(6, 8, 12), (20, 60)])
def test_equal_models_rarely_get_a_verdict(sizes: tuple[int, ...]) -> None:
    """In A/A exams tuned differs from base by noise alone, so every side taken is wrong. The rate
    is at most the nominal 5%, as far as 600 exams can show (binomial test at 1%).
    """
    n_exams = 600
    verdicts = [
        verdict(paired_difference(*_pairs(n, 0.0, 10_000 + seed), seed), n)
        for seed in range(n_exams)
        for n in sizes[seed % len(sizes) :][:1]
    ]
    wrong = sum(it in ("improved", "worse") for it in verdicts)
    assert stats.binomtest(wrong, n_exams, 0.05, alternative="greater").pvalue > 0.01, wrong


@settings(max_examples=30, deadline=None)
@given(changes=st.lists(st.integers(-9, 9), min_size=6, max_size=9))
def test_the_permutation_test_is_exact_for_few(changes: list[int]) -> None:
    """The p-value is the share of all 2ⁿ sign patterns whose sum is at least as extreme."""
    sums = [
        abs(sum(sign * change for sign, change in zip(signs, changes, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(changes))
    ]
    expected = sum(it >= abs(sum(changes)) for it in sums) / len(sums)
    found = permutation_p_value(np.asarray(changes, dtype=np.float64), 0)
    assert found == pytest.approx(expected if sum(changes) else 1.0)


def test_a_side_needs_interval_and_test() -> None:
    """An interval that excludes zero takes no side if the permutation test is not significant."""
    found = replace(_difference(-0.3, -0.1), p_value=0.06)
    assert verdict(found, 100) == "no measurable difference"
    assert verdict(replace(found, p_value=0.05), 100) == "improved"


def test_a_clear_improvement_is_seen() -> None:
    """With 100 examples, a gain of a third of the noise is found almost always."""
    verdicts = [
        verdict(paired_difference(*_pairs(100, -0.15, seed), seed), 100) for seed in range(30)
    ]
    assert verdicts.count("improved") >= 29
    assert "worse" not in verdicts


# McNemar


def _mcnemar(gained: int, lost: int, same: int) -> tuple[list[bool], list[bool]]:
    base = [False] * gained + [True] * lost + [True, False] * same
    tuned = [True] * gained + [False] * lost + [True, False] * same
    return base, tuned


@pytest.mark.parametrize(
    ("gained", "lost", "expected"),
    [(0, 0, 1.0), (5, 5, 1.0), (1, 0, 1.0), (5, 0, 0.0625), (6, 0, 0.03125), (0, 6, 0.03125)],
)
def test_mcnemar_of_small_counts(gained: int, lost: int, expected: float) -> None:
    """The exact p-value of discordant pairs is a sum of binomial coefficients over 2ⁿ."""
    assert mcnemar_p_value(*_mcnemar(gained, lost, 9)) == pytest.approx(expected)


@settings(max_examples=50, deadline=None)
@given(gained=st.integers(0, 40), lost=st.integers(0, 40), same=st.integers(0, 10))
def test_mcnemar_is_the_closed_form(gained: int, lost: int, same: int) -> None:
    """The p-value is min(1, 2 · Σ_{i ≤ min} C(n, i) / 2ⁿ) over n discordant pairs."""
    n = gained + lost
    tail = sum(math.comb(n, i) for i in range(min(gained, lost) + 1)) / 2**n
    assert mcnemar_p_value(*_mcnemar(gained, lost, same)) == pytest.approx(min(1.0, 2 * tail))


def test_a_cluster_of_answers_counts_once() -> None:
    """Ten gains on one fact and one loss on another are one gain against one loss."""
    base, tuned = [False] * 10 + [True], [True] * 10 + [False]
    assert mcnemar_p_value(base, tuned) < 0.05
    assert mcnemar_p_value(base, tuned, ["a"] * 10 + ["b"]) == 1.0


# Signs and families


@settings(max_examples=50, deadline=None)
@given(changes=st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.1, 3.0]), max_size=60))
def test_the_sign_test_is_that_of_scipy(changes: list[float]) -> None:
    """Falls and rises are counted, zeros are not, and the p-value is the binomial one."""
    found = sign_test(changes)
    assert (found.n_lower, found.n_higher) == (
        sum(change < 0 for change in changes),
        sum(change > 0 for change in changes),
    )
    n = found.n_lower + found.n_higher
    expected = stats.binomtest(found.n_higher, n).pvalue if n else 1.0
    assert found.p_value == pytest.approx(expected)


def test_signs_are_of_clusters() -> None:
    """A cluster's examples are summed before its sign is taken."""
    found = paired_difference([5.0] * 4, [4.0, 5.5, 5.5, 5.5], [1] * 4, 0, ["a", "a", "b", "b"])
    assert (found.signs.n_lower, found.signs.n_higher) == (1, 1)


def test_intervals_that_hold_jointly_are_wider() -> None:
    """A single interval has 95% confidence, each of five has 99%, so that about 5% of exams of
    equal models have any interval among five tags that excludes zero.
    """
    assert family_confidence(1) == family_confidence(0) == pytest.approx(0.95)
    assert family_confidence(5) == pytest.approx(0.99)
    pairs = _pairs(40, -0.1, 3)
    narrow = paired_difference(*pairs, 0).interval
    wide = paired_difference(*pairs, 0, confidence=family_confidence(5)).interval
    assert wide.low < narrow.low
    assert narrow.high < wide.high
    wrong = 0
    for exam in range(100):
        intervals = [
            paired_difference(
                *_pairs(40, 0.0, 10 * exam + tag), exam, confidence=family_confidence(5)
            ).interval
            for tag in range(5)
        ]
        wrong += any(it.low > 0 or it.high < 0 for it in intervals)
    assert wrong <= 12


def test_no_examples_have_no_difference() -> None:
    """Without answers the figures are NaN."""
    found = paired_difference([], [], [], 0)
    assert math.isnan(found.base)
    assert math.isnan(found.interval.low)


@pytest.mark.parametrize("values", [([True], [True, False]), ([], [True])])
def test_mcnemar_needs_pairs(values: tuple[Sequence[bool], Sequence[bool]]) -> None:
    """Sides of unequal length are a programming error and raise."""
    with pytest.raises(ValueError, match="zip"):
        mcnemar_p_value(*values)


# Shares


@pytest.mark.parametrize(
    ("gained", "lost", "n", "expected"),
    [
        (1, 7, 21, (-0.517, -0.026)),  # Fagerland, Lydersen and Laake (2014), table on airways
        (0, 0, 25, (-(1.96**2) / (25 + 1.96**2), 1.96**2 / (25 + 1.96**2))),
    ],
)
def test_the_share_interval_has_its_published_values(
    gained: int, lost: int, n: int, expected: tuple[float, float]
) -> None:
    """It is Tango's, also where no example changed."""
    found = paired_share_interval(gained, lost, n)
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-3)


@given(st.integers(1, 40), st.data())
def test_the_share_interval_obeys_its_laws(n: int, data: st.DataObject) -> None:
    """It holds the difference, lies between -1 and 1, and turns round if the models are swapped."""
    gained = data.draw(st.integers(0, n))
    lost = data.draw(st.integers(0, n - gained))
    found = paired_share_interval(gained, lost, n, 0.95)
    assert -1 <= found.low <= (gained - lost) / n <= found.high <= 1
    swapped = paired_share_interval(lost, gained, n, 0.95)
    assert (swapped.low, swapped.high) == (-found.high, -found.low)
    wide = paired_share_interval(gained, lost, n, family_confidence(8))
    assert wide.low <= found.low
    assert found.high <= wide.high


@pytest.mark.parametrize("n_skills", [1, 8])
@pytest.mark.parametrize("n", [6, 25, 200])
def test_the_share_interval_excludes_zero_where_the_exact_test_does(n: int, n_skills: int) -> None:
    """What McNemar's exact test finds at a level, the interval of that confidence shows."""
    confidence = family_confidence(n_skills)
    for lost, gained in itertools.product(range(min(n, 26)), repeat=2):
        if lost + gained > n:
            continue
        changes = [-1.0] * lost + [1.0] * gained
        if sign_test(changes).p_value < 1 - confidence:
            assert paired_share_interval(gained, lost, n, confidence).excludes_zero, (lost, gained)


def test_the_share_interval_covers_the_truth() -> None:
    """In simulated exams of 25 questions at most six of a hundred intervals miss the difference."""
    draw = np.random.default_rng(0)
    chances = [0.02, 0.10, 0.88]  # gained, lost, unchanged
    exams = draw.multinomial(25, chances, 2000)
    intervals = [paired_share_interval(int(b), int(c), 25) for b, c, _ in exams]
    covered = sum(it.low <= -0.08 <= it.high for it in intervals)
    assert covered / len(exams) >= 0.94
