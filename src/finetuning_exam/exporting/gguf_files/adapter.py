"""A LoRA adapter as GGUF, which llama.cpp adds to a model at run time (`--lora`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from finetuning_exam import __version__
from finetuning_exam.errors import ModelError
from finetuning_exam.exporting.gguf_files.families import Family
from finetuning_exam.exporting.gguf_files.model import family_of, gguf_names, model_name
from finetuning_exam.exporting.gguf_files.write import Planned, write_gguf
from finetuning_exam.exporting.source import Source
from finetuning_exam.exporting.weights import Lora, Weights

_INSTEAD = "Export the whole model: fte export gguf OUT."


def write_adapter(path: Path, source: Source, weights: Weights, outtype: str) -> None:
    """Write the updates of the adapter as one GGUF file.

    Raises:
        ModelError: llama.cpp cannot add this adapter to a model.
    """
    family = family_of(source)
    planned = planned_updates(source, weights, family)
    scales = {len(it.a) * it.scale for it in weights.updates.values()}
    is_one = len(scales) == 1
    metadata: dict[str, Any] = {
        "general.type": "adapter",
        "general.name": model_name(source),
        "general.quantized_by": f"finetuning-exam {__version__}",
        "general.base_model.count": 1,
        "general.base_model.0.name": source.public_base,
        "adapter.type": "lora",
        # llama.cpp multiplies by alpha over the rank; by nothing where alpha is 0.
        "adapter.lora.alpha": float(scales.pop()) if is_one else 0.0,
    }
    write_gguf(path, family.architecture, metadata, None, planned, outtype)


def planned_updates(source: Source, weights: Weights, family: Family) -> list[Planned]:
    """Return both halves of every update, arranged as GGUF has the weight that they belong to.

    Raises:
        ModelError: llama.cpp cannot add this adapter to a model.
    """
    if not weights.updates:
        raise ModelError(
            f"{source.adapter}: more than LoRA on linear layers, which llama.cpp cannot add.",
            _INSTEAD,
        )
    if weights.is_untied:
        raise ModelError(
            f"{source.adapter}: changes the output head, which this base shares with its "
            "embedding; llama.cpp cannot add that.",
            _INSTEAD,
        )
    names = gguf_names(source, weights)
    is_one = len({len(it.a) * it.scale for it in weights.updates.values()}) == 1
    planned: list[Planned] = []
    for name, update in weights.updates.items():
        a, b = update.a, _arranged(source, family, name, update)
        if not is_one:
            b = b * update.scale
        planned.append(Planned(f"{names[name]}.lora_a", tuple(a.shape), lambda it=a: it))  # type: ignore[misc]
        planned.append(Planned(f"{names[name]}.lora_b", tuple(b.shape), lambda it=b: it))  # type: ignore[misc]
    return planned


def _arranged(source: Source, family: Family, name: str, update: Lora) -> Tensor:
    """Order the rows of B as the weight's: they are the outputs.

    GPT-2's weights are stored transposed, but not its updates.
    """
    return (
        update.b if family.architecture == "gpt2" else family.arrange(name, update.b, source.config)
    )
