"""Whether a folder's config.json describes a causal language model, before its weights are read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from finetuning_exam.durable import Json, read_object
from finetuning_exam.errors import ModelError

_DECODER_ONLY = "Use a decoder-only model, such as Llama, Qwen or Gemma."
_CAUSAL_CLASSES = ("ForCausalLM", "LMHeadModel")
"""Endings of the names of classes that write text from left to right."""


def check_is_causal(folder: Path, name: str) -> str:
    """Check that config.json is that of a causal language model; return its model type.

    The classes of some families also load as causal models what was trained to fill in masks. Such
    a model sees the answer that it is to predict, and training teaches it nothing.

    Transformers' list of causal models needs torch, so it is looked up only where `architectures`
    does not name a causal class of the model type.

    Raises:
        ModelError: the architecture is unknown or of another kind.
    """
    config = read_object(folder / "config.json")
    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise ModelError(
            f"{name}: config.json names no model_type, so its architecture is not known.",
            "Copy the model again, with the config.json that belongs to it.",
        )
    if config.get("is_encoder_decoder") is True:
        raise ModelError(
            f"{name}: an encoder-decoder model ({kind}), which is not a causal language model.",
            _DECODER_ONLY,
        )
    if not _names_causal_class(config, kind):
        _look_up(kind, name)
        if _is_masked(kind) and config.get("is_decoder") is not True:
            raise _sees_ahead(kind, name)
    text = config.get("text_config")
    if any(map(_is_bidirectional, (config, text if isinstance(text, dict) else {}))):
        raise _sees_ahead(kind, name)
    return kind


def _names_causal_class(config: Mapping[str, Json], kind: str) -> bool:
    from transformers.models.auto.auto_mappings import CONFIG_MAPPING_NAMES

    classes = config.get("architectures")
    names = [it for it in classes if isinstance(it, str)] if isinstance(classes, list) else []
    own = kind.replace("_", "")
    return (
        kind in CONFIG_MAPPING_NAMES
        and any(it.lower().startswith(own) and it.endswith(_CAUSAL_CLASSES) for it in names)
        and config.get("is_decoder") is not False
    )


def _look_up(kind: str, name: str) -> None:
    """Refuse an architecture that Transformers does not have, or not as a causal model."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if kind not in CONFIG_MAPPING_NAMES:
        raise ModelError(
            f"{name}: the architecture {kind!r} is not part of Transformers "
            f"{transformers.__version__}.",
            "Use another model, or a version of this program for a newer Transformers.",
        )
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(
            f"{name}: a model of the architecture {kind!r}, which is not a causal language model.",
            _DECODER_ONLY,
        )


def _is_masked(kind: str) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def _is_bidirectional(config: Mapping[str, Json]) -> bool:
    return config.get("use_bidirectional_attention") in (True, "all") or (
        config.get("is_causal") is False
    )


def _sees_ahead(kind: str, name: str) -> ModelError:
    return ModelError(
        f"{name}: a {kind} model that sees the text on both sides of a token, and so is not a "
        "causal language model.",
        _DECODER_ONLY,
    )
