"""Prepare replay: the texts, and the base's side of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from finetuning_exam.data.encoding.encoder import Encoded, Encoder
from finetuning_exam.data.encoding.labels import IGNORED
from finetuning_exam.model.fast.path import FastPath
from finetuning_exam.model.generation.own_texts import write_own_texts
from finetuning_exam.model.mode import evaluating, on_side
from finetuning_exam.model.replay_row import ReplayRow
from finetuning_exam.objectives.replay import Replay
from finetuning_exam.settings import TrainSettings

MAX_TEXTS = 256
"""Texts that the base writes, at most: more of them measure no better (docs/experiments.md)."""
_BATCH = 16

Ids = tuple[int, ...]


def write_texts(
    settings: TrainSettings, fast: FastPath, encoder: Encoder, n_steps: int
) -> tuple[Ids, ...]:
    """Let the base write the texts of a run: one for each step, up to `MAX_TEXTS`."""
    n_texts = min(n_steps, MAX_TEXTS)
    return write_own_texts(fast.model, encoder, n_texts, settings.replay_tokens, settings.seed)


def make_replay(settings: TrainSettings, fast: FastPath, texts: Sequence[Ids]) -> Replay:
    """Return replay of texts, with what the base predicts in each."""
    rows: list[ReplayRow] = []
    encoded = [Encoded(ids, (IGNORED, *ids[1:]), 0, 0) for ids in texts]
    with on_side(fast.model, "base"), evaluating(fast.model), torch.no_grad():
        for start in range(0, len(encoded), _BATCH):
            part = encoded[start : start + _BATCH]
            for row, base in zip(part, fast.hidden_states(part), strict=True):
                rows.append(ReplayRow(row.ids, row.labels, 0, 0, base))
    return Replay(tuple(rows), settings.replay_weight, 1, settings.seed)


def without_replay(replay: Replay) -> Replay:
    """Return the same settings without rows."""
    return replace(replay, rows=())
