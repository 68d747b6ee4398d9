"""Read the weights of an export back, and compare them with what was to be written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from finetuning_exam.exporting.gguf_files.model import family_of, gguf_names
from finetuning_exam.exporting.report import Check
from finetuning_exam.exporting.source import Source
from finetuning_exam.exporting.weights import Weights, base_weights

Expected = Callable[[str, Weights], Tensor]
"""A tensor as the export of some weights has it."""

_TOLERANCE = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
"""Largest rounding of a number format, as a share of a tensor's largest entry."""


def weights_check(faults: Sequence[str]) -> Check:
    """Return the check of an export's tensors."""
    if not faults:
        return Check("weights", "as merged")
    more = f" (and {len(faults) - 1} more)" if faults[1:] else ""
    return Check("weights", f"{len(faults)} differ", f"{faults[0]}{more}")


def merged_faults(place: Path, weights: Weights) -> list[str]:
    """Return what is wrong with the tensors of a merged folder."""
    written = base_weights(place, str(place))
    unknown = sorted(set(written.names) - set(weights.names))
    faults = weight_faults(
        weights,
        weights.names,
        lambda name: written.stored(name) if name in written.places else None,
        lambda name: _TOLERANCE.get(written.dtype(name), 0.0),
    )
    return [*faults, *(f"{name} is not part of the model" for name in unknown)]


def gguf_faults(path: Path, source: Source, weights: Weights) -> list[str]:
    """Return what is wrong with the tensors of a GGUF file, each arranged as Transformers has it.

    The file's own names are looked up in the names that the gguf package has for them, so that a
    tensor in another's place is named.
    """
    from gguf import GGMLQuantizationType, GGUFReader
    from gguf.quants import dequantize

    stored = {it.name: it for it in GGUFReader(path).tensors}
    names = gguf_names(source, weights)
    arrange = family_of(source).arrange
    limits = {
        GGMLQuantizationType.F32: 1e-6,
        GGMLQuantizationType.F16: 1e-3,
        GGMLQuantizationType.BF16: 8e-3,
        GGMLQuantizationType.Q8_0: 1e-2,
    }

    def found(name: str) -> Tensor | None:
        tensor = stored.get(names[name])
        if tensor is None:
            return None
        numbers = np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        return torch.from_numpy(numbers.reshape([int(it) for it in tensor.shape[::-1]]))

    extra = {*names.values(), *family_of(source).extra(source.config)}
    unknown = sorted(set(stored) - extra)
    faults = weight_faults(
        weights,
        names,
        found,
        lambda name: limits[stored[names[name]].tensor_type],
        lambda name, tensor: arrange(name, tensor, source.config),
    )
    return [*faults, *(f"{name} is not part of the model" for name in unknown)]


def weight_faults(
    weights: Weights,
    names: Iterable[str],
    found: Callable[[str], Tensor | None],
    tolerance: Callable[[str], float],
    arrange: Callable[[str, Tensor], Tensor] = lambda name, tensor: tensor,
) -> list[str]:
    """Return what is wrong with the tensors of an export, a phrase each.

    Args:
        weights: The merged weights.
        names: The tensors to compare.
        found: Reads the export's tensor of a name; None without it.
        tolerance: How far its entries may be from the merged ones', as a share of the largest.
        arrange: Arranges a merged tensor as the export does.
    """

    def expected(name: str, of: Weights = weights) -> Tensor:
        return arrange(name, of.merged(name, torch.float32)).float()

    faults: list[str] = []
    for name in names:
        tensor = found(name)
        if tensor is None:
            faults.append(f"{name} is missing")
            continue
        merged = expected(name)
        if tensor.shape != merged.shape:
            faults.append(f"{name} has another shape")
            continue
        if not _is_close(tensor.float(), merged, tolerance(name)):
            faults.append(f"{name} {_what(weights, name, tensor.float(), expected)}")
    return faults


def _is_close(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    limit = tolerance * max(float(expected.abs().max()), 1e-30)
    return float((found - expected).abs().max()) <= limit


def _what(weights: Weights, name: str, found: Tensor, expected: Expected) -> str:
    """Say how a tensor differs, in terms of what it should be made of."""
    if name in weights.updates:
        before = expected(name, replace(weights, updates={}))
        times = _times(found - before, expected(name, weights) - before)
        if times is not None and round(times) != 1:
            return f"holds the adapter {round(times)} times"
    for other in weights.names:
        same_shape = weights.shape(other) == weights.shape(name)
        if other != name and same_shape and _is_close(found, expected(other, weights), 0.01):
            return f"has the weights of {other}"
    return "has other weights"


def _times(added: Tensor, update: Tensor) -> float | None:
    """Return how many times an update was added, by least squares; None if something else was."""
    size = float((update * update).sum())
    times = float((added * update).sum()) / size if size else 1.0
    rest = float((added - times * update).norm())
    is_multiple = rest <= 0.1 * size**0.5 and abs(times - round(times)) < 0.1
    return times if is_multiple else None
