"""Compute the size of passes, on which the estimates of memory and time are based."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.encoding.labels import IGNORED
from finetuning_exam.model.fast.attention import BLOCK, make_groups
from finetuning_exam.model.fast.path import FastPath
from finetuning_exam.objectives.base import Objective, n_tokens, sequences_of
from finetuning_exam.run_record import MicroBatches
from finetuning_exam.settings import FastPiece, TrainSettings
from finetuning_exam.training.batches import split_into_passes
from finetuning_exam.training.plan import rows_per_step

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Size:
    """Counts that the memory of a pass grows with, including padding.

    `pairs` are attention weights per head; `logits` are positions at which the output head runs.
    """

    tokens: int
    pairs: int
    logits: int


def size_of(sequences: Sequence[Encoded], pieces: frozenset[FastPiece]) -> Size:
    """Return the size of one pass over sequences with these pieces of the fast path."""
    lengths = sorted(len(it.ids) for it in sequences)
    tokens = computed_tokens(sequences, pieces)
    if "attention" in pieces:
        groups = make_groups(lengths, torch.device("cpu"))
        pairs = sum(group.rows * _causal_pairs(group.length) for group in groups)
        return Size(tokens, pairs, sum(it.n_supervised for it in sequences))
    supervised = {at for it in sequences for at, label in enumerate(it.labels) if label != IGNORED}
    return Size(tokens, tokens * lengths[-1], len(sequences) * len(supervised))


def computed_tokens(sequences: Sequence[Encoded], pieces: frozenset[FastPiece]) -> int:
    """Return the number of positions in a pass, which the stock attention pads to the longest."""
    lengths = [len(it.ids) for it in sequences]
    return sum(lengths) if "attention" in pieces else len(lengths) * max(lengths)


def _causal_pairs(length: int) -> int:
    """Return a row's attention weights, in even blocks that each see all keys before them."""
    n_blocks = -(-length // BLOCK)
    return length * length * (n_blocks + 1) // (2 * n_blocks)


def longest_rows(sequences: Sequence[Encoded], n: int) -> tuple[Encoded, ...]:
    """Return the `n` sequences with the most tokens, longest last."""
    return tuple(sorted(sequences, key=lambda it: len(it.ids))[-n:])


@dataclass(frozen=True, slots=True)
class Workload(Generic[Row]):
    """The work of a training: an objective's rows, computed by a fast path under some settings."""

    objective: Objective[Row]
    fast: FastPath
    settings: TrainSettings

    def passes(self, batch: Sequence[Row], micro: MicroBatches) -> list[tuple[Row, ...]]:
        """Return the passes that an optimizer batch is split into."""
        return split_into_passes(self.objective, batch, self.settings, micro, self.fast.pieces)

    def size(self, rows: Sequence[Row]) -> Size:
        """Return the size of one pass over rows."""
        return size_of(sequences_of(self.objective, rows), self.fast.pieces)

    def tokens(self, rows: Sequence[Row]) -> int:
        """Return the number of positions in one pass over rows."""
        return computed_tokens(sequences_of(self.objective, rows), self.fast.pieces)

    def length(self, row: Row) -> int:
        """Return the number of tokens in one row."""
        return n_tokens(self.objective, [row])

    def longest_batch(self, rows: Sequence[Row]) -> tuple[Row, ...]:
        """Return an optimizer batch of the rows with the most tokens, longest last."""
        longest = sorted(rows, key=self.length)[-rows_per_step(self.settings) :]
        return tuple(sorted([*longest, *self.objective.extra_rows(0)], key=self.length))
