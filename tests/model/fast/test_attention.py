"""Attention of packed rows: each row's own causal attention, whatever stands beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import assert_gradients_close, gradient_of
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn.functional import scaled_dot_product_attention

from finetuning_exam.model.fast import attention
from finetuning_exam.model.fast.attention import (
    MAX_PADDING,
    SHORT,
    Group,
    causal_attention,
    make_groups,
)

CPU = torch.device("cpu")
KEYS, WIDTH = 2, 4


def _qkv(tokens: int, per_key: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    """Random q (keys, tokens, per key, width), k and v (keys, tokens, 1, width)."""
    generator = torch.Generator().manual_seed(tokens)
    shapes = [(KEYS, tokens, heads, WIDTH) for heads in (per_key, 1, 1)]
    return tuple(torch.randn(shape, dtype=dtype, generator=generator) for shape in shapes)


def _row_by_row(
    q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], window: int | None
) -> Tensor:
    """PyTorch's attention of each row alone, with a mask as plain as it can be."""
    parts: list[Tensor] = []
    start = 0
    for length in lengths:
        rows = slice(start, start + length)
        distance = torch.arange(length)[:, None] - torch.arange(length)
        is_seen = distance >= 0
        if window is not None:
            is_seen &= distance < window
        heads = [
            scaled_dot_product_attention(
                q[:, rows, head], k[:, rows, 0], v[:, rows, 0], attn_mask=is_seen, scale=1.0
            )
            for head in range(q.shape[2])
        ]
        parts.append(torch.stack(heads, dim=2))
        start += length
    return torch.cat(parts, dim=1)


def _compare(lengths: Sequence[int], per_key: int, window: int | None) -> None:
    tokens = sum(lengths)
    upstream = torch.randn(KEYS, tokens, per_key, WIDTH, generator=torch.Generator().manual_seed(5))
    groups = make_groups(lengths, CPU)
    results: list[tuple[Tensor, dict[str, Tensor]]] = []
    runs: tuple[Callable[[Tensor, Tensor, Tensor], Tensor], ...] = (
        lambda q, k, v: causal_attention(q, k, v, groups, window),
        lambda q, k, v: _row_by_row(q, k, v, lengths, window),
    )
    for run in runs:
        leaves = dict(zip("qkv", (x.requires_grad_() for x in _qkv(tokens, per_key)), strict=True))
        out = run(*leaves.values())
        out.backward(upstream)
        results.append((out.detach(), {name: gradient_of(x) for name, x in leaves.items()}))
    (found, gradients), (expected, stock) = results
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    if max(lengths) == 1:  # a lone token attends to itself, whatever its query
        assert not gradients["q"].any()
        assert not gradients["k"].any()
        stock = {"v": stock["v"]}
    assert_gradients_close(gradients, stock)


@pytest.mark.parametrize("per_key", [1, 3])
@pytest.mark.parametrize(
    "lengths",
    [pytest.param((length,), id=str(length)) for length in (1, 2, 63, 64, 65, 130)]
    + [
        pytest.param((1, 1, 1), id="single tokens"),
        pytest.param((7, 7), id="equal"),
        pytest.param((65, 65, 65), id="equal in blocks"),
        pytest.param((1, 3, 40, 63, 64), id="short ones together"),
        pytest.param((100, 110, 129, 130), id="long ones with padding"),
        pytest.param((2, 5, 5, 64, 65, 70, 130), id="several groups"),
    ],
)
def test_attention_is_each_rows_own(lengths: tuple[int, ...], per_key: int) -> None:
    """Values and gradients are those of PyTorch's attention over each row alone, also where
    several queries share a key, rows of unequal lengths share a group, and rows span blocks.
    """
    _compare(lengths, per_key, None)


@pytest.mark.parametrize("window", [1, 2, 30, 64, 65, 100, 131])
@pytest.mark.parametrize(
    "lengths", [pytest.param((20,), id="one"), pytest.param((1, 40, 60, 66, 130, 130), id="many")]
)
def test_a_window_hides_what_is_further_back(lengths: tuple[int, ...], window: int) -> None:
    """With a window a token sees that many tokens, itself included: of rows that are shorter, as
    long and longer, in every block.
    """
    if window == 1:  # only v matters: q and k have no gradient
        q, k, v = _qkv(sum(lengths), 2)
        found = causal_attention(q, k, v, make_groups(lengths, CPU), 1)
        torch.testing.assert_close(found, v.expand_as(found))
        return
    _compare(lengths, 2, window)


def test_a_window_hides_something() -> None:
    """The window of the test above changes the result, so that the comparison can fail."""
    q, k, v = _qkv(130, 2)
    groups = make_groups((130,), CPU)
    whole = causal_attention(q, k, v, groups)
    assert torch.equal(causal_attention(q, k, v, groups, 130), whole)
    narrow = causal_attention(q, k, v, groups, 129)
    assert torch.equal(narrow[:, :129], whole[:, :129])
    assert not torch.equal(narrow[:, 129], whole[:, 129])


@pytest.mark.parametrize("window", [None, 3])
def test_gradients_are_the_numerical_ones(
    monkeypatch: pytest.MonkeyPatch, window: int | None
) -> None:
    """In float64, in blocks of three, the gradients are those of finite differences."""
    monkeypatch.setattr(attention, "BLOCK", 3)
    lengths = (1, 2, 7)
    groups = make_groups(lengths, CPU)
    inputs = [x.requires_grad_() for x in _qkv(sum(lengths), 2, torch.float64)]
    assert gradcheck(lambda q, k, v: causal_attention(q, k, v, groups, window), inputs)


def _tokens_of(group: Group) -> list[int]:
    """The tokens of a group, row by row, filling left out."""
    if group.filling is None:
        return list(range(group.start, group.start + group.rows * group.length))
    found: list[int] = group.filling.token[group.filling.real].tolist()
    return found


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 3 * SHORT), min_size=1, max_size=12).map(sorted))
def test_groups_hold_every_token_once(lengths: list[int]) -> None:
    """Groups hold all tokens in their order, each once; a group's rows are those of the batch,
    empty positions point to the row's own first token, and groups of long rows have few.
    """
    groups = make_groups(lengths, CPU)
    assert [token for group in groups for token in _tokens_of(group)] == list(range(sum(lengths)))
    assert sum(group.rows for group in groups) == len(lengths)
    rest = list(lengths)
    for group in groups:
        rows, rest = rest[: group.rows], rest[group.rows :]
        assert group.start == sum(lengths) - sum(rest) - sum(rows)
        assert group.length == max(rows)
        if group.filling is None:
            assert set(rows) == {group.length}
            continue
        start = group.start
        expected: list[int] = []
        for length in rows:
            expected += [*range(start, start + length), *[start] * (group.length - length)]
            start += length
        assert group.filling.token.tolist() == expected
        real, empty = set(group.filling.real.tolist()), set(group.filling.empty.tolist())
        size = group.rows * group.length
        assert real | empty == set(range(size))
        assert real & empty == set()
        assert real == {at for at in range(size) if at % group.length < rows[at // group.length]}
        assert group.length <= SHORT or len(empty) <= MAX_PADDING * size
