"""A training's state is restored from tensors and JSON to the last bit."""

from __future__ import annotations

import json
import random
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from finetuning_exam.errors import AdapterError
from finetuning_exam.training.checkpoint.state import (
    pack_optimizer,
    pack_random,
    pack_scheduler,
    unpack_optimizer,
    unpack_random,
)


def _trained(width: int = 3, steps: int = 3) -> tuple[nn.Linear, torch.optim.AdamW, LambdaLR]:
    """Return a layer after some steps, with its optimizer and scheduler."""
    torch.manual_seed(0)
    layer = nn.Linear(width, 2)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.01)
    scheduler = LambdaLR(optimizer, lambda step: 1 / (1 + step))
    for _ in range(steps):
        layer(torch.randn(4, width)).square().sum().backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    return layer, optimizer, scheduler


def _stored(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Pass tensors through a safetensors file."""
    return load(save(tensors))


def test_a_restored_optimizer_continues_exactly() -> None:
    """Moments, steps, rates and the scheduler survive safetensors and JSON, and the next step is
    the same to the last bit.
    """
    layer, optimizer, scheduler = _trained()
    tensors, groups = pack_optimizer(optimizer)
    state = json.loads(json.dumps({"groups": groups, "scheduler": pack_scheduler(scheduler)}))
    other, fresh, again = _trained(steps=0)
    other.load_state_dict(layer.state_dict())
    unpack_optimizer(fresh, _stored(tensors), state["groups"])
    again.load_state_dict(cast("dict[str, Any]", state["scheduler"]))
    assert again.state_dict() == scheduler.state_dict()
    data = torch.ones(4, 3)
    for model, steps, rates in ((layer, optimizer, scheduler), (other, fresh, again)):
        model(data).square().sum().backward()
        steps.step()
        rates.step()
    assert torch.equal(layer.weight, other.weight)
    assert optimizer.param_groups[0]["lr"] == fresh.param_groups[0]["lr"]
    assert fresh.param_groups[0]["betas"] == (0.9, 0.999)


@pytest.mark.parametrize("width", [2, 4])
def test_an_optimizer_of_other_shapes_is_refused(width: int) -> None:
    """Moments of other parameters are an error; they are not silently reset to zero."""
    tensors, groups = pack_optimizer(_trained()[1])
    with pytest.raises(AdapterError, match="does not match the adapter"):
        unpack_optimizer(_trained(width)[1], tensors, groups)


def test_missing_moments_are_refused() -> None:
    """An optimizer state that lacks a parameter is an error."""
    tensors, groups = pack_optimizer(_trained()[1])
    incomplete = {name: it for name, it in tensors.items() if not name.startswith("optimizer.1.")}
    with pytest.raises(AdapterError, match="does not match the adapter"):
        unpack_optimizer(_trained()[1], incomplete, groups)


def _draw() -> tuple[object, ...]:
    return (
        random.random(),
        random.gauss(0, 1),
        float(np.random.standard_normal()),
        int(np.random.randint(10**9)),
        torch.rand(3).tolist(),
        torch.randperm(9).tolist(),
    )


def test_restored_random_generators_repeat_their_draws() -> None:
    """Python, NumPy and torch repeat their draws, even from the middle of a pair of Gaussians."""
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    random.gauss(0, 1)
    np.random.standard_normal()
    tensors, plain = pack_random()
    first = _draw()
    assert _draw() != first
    unpack_random(_stored(tensors), json.loads(json.dumps(plain)))
    assert _draw() == first
