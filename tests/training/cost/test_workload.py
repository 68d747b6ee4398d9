"""Specification of what a training computes: its batches, its passes, and their sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny import BRISK, encoded_rows

from finetuning_exam.data.encoding.encode import Encoded
from finetuning_exam.settings import TrainSettings
from finetuning_exam.training.cost.workload import Size, longest_rows, size_of

FAST = frozenset({"rows", "attention"})


def _settings(rows: int, accumulation: int = 1) -> TrainSettings:
    return replace(
        BRISK, per_device_train_batch_size=rows, gradient_accumulation_steps=accumulation
    )


def _row(length: int, n_supervised: int) -> Encoded:
    ids = tuple(range(length))
    prompt = length - n_supervised
    return Encoded(ids, (-100,) * prompt + ids[prompt:], prompt, 0)


def test_a_stock_pass_is_padded() -> None:
    """Rows are as long as the longest, and the head runs where any row is supervised."""
    short = [_row(10, 2), _row(6, 3)]
    assert size_of(short, frozenset()) == Size(tokens=20, pairs=200, logits=2 * 5)


@pytest.mark.parametrize(
    ("lengths", "tokens", "pairs"),
    [
        ((100,), 100, 100 * 100),
        ((64, 30), 94, 2 * 64 * 64),  # short rows share a group
        ((256,), 256, 128 * 128 + 128 * 256),
        ((400,), 400, 100 * (100 + 200 + 300 + 400)),
        ((400, 180), 580, 100 * (100 + 200 + 300 + 400) + 90 * (90 + 180)),
        ((400, 380), 780, 2 * 100 * (100 + 200 + 300 + 400)),
    ],
)
def test_a_fast_pass_is_packed(lengths: tuple[int, ...], tokens: int, pairs: int) -> None:
    """No token is filling; a row attends in blocks up to itself, like rows side by side."""
    batch = [_row(length, 3) for length in lengths]
    assert size_of(batch, FAST) == Size(tokens, pairs, 3 * len(lengths))


def test_the_longest_rows() -> None:
    """They are those of most tokens, the longest last; all where there are fewer."""
    rows = encoded_rows((5, 9, 2, 7))
    assert [len(row.ids) for row in longest_rows(rows, 2)] == [7, 9]
    assert [len(row.ids) for row in longest_rows(rows, 8)] == [2, 5, 7, 9]
