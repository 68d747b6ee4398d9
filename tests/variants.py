"""Architectures that the fast path computes, with what makes each other than a plain Llama."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Variant:
    """An architecture and what makes it other than a plain Llama."""

    architecture: str
    options: Mapping[str, Any]


VARIANTS = {
    "llama": Variant("llama", {}),
    "llama with biases": Variant("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama tied": Variant("llama", {"tie_word_embeddings": True}),
    "llama of one head per key": Variant("llama", {"num_key_value_heads": 4}),
    "llama with scaled rotation": Variant(
        "llama",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
    ),
    "qwen2": Variant("qwen2", {}),
    "qwen2 with windows": Variant(
        "qwen2", {"use_sliding_window": True, "sliding_window": 30, "max_window_layers": 1}
    ),
    "qwen3": Variant("qwen3", {}),
    "mistral": Variant("mistral", {"sliding_window": 50}),
    "mistral without a window": Variant("mistral", {"sliding_window": None}),
    "smollm3": Variant("smollm3", {"no_rope_layer_interval": 2, "num_hidden_layers": 4}),
    "granite": Variant(
        "granite",
        {
            "embedding_multiplier": 3.0,
            "residual_multiplier": 0.4,
            "logits_scaling": 2.5,
            "attention_multiplier": 0.2,
        },
    ),
    "gemma3": Variant(
        "gemma3",
        {
            "sliding_window": 20,
            "num_hidden_layers": 6,
            "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
        },
    ),
}
