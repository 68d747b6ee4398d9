"""How likely a model finds the supervised tokens of rows: the one computation that training,
validation and exam share.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn.functional import cross_entropy

from finetuning_exam.data.encoding.encode import IGNORED, Encoded

RowNll = Callable[[Sequence[Encoded]], Tensor]
"""Summed negative log-likelihood of each row's supervised tokens, in nats: (rows,) float32."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows padded on the right to one length. All tensors are int64 of shape (rows, length)."""

    ids: Tensor
    labels: Tensor
    attention: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return Batch(self.ids.to(device), self.labels.to(device), self.attention.to(device))


def collate(rows: Sequence[Encoded], pad_id: int) -> Batch:
    """Pad rows on the right. Padding is known by the attention mask, never by its id, so a pad
    token that is also the end token hides nothing.
    """
    length = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), length), pad_id, dtype=torch.int64)
    labels = torch.full((len(rows), length), IGNORED, dtype=torch.int64)
    attention = torch.zeros((len(rows), length), dtype=torch.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
        labels[index, : len(row.ids)] = torch.tensor(row.labels)
        attention[index, : len(row.ids)] = 1
    return Batch(ids, labels, attention)


def supervised_nll(model: torch.nn.Module, batch: Batch) -> Tensor:
    """Summed negative log-likelihood of each row's supervised tokens, in nats: (rows,) float32.

    The output head runs only at positions that some row supervises, where the architecture
    allows it (`logits_to_keep`).
    """
    targets = batch.labels[:, 1:]  # (rows, length - 1): the label of position t is scored at t - 1
    columns = (targets != IGNORED).any(dim=0).nonzero().squeeze(1)  # (kept,)
    inputs = {"input_ids": batch.ids, "attention_mask": batch.attention, "use_cache": False}
    if _keeps_logits(model):
        logits = model(**inputs, logits_to_keep=columns).logits  # (rows, kept, vocabulary)
    else:
        logits = model(**inputs).logits[:, columns]
    kept = targets[:, columns]  # (rows, kept)
    losses = cross_entropy(
        logits.float().flatten(0, 1), kept.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return losses.view(kept.shape).sum(dim=1)


def stock_nll(model: torch.nn.Module, pad_id: int) -> RowNll:
    """`supervised_nll` of rows padded to one length, on the model's device."""
    device = next(model.parameters()).device
    return lambda rows: supervised_nll(model, collate(rows, pad_id).to(device))


def _keeps_logits(model: torch.nn.Module) -> bool:
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    return "logits_to_keep" in inspect.signature(inner.forward).parameters
