"""What a training computes, counted before it starts: the batches it will draw and their sizes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from finetuning_exam.data.encoding.encode import IGNORED, Encoded
from finetuning_exam.model.fast.attention import BLOCK, make_groups
from finetuning_exam.model.fast.packing import split_by_tokens
from finetuning_exam.run_record import MicroBatches
from finetuning_exam.settings import DataSettings, FastPiece, TrainSettings

Rows = tuple[Encoded, ...]


@dataclass(frozen=True, slots=True)
class Size:
    """What the memory of a pass goes by, filling included.

    `pairs` are attention weights a head computes, `logits` the positions where the head runs.
    """

    tokens: int
    pairs: int
    logits: int


def size_of(rows: Sequence[Encoded], pieces: frozenset[FastPiece]) -> Size:
    """The size of one pass over these rows with these pieces of the fast path."""
    lengths = sorted(len(row.ids) for row in rows)
    tokens = computed_tokens(rows, pieces)
    if "attention" in pieces:
        groups = make_groups(lengths, torch.device("cpu"))
        pairs = sum(group.rows * _triangle(group.length) for group in groups)
        return Size(tokens, pairs, sum(row.n_supervised for row in rows))
    places = {at for row in rows for at, label in enumerate(row.labels) if label != IGNORED}
    return Size(tokens, tokens * lengths[-1], len(rows) * len(places))


def computed_tokens(rows: Sequence[Encoded], pieces: frozenset[FastPiece]) -> int:
    """The positions of a pass over these rows: padded to the longest, but for the fast path's."""
    lengths = [len(row.ids) for row in rows]
    return sum(lengths) if "attention" in pieces else len(rows) * max(lengths)


def _triangle(length: int) -> int:
    """Attention weights of a row: even blocks of at most `BLOCK`, each with all keys before it."""
    n_blocks = -(-length // BLOCK)
    return length * length * (n_blocks + 1) // (2 * n_blocks)


def rows_per_step(settings: DataSettings) -> int:
    """Rows of an optimizer batch."""
    return settings.per_device_train_batch_size * settings.gradient_accumulation_steps


def passes(
    batch: Rows, settings: DataSettings, micro: MicroBatches, pieces: frozenset[FastPiece]
) -> list[Rows]:
    """The passes an optimizer batch is computed in, by tokens or, without the fast path's rows,
    by the rows of a batch on the device.
    """
    if "rows" in pieces:
        return split_by_tokens(batch, micro.tokens)
    n = settings.per_device_train_batch_size
    return [batch[start : start + n] for start in range(0, len(batch), n)]


def draw_batches(rows: Sequence[Encoded], settings: TrainSettings, n: int) -> list[Rows]:
    """The first `n` optimizer batches of a training: every row once before any again.

    They are those that its sampler draws (Accelerate's, which is seeded anew in each epoch).
    """
    batch_rows = rows_per_step(settings)
    batches: list[Rows] = []
    for epoch in itertools.count():
        if len(batches) >= n:
            break
        drawn = torch.Generator().manual_seed(settings.seed + epoch)
        order = [rows[index] for index in torch.randperm(len(rows), generator=drawn).tolist()]
        batches += [
            tuple(order[start : start + batch_rows]) for start in range(0, len(order), batch_rows)
        ]
    return batches[:n]


def longest_rows(rows: Sequence[Encoded], n: int) -> Rows:
    """The rows of most tokens, the longest last."""
    return tuple(sorted(rows, key=lambda row: len(row.ids))[-n:])
