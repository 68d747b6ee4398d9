"""Rows laid out one after another, and a batch split by its tokens."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.encoding.labels import IGNORED
from finetuning_exam.model.fast.packing import pack, split_by_tokens

CPU = torch.device("cpu")


def _row(tokens: list[int]) -> Encoded:
    """A row of these ids, of which the odd ones are supervised: in spans, all of them or none."""
    labels = (token if token % 2 else IGNORED for token in tokens)
    return Encoded(tuple(tokens), tuple(labels), 0, 0)


_ROWS = st.lists(
    st.lists(st.integers(0, 99), min_size=1, max_size=9).map(_row), min_size=1, max_size=7
)


@settings(max_examples=60, deadline=None)
@given(rows=_ROWS)
def test_packing_keeps_every_row(rows: list[Encoded]) -> None:
    """Packed rows are the rows, shortest first and in their order among equals, each token with
    its place in its own row; the attention groups hold all of them.
    """
    found = pack(rows, CPU)
    ordered = sorted(rows, key=lambda row: len(row.ids))
    assert found.ids.tolist() == [token for row in ordered for token in row.ids]
    assert found.positions.tolist() == [at for row in ordered for at in range(len(row.ids))]
    assert found.n_rows == len(rows)
    assert sum(group.rows for group in found.groups) == len(rows)


@settings(max_examples=60, deadline=None)
@given(rows=_ROWS)
def test_each_supervised_token_is_predicted_by_the_one_before_it(rows: list[Encoded]) -> None:
    """Every supervised token but a row's first is a target once, of its own row, and the token
    that predicts it stands right before it.
    """
    found = pack(rows, CPU)
    after = found.predicting + 1
    assert torch.equal(found.ids[after], found.targets)
    assert (found.positions[after] > 0).all()  # never across the border of two rows
    by_row: dict[int, list[tuple[int, int]]] = {index: [] for index in range(len(rows))}
    for row, at, target in zip(
        found.row_of_target.tolist(),
        found.positions[after].tolist(),
        found.targets.tolist(),
        strict=True,
    ):
        by_row[row].append((at, target))
    for index, row in enumerate(rows):
        labels = enumerate(row.labels[1:], start=1)
        assert by_row[index] == [(at, label) for at, label in labels if label != IGNORED]


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(1, 60), max_size=12), budget=st.integers(1, 100))
def test_every_row_is_in_one_part(lengths: list[int], budget: int) -> None:
    """The parts of a batch hold each row once, by length; none is empty, and none exceeds the
    budget but a single row that does so alone.
    """
    parts = split_by_tokens(lengths, budget)
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    assert [index for part in parts for index in part] == order
    for part in parts:
        assert part
        assert len(part) == 1 or sum(lengths[index] for index in part) <= budget


def test_a_batch_within_the_budget_stays_whole() -> None:
    """A batch that the budget holds is one part; twice as much is two, about equally large."""
    assert split_by_tokens([10] * 8, 80) == [list(range(8))]
    assert [len(part) for part in split_by_tokens([10] * 8, 79)] == [4, 4]


@pytest.mark.parametrize("budget", [1, 9])
def test_a_row_over_the_budget_is_a_part(budget: int) -> None:
    """Where no row fits, each is a part by itself."""
    assert split_by_tokens([10, 11, 12], budget) == [[0], [1], [2]]
