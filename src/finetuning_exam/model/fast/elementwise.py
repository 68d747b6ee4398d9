"""Norm, gate and rotation: one pass forward and one backward each, saving only the inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import gelu, silu

BLOCK_ROWS = 128
"""Rows of a gate processed at a time, so that a block and its temporaries stay in the cache."""


class RMSNorm(Function):
    """y = x / rms(x) · weight over the last dimension (Zhang & Sennrich 2019); frozen weight.

    x: (…, width), contiguous; y has the weight's dtype. The root mean square is always computed in
    float32.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        scale = _inverse_rms(x, eps)
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight).to(weight.dtype)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        x, weight, scale = ctx.saved_tensors
        width = x.shape[-1]
        dx = dy.to(x.dtype) * weight  # the gradient of x · scale
        shared = (dx * x).sum(dim=-1, keepdim=True).mul_(scale.pow(3).div_(-width))
        return dx.mul_(scale).addcmul_(x, shared).to(x.dtype), None, None


def _inverse_rms(x: Tensor, eps: float) -> Tensor:
    """1 / sqrt(mean(x²) + eps): (…, 1) float32."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    scale: Tensor = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return scale


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Apply `RMSNorm` over the last dimension of x; returns x's shape in the weight's dtype."""
    result: Tensor = RMSNorm.apply(x, weight, eps)
    return result


class GatedSilu(Function):
    """y = silu(gate) · up (Shazeer 2020). gate, up: (tokens, inner)."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        dgate, dup = torch.empty_like(gate), torch.empty_like(up)
        for start in range(0, len(gate), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            g, d = gate[rows], dy[rows]
            share = torch.sigmoid(g)
            active = g * share  # silu(g)
            torch.mul(d, active, out=dup[rows])
            # silu'(g) = σ + silu · (1 − σ)
            slope = torch.addcmul(active, active, share, value=-1).add_(share)
            torch.mul(d, up[rows], out=dgate[rows]).mul_(slope)
        return dgate, dup


class GatedGelu(Function):
    """y = gelu_tanh(gate) · up. gate, up: (tokens, inner)."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return gelu(gate, approximate="tanh").mul_(up)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        dup = gelu(gate, approximate="tanh").mul_(dy)
        dgate = torch.ops.aten.gelu_backward(dy * up, gate, approximate="tanh")
        return dgate, dup


class RotateHeads(Function):
    """Rotary embedding (Su et al. 2021, halves paired as in Llama), laid out for attention.

    x: (tokens, groups · per_group · width) → (groups, tokens, per_group, width). cos, sin:
    (tokens, 1, width / 2), already multiplied by the scale of the result.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, groups: int) -> Tensor:
        ctx.save_for_backward(cos, sin)
        width = 2 * cos.shape[-1]
        heads = x.view(len(x), groups, -1, width).transpose(0, 1)
        out = torch.empty(heads.shape, dtype=x.dtype, device=x.device)
        rotate(heads, cos, sin, out)
        return out

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None, None]:
        cos, sin = ctx.saved_tensors
        groups, tokens, per_group, width = dy.shape
        dx = torch.empty(tokens, groups, per_group, width, dtype=dy.dtype, device=dy.device)
        rotate(dy, cos, -sin, dx.transpose(0, 1))
        return dx.view(tokens, -1), None, None, None


def rotate(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> None:
    """Rotate each pair (i, i + width / 2) of the last dimension into `out`."""
    first, second = x.chunk(2, dim=-1)
    out_first, out_second = out.chunk(2, dim=-1)
    torch.mul(first, cos, out=out_first).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=out_second).addcmul_(first, sin)
