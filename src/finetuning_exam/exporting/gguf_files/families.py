"""The families of models that can be written as GGUF: their metadata and their weights.

Each is tested with a tiny random model in llama.cpp (tests/exporting/test_families.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from finetuning_exam.exporting.gguf_files.arrange import (
    Arrange,
    as_it_is,
    as_linear,
    heads_together,
    norms_plus_one,
    rotary_pairs,
)

_ACTIVATIONS = ("hidden_activation", "hidden_act", "activation_function")
Value = int | float | bool | str
Metadata = dict[str, Value]
"""Values by their keys without the architecture's name in front."""


@dataclass(frozen=True, slots=True)
class Family:
    """A family of models in GGUF.

    `refuses` says what of a config llama.cpp does not compute, or None. `extra` gives tensors that
    Transformers computes from the config. llama.cpp has one of the `activations` built in.
    """

    architecture: str
    metadata: Callable[[PreTrainedConfig], Metadata]
    arrange: Arrange = as_it_is
    refuses: Callable[[PreTrainedConfig], str | None] = lambda config: None
    extra: Callable[[PreTrainedConfig], Mapping[str, Tensor]] = lambda config: {}
    activations: tuple[str, ...] = ("silu", "swish")

    def reason_against(self, config: PreTrainedConfig) -> str | None:
        """Return what of a config llama.cpp would compute otherwise, or None."""
        own = (getattr(config, name, None) for name in _ACTIVATIONS)
        activation = next((it for it in own if it), None)
        if activation not in self.activations:
            return f"the activation {activation}"
        return self.refuses(config)


def _rope(config: PreTrainedConfig) -> dict[str, Any]:
    found = getattr(config, "rope_parameters", None) or {}
    return dict(found)


def _head_dim(config: PreTrainedConfig) -> int:
    own = getattr(config, "head_dim", None)
    return int(own or config.hidden_size // config.num_attention_heads)


def _common(config: PreTrainedConfig) -> Metadata:
    n_heads = config.num_attention_heads
    return {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": n_heads,
        "attention.head_count_kv": getattr(config, "num_key_value_heads", None) or n_heads,
        "vocab_size": config.vocab_size,
    }


def _rotary(config: PreTrainedConfig) -> Metadata:
    rope = _rope(config)
    share = rope.get("partial_rotary_factor") or getattr(config, "partial_rotary_factor", None)
    found: Metadata = {
        "rope.freq_base": float(rope.get("rope_theta") or 10_000.0),
        "rope.dimension_count": int(_head_dim(config) * (share or 1.0)),
    }
    if rope.get("rope_type") in ("linear", "yarn"):
        found["rope.scaling.type"] = str(rope["rope_type"])
        found["rope.scaling.factor"] = float(rope["factor"])
    if rope.get("rope_type") == "yarn":
        found["rope.scaling.original_context_length"] = int(
            rope.get("original_max_position_embeddings") or config.max_position_embeddings
        )
    return found


def _with_rms(config: PreTrainedConfig) -> Metadata:
    return {
        **_common(config),
        **_rotary(config),
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "attention.key_length": _head_dim(config),
        "attention.value_length": _head_dim(config),
    }


def _other_rope(config: PreTrainedConfig) -> str | None:
    kind = _rope(config).get("rope_type", "default")
    return None if kind in ("default", "linear", "yarn", "llama3") else f"rope type {kind}"


def _llama3_frequencies(config: PreTrainedConfig) -> Mapping[str, Tensor]:
    """Return by what each rotary frequency is divided, as Llama 3's rope type stretches them."""
    rope = _rope(config)
    if rope.get("rope_type") != "llama3":
        return {}
    dims = int(_head_dim(config))
    steps = torch.arange(0, dims, 2, dtype=torch.float32) / dims
    wavelengths = 2 * math.pi * float(rope["rope_theta"]) ** steps
    factor, low, high = (
        float(rope[key]) for key in ("factor", "low_freq_factor", "high_freq_factor")
    )
    original = float(rope["original_max_position_embeddings"])
    smooth = ((original / wavelengths - low) / (high - low)).clamp(0, 1)
    return {"rope_freqs.weight": 1 / ((1 - smooth) / factor + smooth)}


def _no_window(config: PreTrainedConfig) -> str | None:
    window = getattr(config, "sliding_window", None)
    if (
        window
        and window < config.max_position_embeddings
        and getattr(config, "use_sliding_window", True)
    ):
        return f"a sliding window of {window} positions in a context of more"
    return _other_rope(config)


def _gemma3(config: PreTrainedConfig) -> Metadata:
    rope = _rope(config)
    return {
        **_common(config),
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "attention.key_length": _head_dim(config),
        "attention.value_length": _head_dim(config),
        "attention.sliding_window": int(config.sliding_window),
        "rope.freq_base": float(rope["full_attention"]["rope_theta"]),
        "rope.freq_base_swa": float(rope["sliding_attention"]["rope_theta"]),
    }


def _gemma3_refuses(config: PreTrainedConfig) -> str | None:
    """llama.cpp has every sixth layer see the whole text, and scales by the size of a head."""
    layers = [
        "full_attention" if (layer + 1) % 6 == 0 else "sliding_attention"
        for layer in range(config.num_hidden_layers)
    ]
    if list(config.layer_types) != layers:
        return "layers of full attention in other places"
    if config.query_pre_attn_scalar != _head_dim(config):
        return f"query_pre_attn_scalar {config.query_pre_attn_scalar}"
    if config.final_logit_softcapping or config.attn_logit_softcapping:
        return "soft caps of logits"
    kinds = {it.get("rope_type", "default") for it in _rope(config).values()}
    return None if kinds == {"default"} else f"rope types {', '.join(sorted(kinds))}"


def _phi3(config: PreTrainedConfig) -> Metadata:
    found = _with_rms(config)
    window = config.sliding_window or 0
    return {**found, "attention.sliding_window": int(window)}


def _phi3_refuses(config: PreTrainedConfig) -> str | None:
    kind = _rope(config).get("rope_type", "default")
    return None if kind == "default" else f"rope type {kind}"


def _gpt2(config: PreTrainedConfig) -> Metadata:
    return {
        "block_count": config.n_layer,
        "context_length": config.n_positions,
        "embedding_length": config.n_embd,
        "feed_forward_length": config.n_inner or 4 * config.n_embd,
        "attention.head_count": config.n_head,
        "attention.layer_norm_epsilon": float(config.layer_norm_epsilon),
        "vocab_size": config.vocab_size,
    }


def _gpt2_refuses(config: PreTrainedConfig) -> str | None:
    usual = config.scale_attn_weights and not config.scale_attn_by_inverse_layer_idx
    return None if usual else "other scales of attention"


def _gpt_neox(config: PreTrainedConfig) -> Metadata:
    """Every head has keys and values of its own, whatever else a config says."""
    return {**_with_layer_norm(config), "attention.head_count_kv": config.num_attention_heads}


def _with_layer_norm(config: PreTrainedConfig) -> Metadata:
    return {
        **_common(config),
        **_rotary(config),
        "attention.layer_norm_epsilon": float(config.layer_norm_eps),
        "use_parallel_residual": bool(config.use_parallel_residual),
    }


def _stablelm_refuses(config: PreTrainedConfig) -> str | None:
    return "norms of queries and keys by head" if config.qk_layernorm else _other_rope(config)


def _granite(config: PreTrainedConfig) -> Metadata:
    return {
        **_with_rms(config),
        "attention.scale": float(config.attention_multiplier),
        "embedding_scale": float(config.embedding_multiplier),
        "residual_scale": float(config.residual_multiplier),
        "logit_scale": float(config.logits_scaling),
    }


def _smollm3_refuses(config: PreTrainedConfig) -> str | None:
    """llama.cpp leaves rotary positions out of every fourth layer."""
    usual = [int((layer + 1) % 4 != 0) for layer in range(config.num_hidden_layers)]
    if list(config.no_rope_layers) != usual:
        return "layers without positions in other places"
    return _no_window(config)


def _mistral(config: PreTrainedConfig) -> Metadata:
    """llama.cpp has no window for this family, so the context ends where it would matter."""
    window = config.sliding_window or config.max_position_embeddings
    return {
        **_with_rms(config),
        "context_length": min(int(window), config.max_position_embeddings),
    }


FAMILIES = {
    "llama": Family("llama", _with_rms, rotary_pairs, _other_rope, _llama3_frequencies),
    "mistral": Family("llama", _mistral, rotary_pairs, _other_rope),
    "qwen2": Family("qwen2", _with_rms, refuses=_no_window),
    "qwen3": Family("qwen3", _with_rms, refuses=_no_window),
    "gemma3_text": Family(
        "gemma3",
        _gemma3,
        norms_plus_one,
        _gemma3_refuses,
        activations=("gelu_pytorch_tanh",),
    ),
    "phi3": Family("phi3", _phi3, refuses=_phi3_refuses),
    "gpt2": Family("gpt2", _gpt2, as_linear, _gpt2_refuses, activations=("gelu_new",)),
    "gpt_neox": Family("gptneox", _gpt_neox, heads_together, _other_rope, activations=("gelu",)),
    "smollm3": Family("smollm3", _with_rms, rotary_pairs, _smollm3_refuses, _llama3_frequencies),
    "granite": Family("granite", _granite, rotary_pairs, _other_rope),
    "olmo2": Family("olmo2", _with_rms, refuses=_other_rope),
    "stablelm": Family("stablelm", _with_layer_norm, refuses=_stablelm_refuses),
}
"""Families by the `model_type` of their config."""
