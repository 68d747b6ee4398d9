"""Output head and cross-entropy combined, a block of rows at a time, without keeping logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from transformers import PreTrainedModel

BLOCK_ROWS = 256
"""Rows of logits in memory at a time."""


class LinearCrossEntropy(Function):
    """Negative log-likelihood of each target under softmax(hidden Wᵀ · scale), in nats.

    hidden: (rows, width); weight: (vocabulary, width), frozen; targets: (rows,) int64. Returns
    (rows,) float32. The forward pass computes the gradient of `hidden` for a unit gradient of each
    row, and the backward pass only scales it (as in Liger Kernel, Hsu et al. 2024). Probabilities
    are always float32.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, scale: float, workspace: Tensor
    ) -> Tensor:
        nll = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        d_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for start in range(0, len(hidden), BLOCK_ROWS):
            rows = slice(start, min(start + BLOCK_ROWS, len(hidden)))
            room = workspace[: rows.stop - start]
            if weight.dtype == room.dtype:
                logits = torch.mm(hidden[rows], weight.t(), out=room)
            else:
                logits = room.copy_(torch.mm(hidden[rows], weight.t()))
            if scale != 1.0:
                logits.mul_(scale)
            target = targets[rows, None]
            found = logits.gather(1, target)
            highest = logits.amax(dim=1, keepdim=True)
            p = torch.ops.aten._softmax.out(logits, 1, False, out=logits)
            # log Σ exp from the likeliest entry's logit and probability, which cannot underflow
            likeliest = p.amax(dim=1, keepdim=True)
            nll[rows] = (highest - likeliest.log() - found).squeeze(1)
            if d_hidden is not None:
                p.scatter_add_(1, target, torch.full_like(target, -1, dtype=p.dtype))
                torch.mm(p.to(weight.dtype), weight, out=d_hidden[rows])
        if d_hidden is not None:
            ctx.save_for_backward(d_hidden.mul_(scale) if scale != 1.0 else d_hidden)
        return nll

    @staticmethod
    def backward(ctx: Any, d_nll: Tensor) -> tuple[Tensor | None, ...]:
        (d_hidden,) = ctx.saved_tensors
        return d_hidden * d_nll.unsqueeze(1).to(d_hidden.dtype), None, None, None, None


def make_workspace(weight: Tensor) -> Tensor:
    """Allocate a block of float32 logits, to be reused between calls, since new pages cost time."""
    dtype = torch.promote_types(weight.dtype, torch.float32)
    with torch.inference_mode(False):  # allocated while scoring, it must also work in training
        return torch.empty(BLOCK_ROWS, len(weight), dtype=dtype, device=weight.device)


def block_bytes(weight: Tensor) -> int:
    """Return the bytes of a block of logits: the workspace, and the product before conversion."""
    size = weight.dtype.itemsize
    return BLOCK_ROWS * len(weight) * (size if size >= 4 else 4 + size)


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, scale: float, workspace: Tensor
) -> Tensor:
    """Apply `LinearCrossEntropy`: (rows,) float32 from hidden (rows, width), targets (rows,)."""
    nll: Tensor = LinearCrossEntropy.apply(hidden, weight, targets, scale, workspace)
    return nll


class LinearLoss:
    """`linear_cross_entropy` of one output head, with a workspace that is allocated once.

    `logit_scale` comes from the model's config (Granite divides its logits).
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._head = model.get_output_embeddings()
        self.logit_scale = 1.0 / getattr(model.config, "logits_scaling", 1.0)
        self._workspace: Tensor | None = None

    def __call__(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Compute the NLL of each target: (rows,) float32 from hidden (rows, width)."""
        weight = self._head.weight
        if self._workspace is None:
            self._workspace = make_workspace(weight)
        return linear_cross_entropy(hidden, weight, targets, self.logit_scale, self._workspace)
