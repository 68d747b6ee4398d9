"""Output head and cross-entropy in one: PyTorch's cross-entropy of the logits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from finetuning_exam.model.fast.linear_loss import (
    BLOCK_ROWS,
    linear_cross_entropy,
    make_workspace,
)

VOCABULARY, WIDTH = 37, 6


def _inputs(rows: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random hidden states, weight, targets, and a gradient for each row's loss."""
    generator = torch.Generator().manual_seed(rows)
    hidden = torch.randn(rows, WIDTH, dtype=dtype, generator=generator) * 2
    weight = torch.randn(VOCABULARY, WIDTH, dtype=dtype, generator=generator)
    targets = torch.randint(VOCABULARY, (rows,), generator=generator)
    return hidden, weight, targets, torch.randn(rows, generator=generator)


def _stock(hidden: Tensor, weight: Tensor, targets: Tensor, scale: float) -> Tensor:
    return cross_entropy(hidden @ weight.t() * scale, targets, reduction="none")


@pytest.mark.parametrize("rows", [1, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1, 3 * BLOCK_ROWS])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_loss_and_gradient_are_the_stock_ones(rows: int, scale: float) -> None:
    """NLL to 1e-5 and gradient to 1e-4 equal PyTorch's, for any number of blocks of rows and
    scaled logits, each row with a gradient of its own.
    """
    hidden, weight, targets, upstream = _inputs(rows)
    ours, theirs = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    found = linear_cross_entropy(ours, weight, targets, scale, make_workspace(weight))
    expected = _stock(theirs, weight, targets, scale)
    assert found.shape == (rows,)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    found.backward(upstream)
    expected.backward(upstream)
    assert ours.grad is not None
    assert theirs.grad is not None
    largest = theirs.grad.abs().max().item()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-4 * largest)


def test_the_gradient_is_exact_in_float64() -> None:
    """In float64 the gradient is that of PyTorch's cross-entropy to the last digits."""
    hidden, weight, targets, upstream = _inputs(40, torch.float64)
    ours, theirs = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    linear_cross_entropy(ours, weight, targets, 0.7, make_workspace(weight)).backward(upstream)
    _stock(theirs, weight, targets, 0.7).backward(upstream.double())
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("distance", [50.0, 110.0, 5000.0])
def test_a_target_of_vanishing_probability_is_finite(distance: float) -> None:
    """A target so unlikely that its probability is no float32 has the right, finite NLL and
    gradient.
    """
    weight = torch.eye(3)
    hidden = torch.tensor([[distance, 0.0, -1.0]], requires_grad=True)
    found = linear_cross_entropy(hidden, weight, torch.tensor([1]), 1.0, make_workspace(weight))
    assert found.item() == pytest.approx(distance, rel=1e-6)
    found.backward()
    assert hidden.grad is not None
    assert hidden.grad.tolist() == [pytest.approx([1.0, -1.0, 0.0], abs=1e-6)]


def test_a_certain_target_costs_nothing() -> None:
    """A target that is all but certain has an NLL of zero, not below."""
    weight = torch.eye(3)
    hidden = torch.tensor([[80.0, 0.0, -80.0]])
    found = linear_cross_entropy(hidden, weight, torch.tensor([0]), 1.0, make_workspace(weight))
    assert found.item() == 0.0


def test_without_a_gradient_none_is_computed() -> None:
    """Where no gradient is wanted the losses are the same, and nothing is kept."""
    hidden, weight, targets, _ = _inputs(9)
    workspace = make_workspace(weight)
    expected = _stock(hidden, weight, targets, 1.0)
    frozen = linear_cross_entropy(hidden, weight, targets, 1.0, workspace)
    assert frozen.grad_fn is None
    torch.testing.assert_close(frozen, expected)
    with torch.no_grad():
        off = linear_cross_entropy(hidden.requires_grad_(), weight, targets, 1.0, workspace)
    assert off.grad_fn is None
    torch.testing.assert_close(off, expected)


def test_the_workspace_carries_nothing_over() -> None:
    """What the workspace held makes no difference, nor does its use by another call before the
    backward pass.
    """
    hidden, weight, targets, upstream = _inputs(BLOCK_ROWS + 5)
    workspace = make_workspace(weight).fill_(torch.nan)
    hidden.requires_grad_()
    found = linear_cross_entropy(hidden, weight, targets, 1.0, workspace)
    other = torch.randn(20, WIDTH)
    linear_cross_entropy(other, weight, targets[:20], 1.0, workspace)
    found.backward(upstream)
    ours = hidden.grad
    hidden.grad = None
    expected = _stock(hidden, weight, targets, 1.0)
    expected.backward(upstream)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours, hidden.grad, rtol=1e-4, atol=1e-6)


def test_no_rows_have_no_loss() -> None:
    """Of no rows there are no losses, and the backward pass goes through."""
    hidden, weight, targets, _ = _inputs(0)
    hidden.requires_grad_()
    found = linear_cross_entropy(hidden, weight, targets, 1.0, make_workspace(weight))
    assert found.shape == (0,)
    found.sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.shape == hidden.shape


def test_losses_in_bfloat16_are_those_of_float32_but_for_rounding() -> None:
    """Hidden states and head in bfloat16 give float32 losses within its rounding."""
    hidden, weight, targets, _ = _inputs(50)
    hidden, weight = hidden.bfloat16(), weight.bfloat16()
    found = linear_cross_entropy(hidden, weight, targets, 1.0, make_workspace(weight))
    expected = _stock(hidden.float(), weight.float(), targets, 1.0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=6e-2)
