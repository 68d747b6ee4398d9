"""Specification of the lengths of rows."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.encoding.labels import IGNORED
from finetuning_exam.data.encoding.lengths import Lengths, row_lengths


def _rows(lengths: Sequence[int]) -> list[Encoded]:
    """Return rows of these lengths with the last token supervised."""
    return [Encoded((7,) * n, (*(IGNORED,) * (n - 1), 7), n - 1, 1) for n in lengths]


def test_lengths_of_a_few_rows() -> None:
    """The median of five rows, the greatest of fewer than twenty, and the sums."""
    assert row_lengths(_rows([9, 2, 4, 3, 8]), 64) == Lengths(
        n_rows=5,
        shortest=2,
        median=4,
        percentile_95=9,
        longest=9,
        n_tokens=26,
        n_supervised=5,
        limit=64,
    )


@pytest.mark.parametrize(
    ("n", "median", "percentile"),
    [(1, 1, 1), (2, 1, 2), (20, 10, 19), (100, 50, 95), (101, 51, 96)],
)
def test_percentiles_are_lengths_of_rows(n: int, median: int, percentile: int) -> None:
    """For rows of 1 to n tokens: the smallest length that half, or 95%, do not exceed."""
    found = row_lengths(_rows(range(n, 0, -1)), 200)
    assert (found.median, found.percentile_95) == (median, percentile)


def test_no_rows_have_no_lengths() -> None:
    """Without rows everything but the limit is zero."""
    assert row_lengths([], 64) == Lengths(0, 0, 0, 0, 0, 0, 0, 64)


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_lengths_are_in_order(lengths: list[int]) -> None:
    """For any rows: shortest ≤ median ≤ 95% ≤ longest, and at least 95% are within it."""
    found = row_lengths(_rows(lengths), 64)
    assert found.shortest <= found.median <= found.percentile_95 <= found.longest
    assert (found.shortest, found.longest) == (min(lengths), max(lengths))
    assert sum(n <= found.percentile_95 for n in lengths) * 100 >= 95 * len(lengths)
    assert found.n_tokens == sum(lengths)
