"""Causal attention within each row of a packed batch.

There is no full mask and almost no padding, and above the diagonal only blocks on it are computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

BLOCK = 128
"""Queries whose scores are computed together; keys after the block are skipped."""
MAX_PADDING = 0.25
"""Largest share of padding in a group's positions; padding costs attention time only."""
SHORT = 64
"""Rows of up to this many tokens share one group, since many small products would cost more."""


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of a packed batch whose attention is computed together, each with `length` positions.

    The rows' tokens are contiguous, starting at token `start`. If the rows differ in length,
    `filling` maps positions to tokens.
    """

    start: int
    rows: int
    length: int
    filling: Filling | None


@dataclass(frozen=True, slots=True)
class Filling:
    """The positions of a group whose rows differ in length; index tensors are int64.

    `token` (rows · length,) is the batch's token at each position. Positions after a row's end are
    `empty` and point to the row's first token; all others are `real`.
    """

    token: Tensor
    real: Tensor
    empty: Tensor


def make_groups(lengths: Sequence[int], device: torch.device) -> tuple[Group, ...]:
    """Group contiguous rows, sorted by length, into groups of similar length."""
    groups: list[Group] = []
    first = start = 0
    while first < len(lengths):
        last = first + 1
        while last < len(lengths) and _fits(lengths[first : last + 1]):
            last += 1
        groups.append(_group(start, lengths[first:last], device))
        start += sum(lengths[first:last])
        first = last
    return tuple(groups)


def _fits(lengths: Sequence[int]) -> bool:
    longest = max(lengths)
    padded = longest * len(lengths)
    return longest <= SHORT or padded - sum(lengths) <= MAX_PADDING * padded


def _group(start: int, lengths: Sequence[int], device: torch.device) -> Group:
    longest = max(lengths)
    if min(lengths) == longest:
        return Group(start, len(lengths), longest, None)
    first = start
    token: list[int] = []
    real: list[int] = []
    empty: list[int] = []
    for length in lengths:
        n_empty = longest - length
        real += range(len(token), len(token) + length)
        empty += range(len(token) + length, len(token) + longest)
        token += [*range(start, start + length), *[start] * n_empty]
        start += length
    filling = Filling(*(torch.tensor(found, device=device) for found in (token, real, empty)))
    return Group(first, len(lengths), longest, filling)


class CausalAttention(Function):
    """softmax(q kᵀ) v (Vaswani et al. 2017), where a token attends to its row up to itself.

    q: (key heads, tokens, query heads per key head, width), already scaled; k, v: (key heads,
    tokens, 1, width). Returns q's shape. With a `window`, a token attends to that many tokens,
    including itself. The probabilities are kept for the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, rows: Sequence[Group], window: int | None
    ) -> Tensor:
        out = torch.empty_like(q)
        kept: list[list[Tensor]] = []
        for group in rows:
            part = _gather(q, group), _gather(k, group), _gather(v, group)
            answer, probabilities = _attend(*part, window)
            _scatter(out, answer, group)
            kept.append(probabilities)
        ctx.save_for_backward(q, k, v, *(p for group_p in kept for p in group_p))
        ctx.rows, ctx.window = rows, window
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *kept = ctx.saved_tensors
        grads = [torch.empty_like(x) for x in (q, k, v)]
        used = 0
        for group in ctx.rows:
            n_blocks = len(_blocks(group.length))
            part = _gather(q, group), _gather(k, group), _gather(v, group)
            d_part = _gather(d_out.contiguous(), group)
            if group.filling is not None:  # no gradient flows into empty positions
                positions = d_part.view(len(q), -1, q.shape[2] * q.shape[3])
                positions.index_fill_(1, group.filling.empty, 0.0)
            found = _attend_backward(*part, d_part, kept[used : used + n_blocks], ctx.window)
            used += n_blocks
            for grad, value in zip(grads, found, strict=True):
                _scatter(grad, value, group)
        return *grads, None, None


def _gather(x: Tensor, group: Group) -> Tensor:
    """Gather a group: (heads, tokens, per key, width) → (heads · rows, length · per key, width)."""
    heads, _, per_key, width = x.shape
    if group.filling is None:
        part = x[:, group.start : group.start + group.rows * group.length]
    else:
        part = x.index_select(1, group.filling.token)
    return part.reshape(heads * group.rows, group.length * per_key, width)


def _scatter(x: Tensor, part: Tensor, group: Group) -> None:
    """Scatter a group back, the inverse of `_gather`; empty positions are dropped."""
    heads, _, per_key, width = x.shape
    part = part.view(heads, group.rows * group.length, per_key, width)
    if group.filling is not None:
        part = part.index_select(1, group.filling.real)
    x[:, group.start : group.start + part.shape[1]] = part


def _blocks(length: int) -> list[tuple[int, int]]:
    """Split positions into even blocks of at most `BLOCK`, each as (first, end)."""
    n = -(-length // BLOCK)
    return [(length * i // n, length * (i + 1) // n) for i in range(n)]


def _attend(q: Tensor, k: Tensor, v: Tensor, window: int | None) -> tuple[Tensor, list[Tensor]]:
    """Outputs like q, and each block's probabilities (batch, queries · per key, keys)."""
    per_key = q.shape[1] // k.shape[1]
    out = torch.empty_like(q)
    kept: list[Tensor] = []
    for first, end in _blocks(k.shape[1]):
        low = 0 if window is None else max(0, first - window + 1)
        queries = slice(first * per_key, end * per_key)
        scores = torch.bmm(q[:, queries], k[:, low:end].transpose(1, 2))
        _mask(scores, first, end, low, per_key, window)
        p = torch.softmax(scores, dim=-1)
        out[:, queries] = torch.bmm(p, v[:, low:end])
        kept.append(p)
    return out, kept


def _attend_backward(
    q: Tensor, k: Tensor, v: Tensor, d_out: Tensor, kept: Sequence[Tensor], window: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    per_key = q.shape[1] // k.shape[1]
    dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
    for (first, end), p in zip(_blocks(k.shape[1]), kept, strict=True):
        low = 0 if window is None else max(0, first - window + 1)
        queries = slice(first * per_key, end * per_key)
        d_block = d_out[:, queries]
        dv[:, low:end].baddbmm_(p.transpose(1, 2), d_block)
        dp = torch.bmm(d_block, v[:, low:end].transpose(1, 2))
        ds = torch.ops.aten._softmax_backward_data(dp, p, -1, p.dtype)
        dq[:, queries] = torch.bmm(ds, k[:, low:end])
        dk[:, low:end].baddbmm_(ds.transpose(1, 2), q[:, queries])
    return dq, dk, dv


def _mask(scores: Tensor, first: int, end: int, low: int, per_key: int, window: int | None) -> None:
    """Add -inf where a key comes after its query, or a window or more before it."""
    if window is not None and end > window:
        scores += _window_mask(first, end, low, per_key, window, scores.dtype, scores.device)
    else:
        scores[:, :, first - low :] += _causal_mask(
            end - first, per_key, scores.dtype, scores.device
        )


@lru_cache(maxsize=512)
def _causal_mask(length: int, per_key: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(length · per key, length): -inf above the diagonal, else 0."""
    mask = torch.full((length, length), float("-inf"), dtype=dtype, device=device).triu_(1)
    return mask.repeat_interleave(per_key, dim=0)


@lru_cache(maxsize=64)
def _window_mask(
    first: int,
    end: int,
    low: int,
    per_key: int,
    window: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """(queries · per key, keys): -inf for keys outside (query − window, query], else 0."""
    query = torch.arange(first, end, device=device).unsqueeze(1)
    key = torch.arange(low, end, device=device).unsqueeze(0)
    is_hidden = (key > query) | (key <= query - window)
    mask = torch.zeros(is_hidden.shape, dtype=dtype, device=device)
    return mask.masked_fill_(is_hidden, float("-inf")).repeat_interleave(per_key, dim=0)


def causal_attention(
    q: Tensor, k: Tensor, v: Tensor, rows: Sequence[Group], window: int | None = None
) -> Tensor:
    """Apply `CausalAttention`; returns q's shape."""
    out: Tensor = CausalAttention.apply(q, k, v, tuple(rows), window)
    return out
