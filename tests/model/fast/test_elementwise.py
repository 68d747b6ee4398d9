"""Norm, gates and rotation: values and gradients of the stock modules."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tiny import assert_gradients_close, gradient_of
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.nn.functional import gelu, silu
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from finetuning_exam.model.fast.elementwise import (
    BLOCK_ROWS,
    GatedGelu,
    GatedSilu,
    RotateHeads,
    rms_norm,
)

EPS = 1e-5


def _random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=dtype, generator=generator)


def _compare(
    found: Callable[..., Tensor], expected: Callable[..., Tensor], inputs: tuple[Tensor, ...]
) -> None:
    """Same values to 1e-5 and same gradients to 1e-4, for a gradient without structure."""
    results: list[tuple[Tensor, dict[str, Tensor]]] = []
    for function in (found, expected):
        leaves = [x.clone().requires_grad_() for x in inputs]
        value = function(*leaves)
        value.backward(_random(*value.shape, seed=9))
        results.append((value.detach(), {str(i): gradient_of(x) for i, x in enumerate(leaves)}))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-5, atol=1e-6)
    assert_gradients_close(results[0][1], results[1][1])


def _llama_norm(weight: Tensor) -> LlamaRMSNorm:
    norm = LlamaRMSNorm(len(weight), eps=EPS)
    norm.weight.data.copy_(weight)
    return norm


def _gemma_norm(weight: Tensor) -> Gemma3RMSNorm:
    norm = Gemma3RMSNorm(len(weight), eps=EPS)
    norm.weight.data.copy_(weight - 1)
    return norm


def _torch_norm(weight: Tensor) -> nn.Module:
    norm = nn.RMSNorm(len(weight), eps=EPS)
    norm.weight.data.copy_(weight)
    return norm


@pytest.mark.parametrize("stock", [_llama_norm, _gemma_norm, _torch_norm])
@pytest.mark.parametrize("shape", [(1, 2), (7, 33), (5, 4, 8), (300, 64)])
def test_norm_is_the_stock_one(
    stock: Callable[[Tensor], nn.Module], shape: tuple[int, ...]
) -> None:
    """`rms_norm` and its gradient equal Llama's, Gemma's and PyTorch's, whatever the shape."""
    weight = _random(shape[-1], seed=1) + 1
    _compare(lambda x: rms_norm(x, weight, EPS), stock(weight), (_random(*shape) * 3,))


@pytest.mark.parametrize("size", [0.0, 1e-4, 1e4])
def test_norm_of_tiny_and_huge_rows(size: float) -> None:
    """Rows of zeros, and rows as small as eps or very large, have the stock norm and gradient."""
    weight = _random(16, seed=1) + 1
    x = _random(6, 16) * size
    _compare(lambda it: rms_norm(it, weight, EPS), _llama_norm(weight), (x,))


def test_norm_in_bfloat16_is_the_stock_one_but_for_rounding() -> None:
    """In bfloat16 the norm keeps its dtype and differs from Llama's by its rounding at most."""
    weight = (_random(64, seed=1) + 1).bfloat16()
    norm = _llama_norm(weight.float()).bfloat16()
    results: list[tuple[Tensor, Tensor]] = []
    for function in (lambda x: rms_norm(x, weight, EPS), norm):
        x = _random(20, 64).bfloat16().requires_grad_()
        y = function(x)
        y.backward(_random(20, 64, seed=9).bfloat16())
        assert x.grad is not None
        results.append((y.detach(), x.grad))
    for found, expected in zip(*results, strict=True):
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found, expected, rtol=2e-2, atol=3e-2)


_GATES = pytest.mark.parametrize(
    ("gate", "stock"),
    [
        pytest.param(GatedSilu, silu, id="silu"),
        pytest.param(GatedGelu, lambda x: gelu(x, approximate="tanh"), id="gelu"),
    ],
)


@_GATES
@pytest.mark.parametrize("tokens", [1, BLOCK_ROWS, 2 * BLOCK_ROWS + 3])
def test_gates_are_the_stock_ones(
    gate: type[GatedSilu | GatedGelu], stock: Callable[[Tensor], Tensor], tokens: int
) -> None:
    """A gated unit and its gradients equal act(gate) · up, over any number of blocks of rows."""
    inputs = _random(tokens, 5) * 4, _random(tokens, 5, seed=1)
    _compare(gate.apply, lambda g, u: stock(g) * u, inputs)


@_GATES
def test_gradients_of_gates_are_the_numerical_ones(
    gate: type[GatedSilu | GatedGelu], stock: Callable[[Tensor], Tensor]
) -> None:
    """In float64 the gradients of a gated unit are those of finite differences."""
    inputs = [_random(4, 3, dtype=torch.float64, seed=i).requires_grad_() for i in (0, 1)]
    assert gradcheck(gate.apply, inputs)


@_GATES
def test_gates_of_large_numbers_are_finite(
    gate: type[GatedSilu | GatedGelu], stock: Callable[[Tensor], Tensor]
) -> None:
    """Gates far in both tails give the stock values and gradients, not NaN."""
    inputs = torch.tensor([[-200.0, -20.0, 0.0, 20.0, 200.0]]), _random(1, 5)
    _compare(gate.apply, lambda g, u: stock(g) * u, inputs)


def _rotation(tokens: int, width: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Cosine and sine of angles as Llama has them: (tokens, width) with both halves alike."""
    steps = torch.arange(width // 2, dtype=dtype) / (width // 2)
    angles = torch.arange(tokens, dtype=dtype)[:, None] * 100.0**-steps
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


@pytest.mark.parametrize(("groups", "per_group"), [(1, 1), (2, 1), (2, 3)])
@pytest.mark.parametrize("scale", [1.0, 0.37])
def test_rotation_is_the_stock_one(groups: int, per_group: int, scale: float) -> None:
    """`RotateHeads` and its gradient equal Llama's rotation, times the scale, laid out by group."""
    tokens, width = 9, 8
    cos, sin = _rotation(tokens, width)
    half = width // 2

    def ours(x: Tensor) -> Tensor:
        rotated: Tensor = RotateHeads.apply(
            x, cos[:, None, :half] * scale, sin[:, None, :half] * scale, groups
        )
        return rotated

    def stock(x: Tensor) -> Tensor:
        heads = x.view(1, tokens, groups * per_group, width).transpose(1, 2)
        rotated: Tensor = apply_rotary_pos_emb(heads, heads, cos[None], sin[None])[0]
        return (rotated[0] * scale).view(groups, per_group, tokens, width).transpose(1, 2)

    _compare(ours, stock, (_random(tokens, groups * per_group * width),))


def test_gradient_of_a_rotation_is_the_numerical_one() -> None:
    """In float64 the gradient of `RotateHeads` is that of finite differences."""
    cos, sin = _rotation(3, 4, torch.float64)
    x = _random(3, 16, dtype=torch.float64).requires_grad_()
    assert gradcheck(lambda it: RotateHeads.apply(it, cos[:, None, :2], sin[:, None, :2], 2), (x,))
