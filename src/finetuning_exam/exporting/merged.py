"""Write the merged model as an ordinary Transformers folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from finetuning_exam.durable import Json, read_json, read_object, write_json
from finetuning_exam.exporting.safetensors_file import Entry, write_tensors
from finetuning_exam.exporting.source import Source
from finetuning_exam.exporting.weights import Weights
from finetuning_exam.model.weights import INDEX, WHOLE
from finetuning_exam.settings import Dtype

SHARD_BYTES = 5_000_000_000


def write_merged_folder(
    source: Source, weights: Weights, dtype: Dtype, place: Path, shard_bytes: int = SHARD_BYTES
) -> None:
    """Write weights, config, tokenizer and generation config to an empty folder.

    Args:
        source: The adapter and its base.
        weights: The merged weights.
        dtype: Number format of the weights; `auto` is the base's.
        place: The folder.
        shard_bytes: Most bytes of weights in a file.
    """
    entries = _entries(weights, dtype)
    _write_weights(weights, entries, place, shard_bytes)
    _write_config(source, weights, merged_format(weights, dtype), place)
    write_json(place / "generation_config.json", _generation(source))
    tokenizer = copy(source.tokenizer)
    tokenizer.chat_template = source.chat_template
    tokenizer.save_pretrained(place)
    if source.chat_template is None:
        _drop_template(place)


def merged_bytes(weights: Weights, dtype: Dtype) -> int:
    """Return the size of the weights of a merged folder, in bytes."""
    return sum(it.n_bytes for it in _entries(weights, dtype))


def merged_format(weights: Weights, dtype: Dtype) -> str:
    """Return the number format that most of the weights are written in."""
    sizes: Counter[torch.dtype] = Counter()
    for it in _entries(weights, dtype):
        sizes[it.dtype] += it.n_bytes
    return str(sizes.most_common(1)[0][0]).removeprefix("torch.")


def _entries(weights: Weights, dtype: Dtype) -> list[Entry]:
    wanted = None if dtype == "auto" else cast(torch.dtype, getattr(torch, dtype))
    found: list[Entry] = []
    for name in weights.names:
        stored = weights.dtype(name)
        kept = stored if wanted is None or not stored.is_floating_point else wanted
        found.append(Entry(name, kept, weights.shape(name)))
    return found


def _write_weights(
    weights: Weights, entries: Sequence[Entry], place: Path, shard_bytes: int
) -> None:
    """Write the tensors to one file, or to shards with an index, as Transformers names them."""
    shards: list[list[Entry]] = [[]]
    for it in entries:
        if shards[-1] and sum(other.n_bytes for other in shards[-1]) + it.n_bytes > shard_bytes:
            shards.append([])
        shards[-1].append(it)
    places: dict[str, Json] = {}
    for number, shard in enumerate(shards, 1):
        names = {it.name: it.dtype for it in shard}
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors" if shards[1:] else WHOLE
        write_tensors(place / file, shard, partial(_merged, weights, names))
        places |= dict.fromkeys(names, file)
    if shards[1:]:
        total = sum(it.n_bytes for it in entries)
        write_json(place / INDEX, {"metadata": {"total_size": total}, "weight_map": places})


def _merged(weights: Weights, dtypes: Mapping[str, torch.dtype], name: str) -> Tensor:
    return weights.merged(name, dtypes[name])


def _write_config(source: Source, weights: Weights, dtype: str, place: Path) -> None:
    """Write the base's config with what the adapter has changed of it."""
    config = read_json(source.base / "config.json")
    config.pop("torch_dtype", None)
    config["dtype"] = dtype
    config["eos_token_id"] = _one_or_list(source.end_ids)
    if weights.is_untied:
        config["tie_word_embeddings"] = False
    write_json(place / "config.json", config)


def _generation(source: Source) -> dict[str, Json]:
    """Return a generation config: the tokens of training and exam, and their greedy decoding."""
    before = read_object(source.base / "generation_config.json")
    kept: dict[str, Json] = {
        key: it for key, it in before.items() if key in ("bos_token_id", "pad_token_id")
    }
    return {**kept, "eos_token_id": _one_or_list(source.end_ids), "do_sample": False}


def _one_or_list(ids: tuple[int, ...]) -> Json:
    return ids[0] if len(ids) == 1 else list(ids)


def _drop_template(place: Path) -> None:
    """Remove a chat template that a tokenizer class brings by itself."""
    (place / "chat_template.jinja").unlink(missing_ok=True)
