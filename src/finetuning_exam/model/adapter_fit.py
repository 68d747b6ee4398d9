"""Reasons why an adapter does not fit a base: names, ranks and sizes of its tensors."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from finetuning_exam.durable import Json, read_object
from finetuning_exam.errors import AdapterError, first_line
from finetuning_exam.model.folder import ADAPTER_CONFIG
from finetuning_exam.model.load import Base
from finetuning_exam.model.weights import Shapes

_PREFIX = "base_model.model."
"""Start of every name in an adapter that PEFT has saved."""
_COPY = "Copy the folder again, or retrain."
_NAME_BASE = "Use --model to name the base it was trained on."


def name_fault(stored: Shapes, expected: Shapes) -> str | None:
    """Return how the names of an adapter's tensors differ from those the base needs, or None."""
    missing, unknown = sorted(expected.keys() - stored), sorted(stored.keys() - expected)
    if not missing and not unknown:
        return None
    if not stored.keys() & expected.keys():
        if not stored:
            return "the adapter's file has no tensors"
        first, ours = min(stored), min(expected, default="none")
        return (
            f"none of the {len(stored)} tensors has a name that PEFT gives, such as {ours}; the "
            f"first is {first}"
        )
    parts = [
        f"{_tensors(missing, f' of {len(expected)}')} missing, such as {missing[0]}"
        if missing
        else "",
        f"{_tensors(unknown)} not part of this base, such as {unknown[0]}" if unknown else "",
    ]
    return "; ".join(filter(None, parts))


def size_fault(stored: Shapes, expected: Shapes) -> str | None:
    """Return how the names or sizes of an adapter's tensors differ from another's, or None."""
    wrong = sorted(it for it in stored if it in expected and stored[it] != expected[it])
    if wrong:
        sizes = f"{_size(stored[wrong[0]])}, not {_size(expected[wrong[0]])}"
        return f"{_tensors(wrong)} of another size, such as {wrong[0]}: {sizes}"
    return name_fault(stored, expected)


def misfit(base: Base, folder: Path, stored: Shapes, error: Exception) -> AdapterError:
    """Return the error for an adapter that PEFT could not put on a base.

    PEFT has already put empty LoRA modules on the base where it could; their sizes are compared.
    """
    config = read_object(folder / ADAPTER_CONFIG)
    fault = _config_fault(config)
    if fault:
        return AdapterError(f"{folder}: {ADAPTER_CONFIG} {fault}.", _COPY)
    expected = _lora_shapes(base.model)
    wrong = sorted(it for it in stored if it in expected and stored[it] != expected[it])
    if wrong:
        name = wrong[0]
        sizes = f"{_size(stored[name])} in its file, {_size(expected[name])}"
        if all(_differs_in_rank_only(it, stored[it], expected[it]) for it in wrong):
            return AdapterError(
                f"{folder}: {ADAPTER_CONFIG} says r = {config.get('r')}, but the weights have "
                f"another rank: {name} is {sizes} by the config.",
                _COPY,
            )
        return AdapterError(
            f"{folder}: the adapter was trained on a base of another size than {base.name}: "
            f"{name} is {sizes} for this base.",
            _NAME_BASE,
        )
    if not expected and not _has_targets(base.model, config.get("target_modules")):
        return AdapterError(
            f"{folder}: the adapter belongs to another base than {base.name}, which has none of "
            f"its modules ({_listed(config.get('target_modules'))}).",
            _NAME_BASE,
        )
    fault = name_fault(stored, expected) if expected else None
    if fault:
        return AdapterError(f"{folder}: {fault}.", _NAME_BASE)
    reason = first_line(error)
    return AdapterError(
        f"{folder}: the adapter does not fit {base.name} ({type(error).__name__}: {reason}).",
        _NAME_BASE,
    )


def _config_fault(config: dict[str, Json]) -> str | None:
    """Return what is wrong with the config of an adapter by itself, or None."""
    if config.get("peft_type") != "LORA":
        return f"describes no LoRA adapter (peft_type {config.get('peft_type')})"
    if not isinstance(config.get("r"), int):
        return f"has no whole number as rank (r is {config.get('r')!r})"
    return None


def _lora_shapes(model: nn.Module) -> Shapes:
    """Return the shapes of the LoRA matrices on a base, by the names PEFT saves them under."""
    return {
        _PREFIX + name.replace(".default", ""): tuple(parameter.shape)
        for name, parameter in model.named_parameters()
        if ".lora_" in name
    }


def _differs_in_rank_only(name: str, stored: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    """Return whether two sizes of a LoRA matrix have the same width: A is (r, in), B (out, r)."""
    if len(stored) != 2 or len(expected) != 2:
        return False
    side = 1 if ".lora_A." in name else 0
    return stored[side] == expected[side]


def _has_targets(model: nn.Module, targets: Json) -> bool:
    names = targets if isinstance(targets, list) else []
    return any(
        f".{path}".endswith(f".{name}") for path, _ in model.named_modules() for name in names
    )


def _listed(targets: Json) -> str:
    names = sorted(map(str, targets)) if isinstance(targets, list) else [str(targets)]
    return ", ".join(names[:6]) + (" …" if len(names) > 6 else "")


def _size(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _tensors(names: list[str], of: str = "") -> str:
    return f"{len(names)} tensors{of} are" if len(names) > 1 else f"1 tensor{of} is"
