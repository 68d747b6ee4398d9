"""Several adapted projections of the same input in one function that saves only the input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import linear


@dataclass(frozen=True, slots=True)
class Projection:
    """y = x Wᵀ + bias + scale · x Aᵀ Bᵀ (Hu et al. 2021); the last term only with an adapter.

    weight: (out, in), frozen; bias: (out,) or absent, frozen; a: (r, in); b: (out, r).
    """

    weight: Tensor
    bias: Tensor | None = None
    a: Tensor | None = None
    b: Tensor | None = None
    scale: float = 1.0

    @property
    def rank(self) -> int:
        """Rank of the adapter, or 0."""
        return 0 if self.a is None else len(self.a)


class JointProjections(Function):
    """All projections of one input; the gradient of the input is accumulated in place."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, projections: Sequence[Projection], *adapters: Tensor
    ) -> tuple[Tensor, ...]:
        matrices = [it.a for it in projections if it.a is not None]
        down = torch.cat(matrices).to(x.dtype) if matrices else None  # (sum of ranks, in)
        inner = None if down is None else linear(x, down)  # (tokens, sum of ranks)
        outputs: list[Tensor] = []
        ups: list[Tensor] = []
        start = 0
        for it in projections:
            y = linear(x, it.weight, it.bias)
            if it.b is not None and inner is not None:
                ups.append(it.b.to(x.dtype))
                y.addmm_(inner[:, start : start + it.rank], ups[-1].t(), alpha=it.scale)
                start += it.rank
            outputs.append(y)
        ctx.projections, ctx.down, ctx.ups = projections, down, ups
        ctx.save_for_backward(x if down is not None else None, inner, *adapters)
        ctx.set_materialize_grads(True)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, inner, *adapters = ctx.saved_tensors
        projections: Sequence[Projection] = ctx.projections
        ups = zip(adapters[1::2], ctx.ups, strict=True)
        adapter_grads: list[Tensor | None] = []
        inner_grads: list[Tensor] = []
        start = 0
        for it, dy in zip(projections, grads, strict=True):
            if not it.rank:
                continue
            b, up = next(ups)
            part = inner[:, start : start + it.rank]
            start += it.rank
            # The product is three times as fast if the narrow matrix has contiguous rows.
            inner_grads.append(linear(dy, up.t().contiguous()).mul_(it.scale))
            adapter_grads += [None, (part.t() @ dy).mul_(it.scale).t().to(b.dtype)]
        d_inner = torch.cat(inner_grads, dim=1) if inner_grads else None
        if d_inner is not None:
            d_down = d_inner.t() @ x  # (sum of ranks, in)
            ranks = [it.rank for it in projections if it.rank]
            for index, part in enumerate(d_down.split(ranks)):
                adapter_grads[2 * index] = part.to(adapters[2 * index].dtype)
        return _input_gradient(ctx, projections, grads, d_inner, ctx.down), None, *adapter_grads


def _input_gradient(
    ctx: Any,
    projections: Sequence[Projection],
    grads: Sequence[Tensor],
    d_inner: Tensor | None,
    down: Tensor | None,
) -> Tensor | None:
    """Compute the gradient of the input, (tokens, in), unless nothing below is trained."""
    if not ctx.needs_input_grad[0]:
        return None
    dx: Tensor | None = None
    for it, dy in zip(projections, grads, strict=True):
        dx = dy @ it.weight if dx is None else dx.addmm_(dy, it.weight)
    assert dx is not None
    if d_inner is not None and down is not None:
        dx.addmm_(d_inner, down)
    return dx


def project(x: Tensor, projections: Sequence[Projection]) -> tuple[Tensor, ...]:
    """Apply every projection to x (tokens, in); each result is (tokens, out)."""
    adapters = [part for it in projections for part in (it.a, it.b) if part is not None]
    outputs: tuple[Tensor, ...] = JointProjections.apply(x, tuple(projections), *adapters)
    return outputs
