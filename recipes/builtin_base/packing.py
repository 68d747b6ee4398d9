"""Token documents and packed windows for pretraining."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

Ids = NDArray[np.uint16]


@dataclass(frozen=True)
class TokenDocument:
    """One document as token ids (uint16, ending with the end token), and its weight in the mix."""

    ids: Ids
    weight: int


def load_documents(path: Path, tokenizer: PreTrainedTokenizerFast) -> list[TokenDocument]:
    """Encode every document of a shard, each followed by the end token."""
    with path.open() as lines:
        rows = [json.loads(line) for line in lines]
    encoded = tokenizer([row["text"] for row in rows], verbose=False)["input_ids"]
    return [
        TokenDocument(np.array([*ids, tokenizer.eos_token_id], dtype=np.uint16), row["weight"])
        for ids, row in zip(encoded, rows, strict=True)
    ]


def epoch_windows(documents: list[TokenDocument], length: int, seed: int) -> NDArray[np.uint16]:
    """Return one pass over the weighted documents as shuffled windows, shape (n, length + 1).

    Documents are shuffled and joined into one stream. Consecutive windows overlap by one token, so
    that every token but the first is predicted once.
    """
    order = np.random.default_rng(seed)
    indices = np.repeat(np.arange(len(documents)), [doc.weight for doc in documents])
    order.shuffle(indices)
    stream = np.concatenate([documents[index].ids for index in indices])
    count = (len(stream) - 1) // length
    windows = np.lib.stride_tricks.sliding_window_view(stream, length + 1)[::length][:count]
    return windows[order.permutation(count)]


def batches(
    documents: list[TokenDocument], length: int, rows: int, seed: int, skip: int = 0
) -> Iterator[torch.Tensor]:
    """Yield endless batches of shape (rows, length + 1), skipping the first `skip`."""
    epoch = 0
    while True:
        windows = epoch_windows(documents, length, seed + epoch)
        whole = len(windows) // rows
        for index in range(min(skip, whole), whole):
            chosen = windows[index * rows : (index + 1) * rows]
            yield torch.from_numpy(chosen.astype(np.int64))
        skip = max(0, skip - whole)
        epoch += 1
        if whole == 0:
            raise SystemExit("the corpus is smaller than one batch")
