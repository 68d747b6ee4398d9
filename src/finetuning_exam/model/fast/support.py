"""Which models the fast path may compute, and how far it may differ from a model's own pass."""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3", "smollm3", "granite", "gemma3_text")
"""Architectures that `Decoder` supports; tests compare each with its stock forward pass."""
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 1e-2}
"""Largest allowed relative difference from the stock forward pass."""


def why_unsupported(model: PeftModel | PreTrainedModel) -> str | None:
    """Reason why `Decoder` does not support this model; None if it does."""
    config: Any = _whole(model).config
    if config.model_type not in MODEL_TYPES:
        return f"unsupported architecture {config.model_type}"
    if getattr(config, "attention_dropout", 0.0):
        return "attention has dropout"
    if getattr(config, "attn_logit_softcapping", None):
        return "attention scores are soft-capped"
    if getattr(config, "use_bidirectional_attention", False):
        return "attention is not causal"
    return None


def has_plain_head(model: PeftModel | PreTrainedModel) -> bool:
    """Return True if logits are simply hidden states times a matrix."""
    whole = _whole(model)
    head = whole.get_output_embeddings()
    is_capped = bool(getattr(whole.config, "final_logit_softcapping", None))
    return type(head) is torch.nn.Linear and head.bias is None and not is_capped


def _whole(model: PeftModel | PreTrainedModel) -> Any:
    return model.get_base_model() if isinstance(model, PeftModel) else model
