"""The weights of base and adapter as one model, merged tensor by tensor.

A tensor is read from the base's files, merged in float32 and handed on, so that memory holds one at
a time. Adapters that are more than LoRA on linear layers are merged by PEFT in a whole model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from finetuning_exam.durable import Json, read_json
from finetuning_exam.errors import AdapterError
from finetuning_exam.exporting.safetensors_file import DTYPES
from finetuning_exam.model.folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from finetuning_exam.model.weights import weight_files

_PREFIX = "base_model.model."
_PAIR = re.compile(r"(.+)\.lora_(A|B)\.weight")
HEAD = "lm_head.weight"
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight")
"""Ends of the names of the input embeddings, from which a tied head takes its weights."""
_MORE_THAN_LORA = (
    "modules_to_save",
    "target_parameters",
    "trainable_token_indices",
    "layer_replication",
    "lora_bias",
    "alora_invocation_tokens",
    "arrow_config",
)
"""Settings of an adapter that is more than LoRA on linear layers."""


@dataclass(frozen=True, slots=True)
class Lora:
    """One LoRA update: `scale * b @ a`, shaped (out, in), where `a` is (r, in) and `b` (out, r)."""

    a: Tensor
    b: Tensor
    scale: float

    @property
    def delta(self) -> Tensor:
        """What is added to the weight, (out, in), float32."""
        return (self.b.float() @ self.a.float()) * self.scale


class NotByTensor(Exception):
    """An adapter that cannot be merged tensor by tensor; the message says why."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A model's tensors on disk, with the LoRA updates that are added as each one is read.

    `places` maps a name to the file that has it; `updates` maps the name of a weight to its update.
    `is_untied` says that the head had the embedding's weights, and has its own now; `head_source`
    is the embedding that it is copied from, if the base's files have no head.
    """

    places: Mapping[str, Path]
    updates: Mapping[str, Lora]
    fan_in_fan_out: bool = False
    is_untied: bool = False
    head_source: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all tensors of the merged model, in order."""
        return (*self.places, *([HEAD] if self.head_source else []))

    def stored(self, name: str) -> Tensor:
        """Return a tensor of the base as it is stored."""
        source = self._source(name)
        with safe_open(self.places[source], framework="pt") as file:
            return cast(Tensor, file.get_tensor(source))

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape, read from the file's header."""
        source = self._source(name)
        with safe_open(self.places[source], framework="pt") as file:
            return tuple(file.get_slice(source).get_shape())

    def dtype(self, name: str) -> torch.dtype:
        """Return the number format of a tensor of the base, read from the file's header."""
        source = self._source(name)
        with safe_open(self.places[source], framework="pt") as file:
            return DTYPES[file.get_slice(source).get_dtype()]

    @property
    def embedding_rows(self) -> int:
        """The number of tokens that have an input embedding."""
        name = next(it for it in self.places if it.endswith(_EMBEDDINGS))
        return self.shape(name)[0]

    def _source(self, name: str) -> str:
        return self.head_source if name == HEAD and self.head_source else name

    def merged(self, name: str, dtype: torch.dtype | None = None) -> Tensor:
        """Return a tensor of the merged model, summed in float32; by default in its own format."""
        found = self.stored(name)
        if not found.is_floating_point():
            return found
        update = self.updates.get(name)
        if update is None:
            return found.to(dtype or found.dtype)
        delta = update.delta.T if self.fan_in_fan_out else update.delta
        return (found.float() + delta).to(dtype or found.dtype)


def base_weights(base: Path, name: str) -> Weights:
    """Return the weights of a model folder as they are."""
    return Weights(_places(base, name), {})


def merged_weights(base: Path, name: str, adapter: Path, *, is_tied: bool) -> Weights:
    """Return the weights of a base with an adapter, to be merged as they are read.

    `is_tied` says that the base's head has the weights of its input embedding.

    Raises:
        NotByTensor: the adapter is more than LoRA on linear layers, or adapts weights that the
            base's files hold under other names.
        AdapterError: the adapter's config is damaged.
    """
    config = read_json(adapter / ADAPTER_CONFIG)
    _refuse_more_than_lora(config)
    places = _places(base, name)
    updates: dict[str, Lora] = {}
    head_source = None
    for module, update in loras(adapter).items():
        weight = f"{module}.weight"
        stored = _stored_name(weight, places)
        if weight == HEAD and stored is None and is_tied:
            head_source = next((it for it in places if it.endswith(_EMBEDDINGS)), None)
            stored = HEAD if head_source else None
        if stored is None:
            raise NotByTensor(f"the base's files have no {weight}")
        updates[stored] = update
    transposed = config.get("fan_in_fan_out") is True
    return Weights(places, updates, transposed, is_tied and HEAD in updates, head_source)


def loras(adapter: Path) -> dict[str, Lora]:
    """Return the LoRA updates of an adapter by the names of their modules in the base.

    Raises:
        NotByTensor: the adapter has other tensors, too.
    """
    config = read_json(adapter / ADAPTER_CONFIG)
    halves: dict[str, dict[str, Tensor]] = {}
    for key, tensor in load_file(adapter / ADAPTER_WEIGHTS).items():
        found = _PAIR.fullmatch(key.removeprefix(_PREFIX))
        if not key.startswith(_PREFIX) or found is None or tensor.ndim != 2:
            raise NotByTensor(f"the adapter has a tensor {key}")
        halves.setdefault(found[1], {})[found[2]] = tensor
    updates: dict[str, Lora] = {}
    for module, pair in halves.items():
        if pair.keys() != {"A", "B"}:
            raise AdapterError(f"{adapter}: half of the adapter of {module} is missing.")
        updates[module] = Lora(pair["A"], pair["B"], _scale(config, module, len(pair["A"])))
    return updates


def _scale(config: Mapping[str, Json], module: str, rank: int) -> float:
    """Return the factor of a module's update: alpha over its rank, or over the rank's root."""
    alpha = _of_module(config.get("alpha_pattern"), module)
    if alpha is None:
        alpha = float(cast(float, config.get("lora_alpha") or 8))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _of_module(pattern: Json, module: str) -> float | None:
    """Return the value of the first key of a pattern that names the module, as PEFT finds it."""
    if not isinstance(pattern, dict):
        return None
    for key, value in pattern.items():
        if re.match(rf"(.*\.)?({key})$", module):
            return float(cast(float, value))
    return None


def _refuse_more_than_lora(config: Mapping[str, Json]) -> None:
    if config.get("peft_type") != "LORA":
        raise NotByTensor(f"it is {config.get('peft_type')}, not LoRA")
    if config.get("bias") not in ("none", None):
        raise NotByTensor("it trains biases")
    variants = [key for key in config if key.startswith("use_") and key != "use_rslora"]
    for key in (*_MORE_THAN_LORA, *variants):
        if config.get(key):
            raise NotByTensor(f"its config has {key}")


def _places(base: Path, name: str) -> dict[str, Path]:
    places: dict[str, Path] = {}
    for path in weight_files(base, name).loaded:
        with safe_open(path, framework="pt") as file:
            places |= dict.fromkeys(file.keys(), path)
    return places


def _stored_name(weight: str, places: Mapping[str, Path]) -> str | None:
    """Return the name that the base's files have for a weight: some leave out its first part."""
    if weight in places:
        return weight
    shorter = weight.partition(".")[2]
    return shorter if shorter in places else None
