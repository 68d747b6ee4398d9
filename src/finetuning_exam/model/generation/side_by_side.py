"""Base and tuned rows in the same forward pass, so that a model's weights are read once for both.

PEFT's own mixed batches (`adapter_names`) do this too, but set up hooks anew for every pass and
gather and scatter the rows of every module: for a small model that costs what the sharing gains.
Here tuned rows come first, and each module adds the adapter's part to a slice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor
from transformers import PreTrainedModel


class RowsNotApart(Exception):
    """A module of the model does not see its input as (rows, length, width)."""


class TunedRows:
    """The number of rows, the first ones, that are the tuned model's in the next forward pass."""

    def __init__(self) -> None:
        self.count = 0
        self.shape = (0, 0)

    def announce(self, count: int, n_rows: int, length: int) -> None:
        """Announce a pass over ids of shape (n_rows, length) whose first `count` rows are tuned."""
        self.count = count
        self.shape = (n_rows, length)


def can_mix(model: PeftModel) -> bool:
    """Return whether the adapter is plain LoRA on linear modules and nothing else.

    DoRA and other variants, other methods, embeddings, and modules trained whole are something
    else.
    """
    kinds = (BaseTunerLayer, AuxiliaryTrainingWrapper)
    parts = [it for it in model.modules() if isinstance(it, kinds)]
    return (
        all(type(it) is LoraLinear and not it.merged and not it.lora_variant for it in parts)
        and len(model.active_adapters) == 1
    )


def has_adapter_on(model: PeftModel | PreTrainedModel) -> bool:
    """Return whether the model's rows are the tuned model's now."""
    return any(isinstance(it, LoraLinear) and not it.disable_adapters for it in model.modules())


@contextmanager
def adapter_on_first_rows(model: PeftModel) -> Iterator[TunedRows]:
    """Apply the adapter only to the first rows while this is open, as many as are announced.

    The other rows are exactly the base's: nothing is added to them. A forward pass raises
    `RowsNotApart` if a module cannot tell rows apart.
    """
    rows = TunedRows()
    (name,) = model.active_adapters
    with model.disable_adapter(), ExitStack() as hooks:
        for module in model.modules():
            if isinstance(module, LoraLinear) and name in module.lora_A:
                handle = module.register_forward_hook(partial(_add_to_first, rows, name))
                hooks.callback(handle.remove)
        yield rows


def _add_to_first(
    rows: TunedRows, name: str, layer: LoraLinear, inputs: tuple[Tensor, ...], output: Tensor
) -> None:
    """Add the adapter's part to the first rows of an output, (rows, length, width), in place."""
    (states, *_) = inputs
    if states.shape[:-1] != rows.shape:
        raise RowsNotApart
    if rows.count:
        first = states[: rows.count].to(layer.lora_A[name].weight.dtype)
        output[: rows.count] += layer.lora_B[name](layer.lora_A[name](first)) * layer.scaling[name]
