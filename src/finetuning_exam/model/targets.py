"""Modules and parameters of a base that an adapter can be put on.

Transformers stores the experts of a mixture as one three-dimensional parameter for each projection,
which is no linear module. `all-linear` leaves these and the routers as they are; both can be named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from peft import PeftModel
from transformers import PreTrainedModel

ALL_LINEAR = "all-linear"
_ROUTERS = frozenset({"gate", "router", "router_gate", "shared_expert_gate"})
_RENAMED = frozenset({"gate", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"})
"""Names that PEFT takes for the fused experts of a model that has some, whatever module has them.

There, a module of such a name is adapted through its weight, which PEFT leaves alone.
"""


@dataclass(frozen=True, slots=True)
class Targets:
    """What an adapter goes on: modules by their names or by `all-linear`, and parameters."""

    modules: str | list[str]
    parameters: list[str]


def find_targets(model: PreTrainedModel, wanted: Sequence[str]) -> tuple[Targets, tuple[str, ...]]:
    """Return what the wanted names mean in a model; second, the names that mean nothing in it."""
    linear, tensors = linear_modules(model), expert_parameters(model)
    if not has_experts(model):
        unknown = tuple(it for it in wanted if it != ALL_LINEAR and not _named(it, linear))
        return Targets(_without_experts(wanted), []), unknown
    routers = {**_router_parameters(model), **{n: k for n, k in linear.items() if is_router(n)}}
    modules: set[str] = set()
    parameters: set[str] = set()
    unknown_names: list[str] = []
    for name in wanted:
        found = (
            [it for it in linear if not is_router(it)]
            if name == ALL_LINEAR
            else [it for it in {**linear, **tensors, **routers} if _is_named(name, it)]
        )
        if not found:
            unknown_names.append(name)
        for it in found:
            if it in linear and it.rpartition(".")[2] not in _RENAMED:
                modules.add(it)
            else:
                parameters.add(it if it in tensors else f"{it}.weight")
    return Targets(sorted(modules), sorted(parameters)), tuple(unknown_names)


def _without_experts(wanted: Sequence[str]) -> str | list[str]:
    return ALL_LINEAR if ALL_LINEAR in wanted else list(wanted)


def _named(name: str, names: Sequence[str] | dict[str, str]) -> bool:
    return any(_is_named(name, it) for it in names)


def _is_named(name: str, path: str) -> bool:
    """Return whether a name is the end of a path, in whole components."""
    return f".{path}".endswith(f".{name}")


def has_experts(model: PreTrainedModel) -> bool:
    """Return whether a model is a mixture of experts."""
    return bool(expert_parameters(model)) or any(
        "experts" in path.split(".") for path, _ in model.named_modules()
    )


def linear_modules(model: PreTrainedModel) -> dict[str, str]:
    """Return the class of every linear module except the output head, by its path."""
    head = model.get_output_embeddings()
    found = {name: type(it).__name__ for name, it in model.named_modules() if it is not head}
    return {name: kind for name, kind in found.items() if kind in ("Linear", "Conv1D")}


def expert_parameters(model: PreTrainedModel | PeftModel) -> dict[str, torch.Size]:
    """Return the shape of every parameter that holds one projection of all experts, by its path."""
    counts = set(_expert_counts(model.config.to_dict()))
    return {
        f"{path}.{name}": parameter.shape
        for path, module in model.named_modules()
        if not isinstance(module, torch.nn.modules.conv._ConvNd)
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.ndim == 3 and parameter.shape[0] in counts and "lora_" not in path
    }


def _expert_counts(config: Mapping[object, object]) -> Iterator[int]:
    """Yield the numbers of a config, at any depth, that may be its number of experts."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _expert_counts(value)
        elif "expert" in str(key) and isinstance(value, int) and value > 1:
            yield value


def _router_parameters(model: PreTrainedModel) -> dict[str, str]:
    """Return the class of every router that is no linear module but has a weight matrix."""
    return {
        name: type(it).__name__
        for name, it in model.named_modules()
        if is_router(name)
        and not isinstance(it, torch.nn.Linear)
        and getattr(dict(it.named_parameters(recurse=False)).get("weight"), "ndim", 0) == 2
    }


def is_router(path: str) -> bool:
    """Return whether a module of a mixture of experts chooses between the experts."""
    *above, last = path.split(".")
    return last in _ROUTERS or "router" in above


def target_names(model: PreTrainedModel) -> tuple[str, ...]:
    """Return the names that can be adapted: last components of paths, without the head."""
    paths = [*linear_modules(model), *expert_parameters(model)]
    paths += _router_parameters(model) if has_experts(model) else ()
    return tuple(sorted(set(map(_short, paths))))


def _short(path: str) -> str:
    """Return the last component of a path, or two where the last is just `weight`."""
    parts = path.split(".")
    return ".".join(parts[-2:] if parts[-1] == "weight" else parts[-1:])


def unadapted_experts(model: PreTrainedModel | PeftModel) -> tuple[float, tuple[str, ...]]:
    """Return the share of a model's weights in experts without an adapter, and their names."""
    adapted = {
        f"{name}.{module.parameter_name}".replace(".base_layer", "")
        for name, module in model.named_modules()
        if hasattr(module, "parameter_name") and hasattr(module, "lora_A")
    }
    left = {
        path: shape
        for path, shape in expert_parameters(model).items()
        if path.replace(".base_layer", "") not in adapted
    }
    base = sum(p.numel() for name, p in model.named_parameters() if "lora_" not in name)
    names = sorted({_short(path.replace(".base_layer", "")) for path in left})
    return sum(shape.numel() for shape in left.values()) / max(1, base), tuple(names)
