"""Convert optimizer, scheduler and random state to tensors and JSON, which cannot run code."""

from __future__ import annotations

import random
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from finetuning_exam.durable import Json
from finetuning_exam.errors import AdapterError

_OPTIMIZER = "optimizer."
_RANDOM = "random."


def pack_optimizer(optimizer: Optimizer) -> tuple[dict[str, Tensor], Json]:
    """Return an optimizer's tensors by name (`optimizer.0.exp_avg`) and its parameter groups."""
    state = optimizer.state_dict()
    tensors = {
        f"{_OPTIMIZER}{index}.{name}": value.detach().cpu().contiguous()
        for index, values in state["state"].items()
        for name, value in values.items()
    }
    return tensors, cast(Json, state["param_groups"])


def unpack_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor], groups: Json) -> None:
    """Restore an optimizer from the output of `pack_optimizer`.

    Raises:
        AdapterError: the state belongs to other parameters.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(_OPTIMIZER):
            index, name = key.removeprefix(_OPTIMIZER).split(".", 1)
            state.setdefault(int(index), {})[name] = value
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    is_same_shape = sorted(state) == list(range(len(parameters))) and all(
        value.dim() == 0 or value.shape == parameters[index].shape
        for index, values in state.items()
        for value in values.values()
    )
    if not is_same_shape:
        raise AdapterError(
            "The checkpoint's optimizer state does not match the adapter.",
            "Start over with --overwrite_output_dir.",
        )
    plain_groups = [
        {name: tuple(value) if name == "betas" else value for name, value in group.items()}
        for group in cast("list[dict[str, Any]]", groups)
    ]
    optimizer.load_state_dict({"state": state, "param_groups": plain_groups})


def pack_scheduler(scheduler: LRScheduler) -> Json:
    """Return the state of a learning-rate scheduler, which consists of numbers."""
    return cast(Json, scheduler.state_dict())


def pack_random() -> tuple[dict[str, Tensor], Json]:
    """Return the random state: of torch as tensors, of Python and NumPy as JSON."""
    tensors = {f"{_RANDOM}cpu": torch.random.get_rng_state()}
    if torch.cuda.is_available():
        tensors[f"{_RANDOM}cuda"] = torch.cuda.get_rng_state()
    if torch.backends.mps.is_available():
        tensors[f"{_RANDOM}mps"] = torch.mps.get_rng_state()
    version, internal, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return tensors, {
        "python": [version, list(internal), gauss],
        "numpy": [kind, np.asarray(keys).tolist(), position, has_gauss, cached],
    }


def unpack_random(tensors: dict[str, Tensor], plain: Json) -> None:
    """Restore the random generators from `pack_random`, except those of absent devices."""
    torch.random.set_rng_state(tensors[f"{_RANDOM}cpu"])
    if torch.cuda.is_available() and f"{_RANDOM}cuda" in tensors:
        torch.cuda.set_rng_state(tensors[f"{_RANDOM}cuda"])
    if torch.backends.mps.is_available() and f"{_RANDOM}mps" in tensors:
        torch.mps.set_rng_state(tensors[f"{_RANDOM}mps"])
    states = cast("dict[str, Any]", plain)
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((kind, np.asarray(keys, dtype=np.uint32), position, has_gauss, cached))
