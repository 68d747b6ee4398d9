"""The lengths of rows in tokens, and how much of them is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from finetuning_exam.data.encoding.encoder import Encoded


@dataclass(frozen=True, slots=True)
class Lengths:
    """The token counts of rows; `limit` is the most that a row may have."""

    n_rows: int
    shortest: int
    median: int
    percentile_95: int
    longest: int
    n_tokens: int
    n_supervised: int
    limit: int


def row_lengths(rows: Sequence[Encoded], limit: int) -> Lengths:
    """Summarize the lengths of rows; all are zero if there are none."""
    lengths = sorted(len(row.ids) for row in rows)
    if not lengths:
        return Lengths(0, 0, 0, 0, 0, 0, 0, limit)
    return Lengths(
        len(lengths),
        lengths[0],
        _percentile(lengths, 0.5),
        _percentile(lengths, 0.95),
        lengths[-1],
        sum(lengths),
        sum(row.n_supervised for row in rows),
        limit,
    )


def _percentile(ordered: Sequence[int], share: float) -> int:
    """Return the smallest value that at least this share of the values does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
