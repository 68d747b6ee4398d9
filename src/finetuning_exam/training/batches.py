"""Optimizer batches of a run: their rows, their order, and the passes they are split into."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TypeVar

import torch

from finetuning_exam.model.fast.packing import split_by_tokens
from finetuning_exam.objectives.base import Objective, n_tokens
from finetuning_exam.run_record import MicroBatches
from finetuning_exam.settings import DataSettings, FastPiece, TrainSettings
from finetuning_exam.training.plan import rows_per_step

Row = TypeVar("Row")


def split_into_passes(
    objective: Objective[Row],
    batch: Sequence[Row],
    settings: DataSettings,
    micro: MicroBatches,
    pieces: frozenset[FastPiece],
) -> list[tuple[Row, ...]]:
    """Split an optimizer batch into forward and backward passes.

    The fast path's `rows` piece splits by tokens, the stock path by `per_device_train_batch_size`.
    """
    if "rows" in pieces:
        lengths = [n_tokens(objective, [row]) for row in batch]
        parts = split_by_tokens(lengths, micro.tokens)
        return [tuple(batch[index] for index in part) for part in parts]
    n = settings.per_device_train_batch_size
    return [tuple(batch[start : start + n]) for start in range(0, len(batch), n)]


def draw_batches(rows: Sequence[Row], settings: TrainSettings, n: int) -> list[tuple[Row, ...]]:
    """Return the first `n` optimizer batches of a run; each epoch uses every row once.

    The order is that of the trainer's sampler: Accelerate's, reseeded for each epoch.
    """
    batch_rows = rows_per_step(settings)
    batches: list[tuple[Row, ...]] = []
    for epoch in itertools.count():
        if len(batches) >= n:
            break
        generator = torch.Generator().manual_seed(settings.seed + epoch)
        order = [rows[index] for index in torch.randperm(len(rows), generator=generator).tolist()]
        batches += [
            tuple(order[start : start + batch_rows]) for start in range(0, len(order), batch_rows)
        ]
    return batches[:n]
