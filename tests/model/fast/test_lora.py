"""Joint projections: what PEFT's own modules compute, and the gradients of all of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import Linear as LoraLinear
from tiny import assert_gradients_close
from torch import Tensor, nn
from torch.autograd import gradcheck

from finetuning_exam.model.fast.lora import Projection, project

WIDTH = 12
OUT = {"q": 16, "k": 8, "v": 8}


class _Projections(nn.Module):
    """Three linear modules of unequal width on one input."""

    def __init__(self, *, bias: bool) -> None:
        super().__init__()
        for name, width in OUT.items():
            self.add_module(name, nn.Linear(WIDTH, width, bias=bias))


def _modules(
    adapted: Sequence[str] = ("q", "k", "v"), *, bias: bool = False
) -> tuple[nn.Module, ...]:
    """q, k and v, those named with adapters of ranks 3, 1 and 2, of which none is zero."""
    torch.manual_seed(0)
    module = _Projections(bias=bias)
    if adapted:
        config = LoraConfig(
            r=3,
            lora_alpha=5,
            target_modules=list(adapted),
            rank_pattern={name: r for name, r in (("k", 1), ("v", 2)) if name in adapted},
            alpha_pattern={"v": 7} if "v" in adapted else {},
        )
        get_peft_model(module, config)
    else:
        module.requires_grad_(False)
    for name, parameter in module.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    return tuple(getattr(module, name) for name in OUT)


def _read(module: nn.Module) -> Projection:
    """The projection of a module, read here by hand."""
    if not isinstance(module, LoraLinear):
        assert isinstance(module, nn.Linear)
        return Projection(module.weight, module.bias)
    a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
    base = module.base_layer
    return Projection(base.weight, base.bias, a, b, module.scaling["default"])


def _gradients(
    modules: Sequence[nn.Module],
    compute: Callable[[Tensor], Sequence[Tensor]],
    *,
    needs_input: bool = True,
) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Outputs for one input, and gradients of input and adapters."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(7, WIDTH, generator=generator).requires_grad_(needs_input)
    parameters = dict(nn.ModuleList(modules).named_parameters())
    for parameter in parameters.values():
        parameter.grad = None
    outputs = tuple(compute(x))
    upstream = [torch.randn(y.shape, generator=generator) for y in outputs]
    wanted = [(y, dy) for y, dy in zip(outputs, upstream, strict=True) if y.requires_grad]
    ys, dys = zip(*wanted, strict=True)
    torch.autograd.backward(ys, dys)
    found = {name: p.grad.clone() for name, p in parameters.items() if p.grad is not None}
    if x.grad is not None:
        found["x"] = x.grad
    return tuple(y.detach() for y in outputs), found


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("adapted", "needs_input"),
    [
        (("q", "k", "v"), True),
        (("q", "k", "v"), False),
        (("q", "v"), True),
        (("q", "v"), False),
        (("v",), True),
        ((), True),
    ],
)
def test_projections_are_those_of_peft(
    adapted: tuple[str, ...], bias: bool, needs_input: bool
) -> None:
    """Outputs and gradients equal PEFT's: with bias and without, where some modules have no
    adapter, with adapters of unequal rank and scale, and for an input that needs no gradient.
    """
    modules = _modules(adapted, bias=bias)
    assert [isinstance(it, LoraLinear) for it in modules] == [name in adapted for name in OUT]
    found, gradients = _gradients(
        modules, lambda x: project(x, [_read(it) for it in modules]), needs_input=needs_input
    )
    expected, stock = _gradients(
        modules, lambda x: [it(x) for it in modules], needs_input=needs_input
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert gradients.keys() == stock.keys()
    assert ("x" in gradients) == needs_input
    assert len(gradients) == 2 * len(adapted) + needs_input
    assert_gradients_close(gradients, stock)


def test_gradients_are_the_numerical_ones() -> None:
    """In float64 the gradients of input, A and B are those of finite differences."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    weights, bias = (random(4, 3), random(2, 3), random(3, 3)), random(4)
    inputs = [
        it.requires_grad_()
        for it in (random(5, 3), random(2, 3), random(4, 2), random(1, 3), random(3, 1))
    ]

    def run(
        x: Tensor, a: Tensor, b: Tensor, other_a: Tensor, other_b: Tensor
    ) -> tuple[Tensor, ...]:
        return project(
            x,
            [
                Projection(weights[0], bias, a, b, 0.7),
                Projection(weights[1]),
                Projection(weights[2], None, other_a, other_b, 1.3),
            ],
        )

    assert gradcheck(run, inputs)


def test_an_output_nobody_uses_has_no_gradient() -> None:
    """The adapter of a projection whose output is not used has a gradient of zero, and the others
    have theirs.
    """
    modules = _modules()
    _, found = _gradients(modules, lambda x: project(x, [_read(it) for it in modules])[:2])
    _, expected = _gradients(modules, lambda x: [it(x) for it in modules[:2]])
    unused = [name for name in found if name not in expected]
    assert len(unused) == 2
    assert not any(found[name].any() for name in unused)
    assert_gradients_close(found, expected)


def test_without_gradients_nothing_is_kept() -> None:
    """With gradients off, and for modules without adapters on a frozen input, nothing is kept."""
    x = torch.randn(3, WIDTH)
    with torch.no_grad():
        assert all(y.grad_fn is None for y in project(x, [_read(it) for it in _modules()]))
    assert all(y.grad_fn is None for y in project(x, [_read(it) for it in _modules(())]))


def test_adapters_in_float32_on_a_bfloat16_base() -> None:
    """Over a bfloat16 base outputs are bfloat16, and float32 adapters have float32 gradients
    that differ from PEFT's by rounding at most.
    """
    modules = _modules()
    for module in modules:
        module.base_layer.bfloat16()
    results = [
        _gradients(modules, lambda x: project(x.bfloat16(), [_read(it) for it in modules])),
        _gradients(modules, lambda x: [it(x.bfloat16()) for it in modules]),
    ]
    (found, gradients), (expected, stock) = results
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype == torch.bfloat16
        torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=5e-2)
    for name, gradient in stock.items():
        assert gradients[name].dtype == gradient.dtype
        largest = gradient.abs().max().item()
        torch.testing.assert_close(gradients[name], gradient, rtol=0, atol=3e-2 * largest)
