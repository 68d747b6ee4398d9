"""The likelihood of rows: the one computation shared by training, validation and exam."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn.functional import cross_entropy

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.encoding.labels import IGNORED

RowNll = Callable[[Sequence[Encoded]], Tensor]
"""Summed negative log-likelihood of each row's supervised tokens, in nats: (rows,) float32.

A row's weights multiply the terms of its sum.
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows padded on the right to the same length; tensors are (rows, length) int64.

    `weights`, float32, are the factors of the losses; None if all are 1.
    """

    ids: Tensor
    labels: Tensor
    attention: Tensor
    weights: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """Copy the batch to another device."""
        weights = None if self.weights is None else self.weights.to(device)
        return Batch(
            self.ids.to(device), self.labels.to(device), self.attention.to(device), weights
        )


def collate(rows: Sequence[Encoded], pad_id: int) -> Batch:
    """Pad rows on the right.

    Padding is marked by the attention mask, never by its id, so the pad token may be the end token.
    """
    length = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), length), pad_id, dtype=torch.int64)
    labels = torch.full((len(rows), length), IGNORED, dtype=torch.int64)
    attention = torch.zeros((len(rows), length), dtype=torch.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
        labels[index, : len(row.ids)] = torch.tensor(row.labels)
        attention[index, : len(row.ids)] = 1
    return Batch(ids, labels, attention, _weights(rows, length))


def _weights(rows: Sequence[Encoded], length: int) -> Tensor | None:
    if not any(row.weights for row in rows):
        return None
    weights = torch.ones((len(rows), length))
    for index, row in enumerate(rows):
        if row.weights:
            weights[index, : len(row.ids)] = torch.tensor(row.weights)
    return weights


def supervised_nll(model: torch.nn.Module, batch: Batch) -> Tensor:
    """Compute each row's weighted sum of NLL over its supervised tokens, in nats: (rows,) float32.

    If the architecture supports it (`logits_to_keep`), the output head runs only at positions that
    some row supervises.
    """
    targets = batch.labels[:, 1:]  # (rows, length - 1): the label of position t is scored at t - 1
    columns = (targets != IGNORED).any(dim=0).nonzero().squeeze(1)  # (kept,)
    inputs = {"input_ids": batch.ids, "attention_mask": batch.attention, "use_cache": False}
    if keeps_logits(model):
        logits = model(**inputs, logits_to_keep=columns).logits  # (rows, kept, vocabulary)
    else:
        logits = model(**inputs).logits[:, columns]
    kept = targets[:, columns]  # (rows, kept)
    losses = cross_entropy(
        logits.float().flatten(0, 1), kept.flatten(), ignore_index=IGNORED, reduction="none"
    )
    by_row = losses.view(kept.shape)
    if batch.weights is not None:
        by_row = by_row * batch.weights[:, 1:][:, columns]
    return by_row.sum(dim=1)


def stock_nll(model: torch.nn.Module, pad_id: int) -> RowNll:
    """Return the stock likelihood: `supervised_nll` of padded rows on the model's device."""
    device = next(model.parameters()).device
    return lambda rows: supervised_nll(model, collate(rows, pad_id).to(device))


def keeps_logits(model: torch.nn.Module) -> bool:
    """Return True if the model can compute its logits at some positions only."""
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    return "logits_to_keep" in inspect.signature(inner.forward).parameters
