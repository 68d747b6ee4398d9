"""A model as GGUF: which tensors it has there, and what it says of itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from finetuning_exam import __version__
from finetuning_exam.errors import ModelError
from finetuning_exam.exporting.gguf_files.families import FAMILIES, Family
from finetuning_exam.exporting.gguf_files.vocabulary import Vocabulary
from finetuning_exam.exporting.gguf_files.write import Planned, write_gguf
from finetuning_exam.exporting.source import Source
from finetuning_exam.exporting.weights import HEAD, Weights

if TYPE_CHECKING:
    from gguf import TensorNameMap

_BUFFERS = re.compile(r".*(\.(attn|attention)\.(bias|masked_bias)|\.rotary_emb\.inv_freq)")
"""Tensors of older checkpoints that are no weights."""
_PREFIXES = ("", "transformer.", "model.", "gpt_neox.")
_PHI3_TOKENS = ("<s>", "</s>", "<unk>", "<|endoftext|>")
_TYPES = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}


def family_of(source: Source) -> Family:
    """Return how a model's family is written.

    Raises:
        ModelError: it cannot be written, or has a setting that llama.cpp computes otherwise.
    """
    kind = source.config.model_type
    family = FAMILIES.get(kind)
    hint = "Export it with fte export merged."
    if family is None:
        known = ", ".join(sorted(FAMILIES))
        raise ModelError(
            f"{source.name}: a {kind} model, which cannot be written as GGUF.",
            f"These can: {known}. {hint}",
        )
    reason = family.reason_against(source.config)
    if reason:
        raise ModelError(f"{source.name}: llama.cpp computes {kind} models without {reason}.", hint)
    return family


def gguf_names(source: Source, weights: Weights) -> dict[str, str]:
    """Return the name of each tensor in GGUF by its name in Transformers.

    Raises:
        ModelError: GGUF has no name for some.
    """
    from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map

    family = family_of(source)
    arch = next(it for it in MODEL_ARCH if MODEL_ARCH_NAMES[it] == family.architecture)
    names = get_tensor_name_map(arch, source.config.num_hidden_layers)
    found = {it: _gguf_name(names, it) for it in weights.names if not _BUFFERS.fullmatch(it)}
    unknown = sorted(name for name, own in found.items() if own is None)
    if unknown:
        raise ModelError(
            f"{source.name}: GGUF has no place for {len(unknown)} tensors of this model, such as "
            f"{unknown[0]}.",
            "Export it with fte export merged.",
        )
    return {
        name: own
        for name, own in found.items()
        if own is not None and not _is_tied_copy(source, weights, name)
    }


def _gguf_name(names: TensorNameMap, name: str) -> str | None:
    for prefix in _PREFIXES:
        own = names.get_name(prefix + name, try_suffixes=(".weight", ".bias"))
        if own is not None:
            return str(own)
    return None


def _is_tied_copy(source: Source, weights: Weights, name: str) -> bool:
    """Return whether a file holds a tied head beside its embedding, as some do."""
    return name == HEAD and source.is_tied and not weights.is_untied


def planned_tensors(source: Source, weights: Weights) -> list[Planned]:
    """Return the tensors of the merged model, arranged as GGUF has them."""
    family = family_of(source)
    planned: list[Planned] = []
    for name, own in gguf_names(source, weights).items():
        shape = family.arrange(name, torch.empty(weights.shape(name), device="meta"), source.config)
        planned.append(
            Planned(
                own,
                tuple(shape.shape),
                lambda name=name: family.arrange(  # type: ignore[misc]
                    name, weights.merged(name, torch.float32), source.config
                ),
            )
        )
    for own, tensor in family.extra(source.config).items():
        planned.append(Planned(own, tuple(tensor.shape), lambda tensor=tensor: tensor))  # type: ignore[misc]
    return planned


def write_model(
    path: Path, source: Source, weights: Weights, vocabulary: Vocabulary, outtype: str
) -> None:
    """Write the merged model as one GGUF file."""
    family = family_of(source)
    own = {f"{family.architecture}.{key}": it for key, it in family.metadata(source.config).items()}
    metadata = {**general(source, weights), **own, **token_metadata(source)}
    planned = planned_tensors(source, weights)
    write_gguf(path, family.architecture, metadata, vocabulary, planned, outtype)


def outtype_of(weights: Weights, outtype: str) -> str:
    """Resolve `auto`: the number format of most of the base's weights."""
    if outtype != "auto":
        return outtype
    largest = max(weights.names, key=lambda it: torch.Size(weights.shape(it)).numel())
    return _TYPES.get(weights.dtype(largest), "f32")


def general(source: Source, weights: Weights) -> dict[str, Any]:
    """Return what a file says of where it comes from."""
    n = sum(torch.Size(weights.shape(it)).numel() for it in weights.names)
    card = _front_matter(source.base)
    license_name = card.get("license")
    return {
        "general.type": "model",
        "general.name": model_name(source),
        "general.finetune": source.title,
        "general.size_label": f"{n / 1e9:.1f}B" if n >= 1e9 else f"{n / 1e6:.0f}M",
        "general.quantized_by": f"finetuning-exam {__version__}",
        **({"general.license": license_name} if isinstance(license_name, str) else {}),
        "general.base_model.count": 1,
        "general.base_model.0.name": source.public_base,
    }


def model_name(source: Source) -> str:
    """Return the name of the model, which is more than a name to llama.cpp.

    With "phi-3" in it, white space after special tokens is dropped, and four of them must exist.
    """
    vocabulary = source.tokenizer.get_vocab()
    drops_blanks = any(it.rstrip for it in source.tokenizer.added_tokens_decoder.values())
    name = re.sub(r"(?i)phi-?3", "phi 3", source.title)
    if drops_blanks and all(it in vocabulary for it in _PHI3_TOKENS):
        return f"Phi-3 {name}"
    return name


def _front_matter(folder: Path) -> Mapping[str, Any]:
    """Return the facts at the head of a model card; empty where there is none."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8")
        found = yaml.safe_load(text.split("---", 2)[1]) if text.startswith("---") else {}
    except (OSError, ValueError, yaml.YAMLError, IndexError):
        return {}
    return found if isinstance(found, dict) else {}


def token_metadata(source: Source) -> dict[str, Any]:
    """Return the tokens that begin and end texts, and the chat template of training."""
    tokenizer, encoder = source.tokenizer, source.encoder
    ends: Sequence[int] = source.end_ids
    found: dict[str, Any] = {
        "tokenizer.ggml.add_bos_token": bool(encoder.start_ids),
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.eos_token_id": ends[0],
    }
    for key, token in zip(("eot", "eom"), ends[1:], strict=False):
        found[f"tokenizer.ggml.{key}_token_id"] = token
    own = {
        "bos": tokenizer.bos_token_id,
        "unknown": tokenizer.unk_token_id,
        "padding": tokenizer.pad_token_id,
    }
    found |= {f"tokenizer.ggml.{key}_token_id": it for key, it in own.items() if it is not None}
    if source.chat_template is not None:
        found["tokenizer.chat_template"] = source.chat_template
    return found
