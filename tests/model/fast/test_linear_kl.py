"""Specification of the divergence from the base: value and gradient, in blocks, in any format."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from finetuning_exam.model.fast import linear_kl as module
from finetuning_exam.model.fast.linear_kl import linear_kl


def _inputs(
    rows: int = 37, width: int = 24, vocabulary: int = 101
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden, base = (torch.randn(rows, width, generator=generator) for _ in range(2))
    return hidden, base, torch.randn(vocabulary, width, generator=generator)


def _expected(hidden: Tensor, base: Tensor, weight: Tensor, scale: float) -> Tensor:
    """Compute KL(base‖tuned) in float64 by its definition."""
    log_q = torch.log_softmax(hidden.double() @ weight.double().t() * scale, dim=1)
    log_p = torch.log_softmax(base.double() @ weight.double().t() * scale, dim=1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)


@pytest.mark.parametrize("scale", [1.0, 0.125])
@pytest.mark.parametrize("block", [8, 256])
def test_value_and_gradient_are_those_of_the_definition(
    monkeypatch: pytest.MonkeyPatch, scale: float, block: int
) -> None:
    """Against an independent float64 computation: the value to 1e-5, the gradient to 1e-4."""
    monkeypatch.setattr(module, "BLOCK_ROWS", block)
    hidden, base, weight = _inputs()
    hidden.requires_grad_()
    kl = linear_kl(hidden, base, weight, scale)
    shares = torch.linspace(0.1, 2.0, len(kl))
    (kl * shares).sum().backward()
    exact = hidden.detach().double().requires_grad_()
    expected = _expected(exact, base, weight, scale)
    (expected * shares).sum().backward()
    assert hidden.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(kl.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(hidden.grad.double(), exact.grad, rtol=1e-4, atol=1e-4)


def test_the_base_does_not_diverge_from_itself() -> None:
    """With the same hidden states divergence and gradient are zero."""
    hidden, _, weight = _inputs()
    hidden.requires_grad_()
    kl = linear_kl(hidden, hidden.detach().clone(), weight, 1.0)
    kl.sum().backward()
    assert hidden.grad is not None
    assert kl.abs().max() < 1e-6
    assert hidden.grad.abs().max() < 1e-6


def test_extreme_logits_stay_finite() -> None:
    """A base that is certain of what the tuned model rules out diverges, by a finite number."""
    hidden = torch.tensor([[60.0, -60.0]]).requires_grad_()
    base = torch.tensor([[-60.0, 60.0]])
    kl = linear_kl(hidden, base, torch.eye(2), 1.0)
    kl.sum().backward()
    torch.testing.assert_close(kl, torch.tensor([120.0]))
    assert hidden.grad is not None
    assert hidden.grad.isfinite().all()


def test_bfloat16_states_and_head() -> None:
    """In bfloat16 probabilities are float32, and the value is that of the rounded inputs."""
    hidden, base, weight = (it.bfloat16() for it in _inputs())
    kl = linear_kl(hidden, base, weight, 1.0)
    assert kl.dtype == torch.float32
    torch.testing.assert_close(
        kl.double(), _expected(hidden, base, weight, 1.0), rtol=3e-2, atol=3e-2
    )
