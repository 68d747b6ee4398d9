"""Write GGUF files of tiny models, with llama.cpp's names and its order of rotated dimensions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFWriter, TokenType, get_tensor_name_map
from gguf.quants import quantize
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer


def write_gguf(
    folder: Path, path: Path, quantization: GGMLQuantizationType = GGMLQuantizationType.F32
) -> None:
    """Write a folder's Llama model and its byte-level tokenizer as one GGUF file.

    Matrices are stored in the number format given, and vectors in float32.
    """
    config = AutoConfig.from_pretrained(folder)
    writer = GGUFWriter(path, "llama")
    writer.add_type("model")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, folder, config.vocab_size)
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in load_file(folder / "model.safetensors").items():
        if name.endswith("q_proj.weight"):
            tensor = _interleaved(tensor, config.num_attention_heads)
        elif name.endswith("k_proj.weight"):
            tensor = _interleaved(tensor, config.num_key_value_heads)
        place = names.get_name(name, try_suffixes=(".weight",))
        assert place is not None
        kind = quantization if tensor.ndim > 1 else GGMLQuantizationType.F32
        stored = quantize(np.ascontiguousarray(tensor.float().numpy()), kind)
        writer.add_tensor(place, stored, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _interleaved(weight: torch.Tensor, n_heads: int) -> torch.Tensor:
    """Put the two halves of each head, which are rotated together, next to each other."""
    halves = weight.reshape(n_heads, 2, weight.shape[0] // n_heads // 2, weight.shape[1])
    return halves.transpose(1, 2).reshape(weight.shape)


def _add_tokenizer(writer: GGUFWriter, folder: Path, size: int) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    special = {it["id"]: it["content"] for it in content["added_tokens"]}
    by_id = {number: token for token, number in content["model"]["vocab"].items()} | special
    tokens = [by_id.get(number, f"<unused{number}>") for number in range(size)]
    kinds = [
        TokenType.CONTROL
        if number in special
        else TokenType.NORMAL
        if number in by_id
        else TokenType.UNUSED
        for number in range(size)
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in content["model"]["merges"]])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_bos_token_id(tokenizer.eos_token_id)
    writer.add_add_bos_token(False)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)
