"""How families of models arrange their weights otherwise in GGUF than in Transformers."""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import Tensor
from transformers import PreTrainedConfig

Arrange = Callable[[str, Tensor, PreTrainedConfig], Tensor]
"""Turn a tensor, by its name in Transformers, into what the GGUF file holds of it."""

_QUERY = re.compile(r"\.q_proj\.(weight|bias)")
_KEY = re.compile(r"\.k_proj\.(weight|bias)")
_CONV1D = re.compile(r"\.(c_attn|c_proj|c_fc)\.weight")
_FUSED = re.compile(r"\.query_key_value\.(weight|bias)")


def as_it_is(name: str, tensor: Tensor, config: PreTrainedConfig) -> Tensor:
    """Return the tensor unchanged."""
    return tensor


def rotary_pairs(name: str, tensor: Tensor, config: PreTrainedConfig) -> Tensor:
    """Interleave the halves of each head of queries and keys.

    Transformers rotates entry i of a head with entry i + half; llama.cpp rotates neighbours in the
    families that have these pairs.
    """
    if _QUERY.search(name):
        return _interleaved(tensor, config.num_attention_heads)
    if _KEY.search(name):
        return _interleaved(tensor, config.num_key_value_heads or config.num_attention_heads)
    return tensor


def _interleaved(tensor: Tensor, n_heads: int) -> Tensor:
    halves = tensor.reshape(n_heads, 2, len(tensor) // n_heads // 2, *tensor.shape[1:])
    return halves.transpose(1, 2).reshape(tensor.shape)


def norms_plus_one(name: str, tensor: Tensor, config: PreTrainedConfig) -> Tensor:
    """Add one to the weights of norms, which Gemma stores as their distance from one."""
    return tensor + 1 if name.endswith("norm.weight") else tensor


def as_linear(name: str, tensor: Tensor, config: PreTrainedConfig) -> Tensor:
    """Transpose GPT-2's Conv1D weights, which are (in, out)."""
    return tensor.T if _CONV1D.search(name) else tensor


def heads_together(name: str, tensor: Tensor, config: PreTrainedConfig) -> Tensor:
    """Put all queries first, then all keys, then all values; GPT-NeoX has them head by head."""
    if not _FUSED.search(name):
        return tensor
    n_heads = config.num_attention_heads
    by_head = tensor.reshape(n_heads, 3, len(tensor) // n_heads // 3, *tensor.shape[1:])
    return by_head.transpose(0, 1).reshape(tensor.shape)
