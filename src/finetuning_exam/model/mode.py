"""The state a model is used in: with its adapter or without it, and with dropout off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Literal

import torch
from peft import PeftModel

Side = Literal["base", "tuned"]
"""One of the two models that a base with an adapter is: `base` has the adapter off."""


@contextmanager
def on_side(model: PeftModel, side: Side) -> Iterator[None]:
    """Make the model one of its sides while this is open."""
    with model.disable_adapter() if side == "base" else nullcontext():
        yield


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Turn dropout off while this is open, and restore the model's mode afterwards."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
