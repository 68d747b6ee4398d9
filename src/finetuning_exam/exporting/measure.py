"""Answers and likelihoods of a model in this process, token by token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.encoding.labels import IGNORED
from finetuning_exam.model.mode import evaluating

TokenNlls = tuple[float, ...]
"""The negative log-likelihood of each supervised token of a row, in nats."""


def supervised(row: Encoded) -> tuple[int, ...]:
    """Return the positions of a row that have a label."""
    return tuple(index for index, label in enumerate(row.labels) if label != IGNORED)


def token_nlls(model: PreTrainedModel | PeftModel, rows: Sequence[Encoded]) -> list[TokenNlls]:
    """Score each row alone: no padding, and nothing shared with the fast path."""
    return [tuple(_row_nlls(model, row).tolist()) for row in rows]


def _row_nlls(model: PreTrainedModel | PeftModel, row: Encoded) -> torch.Tensor:
    positions = torch.tensor(supervised(row))
    with evaluating(model), torch.inference_mode():
        logits = model(input_ids=torch.tensor([row.ids]), use_cache=False).logits[0]
        scores = logits[positions - 1].float().log_softmax(dim=-1)
    nlls: torch.Tensor = -scores.gather(1, torch.tensor(row.ids)[positions][:, None]).squeeze(1)
    return nlls


def margin(model: PreTrainedModel | PeftModel, ids: Sequence[int], token: int) -> float:
    """Return how many nats a token is less likely than the likeliest, after `ids`."""
    with evaluating(model), torch.inference_mode():
        logits = model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0, -1].float()
    return float(logits.max() - logits[token])
