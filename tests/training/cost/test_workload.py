"""The size of a pass counts tokens, attention pairs and logits as they are computed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny import BRISK, encoded_rows

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.settings import FastPiece, TrainSettings
from finetuning_exam.training.cost.workload import Size, longest_rows, size_of

FAST: frozenset[FastPiece] = frozenset({"rows", "attention"})


def _settings(rows: int, accumulation: int = 1) -> TrainSettings:
    return replace(
        BRISK, per_device_train_batch_size=rows, gradient_accumulation_steps=accumulation
    )


def _row(length: int, n_supervised: int) -> Encoded:
    ids = tuple(range(length))
    prompt = length - n_supervised
    return Encoded(ids, (-100,) * prompt + ids[prompt:], prompt, 0)


def test_a_stock_pass_is_padded() -> None:
    """Every row is padded to the longest, and the head runs wherever any row is supervised."""
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
    """There is no padding; rows attend in causal blocks, grouped with rows of similar length."""
    batch = [_row(length, 3) for length in lengths]
    assert size_of(batch, FAST) == Size(tokens, pairs, 3 * len(lengths))


def test_the_longest_rows() -> None:
    """The rows with the most tokens are returned, longest last, or all if there are fewer."""
    rows = encoded_rows((5, 9, 2, 7))
    assert [len(row.ids) for row in longest_rows(rows, 2)] == [7, 9]
    assert [len(row.ids) for row in longest_rows(rows, 8)] == [2, 5, 7, 9]
