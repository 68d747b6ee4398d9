"""Write a GGUF file, one tensor at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFWriter

    from finetuning_exam.exporting.gguf_files.vocabulary import Vocabulary

_TYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}
_FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7, "bf16": 32}
"""Numbers that say in `general.file_type` what most of the weights are."""
_BLOCK = 32
"""Numbers that q8_0 rounds together."""
_QUANTIZATION_VERSION = 2


@dataclass(frozen=True, slots=True)
class Planned:
    """A tensor that will be written; `read` gives it as (…, columns) in float32."""

    name: str
    shape: tuple[int, ...]
    read: Callable[[], Tensor]


def write_gguf(
    path: Path,
    architecture: str,
    metadata: Mapping[str, Any],
    vocabulary: Vocabulary | None,
    planned: Sequence[Planned],
    outtype: str,
) -> None:
    """Write metadata, vocabulary and tensors; vectors are float32 in every `outtype`."""
    from gguf import GGUFWriter

    writer = GGUFWriter(path, architecture)
    writer.add_file_type(_FILE_TYPES[outtype])
    if outtype == "q8_0":
        writer.add_quantization_version(_QUANTIZATION_VERSION)
    for key, value in metadata.items():
        _add(writer, key, value)
    if vocabulary:
        _add_vocabulary(writer, vocabulary)
    kinds = [kind_of(it.shape, outtype) for it in planned]
    for it, kind in zip(planned, kinds, strict=True):
        _announce(writer, it, kind)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for it, kind in zip(planned, kinds, strict=True):
            tensor = it.read().float().contiguous()
            assert tuple(tensor.shape) == it.shape, it.name
            writer.write_tensor_data(_packed(tensor, kind))
    finally:
        writer.close()


def kind_of(shape: Sequence[int], outtype: str) -> GGMLQuantizationType:
    """Return the type that a tensor is written in: rows that q8_0 cannot divide are f16."""
    from gguf import GGMLQuantizationType

    if len(shape) == 1 or outtype == "f32":
        return GGMLQuantizationType.F32
    if outtype == "q8_0" and shape[-1] % _BLOCK:
        return GGMLQuantizationType.F16
    return GGMLQuantizationType[_TYPES[outtype]]


def size_of(shape: Sequence[int], outtype: str) -> int:
    """Return the bytes of a tensor in the file."""
    from gguf import GGML_QUANT_SIZES

    n_in_block, n_bytes = GGML_QUANT_SIZES[kind_of(shape, outtype)]
    return int(np.prod(shape)) // n_in_block * n_bytes


def _packed(tensor: Tensor, kind: GGMLQuantizationType) -> NDArray[Any]:
    """Return the numbers of a tensor as the file has them."""
    from gguf import GGMLQuantizationType, quants

    if kind == GGMLQuantizationType.F32:
        return tensor.numpy()
    if kind == GGMLQuantizationType.F16:
        return tensor.to(torch.float16).numpy()
    if kind == GGMLQuantizationType.BF16:
        return tensor.to(torch.bfloat16).view(torch.uint16).numpy()
    return np.asarray(quants.quantize(tensor.numpy(), kind))


def _announce(writer: GGUFWriter, it: Planned, kind: GGMLQuantizationType) -> None:
    n_bytes = int(np.prod(it.shape))
    from gguf import GGML_QUANT_SIZES

    n_in_block, block_bytes = GGML_QUANT_SIZES[kind]
    n_bytes = n_bytes // n_in_block * block_bytes
    writer.add_tensor_info(it.name, it.shape, np.dtype(np.float32), n_bytes, raw_dtype=kind)


def _add(writer: GGUFWriter, key: str, value: object) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, list):
        writer.add_array(key, value)
    else:
        raise TypeError(f"{key}: {type(value).__name__}")


def _add_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(list(vocabulary.tokens))
    writer.add_token_types([int(it) for it in vocabulary.kinds])
    if vocabulary.merges:
        writer.add_token_merges(list(vocabulary.merges))
    if vocabulary.scores:
        writer.add_token_scores(list(vocabulary.scores))
    writer.add_add_space_prefix(vocabulary.puts_blank_first)


def write_vocabulary(path: Path, vocabulary: Vocabulary) -> None:
    """Write a vocabulary in a model of one tiny layer of zeros, to try it in llama.cpp."""
    width, n_tokens = 32, len(vocabulary.tokens)
    metadata = {
        "llama.block_count": 1,
        "llama.context_length": 128,
        "llama.embedding_length": width,
        "llama.feed_forward_length": width,
        "llama.attention.head_count": 1,
        "llama.attention.head_count_kv": 1,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.vocab_size": n_tokens,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
    }
    matrices = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (n_tokens, width),
        "output_norm.weight": (width,),
        "blk.0.attn_norm.weight": (width,),
        "blk.0.ffn_norm.weight": (width,),
        **{f"blk.0.{it}.weight": (width, width) for it in matrices},
    }
    planned = [
        Planned(name, shape, lambda shape=shape: torch.zeros(shape))  # type: ignore[misc]
        for name, shape in shapes.items()
    ]
    write_gguf(path, "llama", metadata, vocabulary, planned, "q8_0")
