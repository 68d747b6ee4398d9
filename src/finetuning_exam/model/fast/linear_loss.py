"""Output head and cross-entropy in one, a block of rows at a time: no row of logits is kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from transformers import PreTrainedModel

BLOCK_ROWS = 256
"""Rows of logits that exist at once."""


class LinearCrossEntropy(Function):
    """Negative log-likelihood of each target under softmax(hidden Wᵀ · scale), in nats.

    hidden: (rows, width); weight: (vocabulary, width), frozen; targets: (rows,) int64. Gives
    (rows,) float32. The gradient of `hidden` is computed in the forward pass, for a unit gradient
    of each row, and only multiplied in the backward pass (as in Liger Kernel, Hsu et al. 2024).
    Probabilities are float32 whatever the dtype.
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
            # log Σ exp: the likeliest entry's logit and probability tell it, and never underflow
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
    """Room for a block of float32 logits; kept from call to call, since fresh pages cost time."""
    dtype = torch.promote_types(weight.dtype, torch.float32)
    with torch.inference_mode(False):  # made while scoring, it must serve a training too
        return torch.empty(BLOCK_ROWS, len(weight), dtype=dtype, device=weight.device)


def block_bytes(weight: Tensor) -> int:
    """Memory of a block of logits: the room, and the product before it is float32."""
    size = weight.dtype.itemsize
    return BLOCK_ROWS * len(weight) * (size if size >= 4 else 4 + size)


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, scale: float, workspace: Tensor
) -> Tensor:
    """`LinearCrossEntropy`: (rows,) float32 from hidden (rows, width) and targets (rows,)."""
    nll: Tensor = LinearCrossEntropy.apply(hidden, weight, targets, scale, workspace)
    return nll


class LinearLoss:
    """`linear_cross_entropy` of one output head, with a workspace that is made once.

    `logit_scale` is the model's own (Granite divides its logits).
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._head = model.get_output_embeddings()
        self.logit_scale = 1.0 / getattr(model.config, "logits_scaling", 1.0)
        self._workspace: Tensor | None = None

    def __call__(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Negative log-likelihood of each target: (rows,) float32 from hidden (rows, width)."""
        weight = self._head.weight
        if self._workspace is None:
            self._workspace = make_workspace(weight)
        return linear_cross_entropy(hidden, weight, targets, self.logit_scale, self._workspace)
