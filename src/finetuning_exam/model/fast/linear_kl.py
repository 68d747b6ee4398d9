"""Output head and Kullback-Leibler divergence combined, a block of rows at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from finetuning_exam.model.fast.linear_loss import BLOCK_ROWS


class LinearKl(Function):
    """KL(base‖tuned) of the next token in nats, from the last hidden states of both models.

    hidden, base: (rows, width); weight: (vocabulary, width), frozen, the head that both share. With
    p = softmax(base Wᵀ · scale) and q = softmax(hidden Wᵀ · scale), the result is the sum of
    p (log p - log q) over the vocabulary: (rows,) float32. Its gradient by the tuned logits is
    q - p. Logits exist for `BLOCK_ROWS` rows at a time. The forward pass computes the gradient of
    `hidden` for a unit gradient of each row, and the backward pass only scales it.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, base: Tensor, weight: Tensor, scale: float) -> Tensor:
        kl = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        d_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for start in range(0, len(hidden), BLOCK_ROWS):
            rows = slice(start, min(start + BLOCK_ROWS, len(hidden)))
            log_q = log_probabilities(hidden[rows], weight, scale)
            log_p = log_probabilities(base[rows], weight, scale)
            p = log_p.exp()
            kl[rows] = p.mul(log_p.sub_(log_q)).sum(dim=1)
            if d_hidden is not None:
                d_logits = log_q.exp_().sub_(p)
                torch.mm(d_logits.to(weight.dtype), weight, out=d_hidden[rows])
        if d_hidden is not None:
            ctx.save_for_backward(d_hidden.mul_(scale) if scale != 1.0 else d_hidden)
        return kl

    @staticmethod
    def backward(ctx: Any, d_kl: Tensor) -> tuple[Tensor | None, ...]:
        (d_hidden,) = ctx.saved_tensors
        return d_hidden * d_kl.unsqueeze(1).to(d_hidden.dtype), None, None, None


def log_probabilities(hidden: Tensor, weight: Tensor, scale: float) -> Tensor:
    """Return log softmax(hidden Wᵀ · scale): (rows, vocabulary) float32."""
    logits = torch.mm(hidden.to(weight.dtype), weight.t()).float()
    return torch.log_softmax(logits.mul_(scale) if scale != 1.0 else logits, dim=1)


def linear_kl(hidden: Tensor, base: Tensor, weight: Tensor, scale: float) -> Tensor:
    """Apply `LinearKl`: (rows,) float32 from two hidden states (rows, width)."""
    kl: Tensor = LinearKl.apply(hidden, base, weight, scale)
    return kl


def kl_block_bytes(weight: Tensor) -> int:
    """Return the bytes of the blocks of logits that `LinearKl` holds at a time."""
    return 4 * BLOCK_ROWS * len(weight) * 4
