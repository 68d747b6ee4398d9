"""How far a tuned model has moved from its base on texts: both likelihoods, and the divergence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.encoding.labels import IGNORED
from finetuning_exam.model.fast.path import FastPath
from finetuning_exam.model.likelihood import keeps_logits
from finetuning_exam.model.mode import evaluating, on_side
from finetuning_exam.model.score import Score

BLOCK_LOGITS = 2**24
"""Logits of one model in memory at a time (64 MiB in float32): 341 positions of a vocabulary of
49,152 tokens, 64 of one of 262,144.
"""


@dataclass(frozen=True, slots=True)
class TextScores:
    """The scores of base and tuned model on one text, and KL(base‖tuned) in nats, summed over its
    predicted tokens.
    """

    base: Score
    tuned: Score
    kl: float


def compare_texts(
    fast: FastPath, rows: Sequence[Encoded], batch_size: int
) -> tuple[TextScores, ...]:
    """Compare base and tuned model on every row, in the order given, by one pass of each.

    KL(base‖tuned) at a position is Σ p (log p − log q) over the vocabulary, where p and q are what
    base and tuned model predict there. Logits exist for a block of positions at a time.
    """
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].ids))
    found: list[TextScores] = []
    with evaluating(fast.model), torch.inference_mode():
        # A head of another kind than a matrix gets one row at a time.
        has_states = fast.has_shared_head
        size = batch_size if has_states else 1
        for start in range(0, len(order), size):
            part = [rows[index] for index in order[start : start + size]]
            pairs = _from_states(fast, part) if has_states else _from_logits(fast, part[0])
            found += _text_scores(part, pairs)
    place = {index: position for position, index in enumerate(order)}
    return tuple(found[place[index]] for index in range(len(rows)))


Pairs = Iterator[tuple[Tensor, Tensor]]
"""Log-probabilities of base and tuned model, (positions, vocabulary), a block at a time."""


def _text_scores(rows: Sequence[Encoded], pairs: Pairs) -> list[TextScores]:
    """Sum blocks, which go through the supervised positions of the rows in order, by row."""
    targets = torch.tensor([it for row in rows for it in row.labels if it != IGNORED])
    sums: list[Tensor] = []
    start = 0
    for log_p, log_q in pairs:
        target = targets[start : start + len(log_p), None].to(log_p.device)
        start += len(log_p)
        base, tuned = -log_p.gather(1, target), -log_q.gather(1, target)
        kl = log_p.exp().mul_(log_p.sub_(log_q)).sum(dim=1, keepdim=True)
        sums.append(torch.cat((base, tuned, kl), dim=1).double().cpu())
    by_row = torch.cat(sums).split([row.n_supervised for row in rows])
    return [
        TextScores(
            Score(base, row.n_supervised, row.answer_bytes),
            Score(tuned, row.n_supervised, row.answer_bytes),
            kl,
        )
        for row, it in zip(rows, by_row, strict=True)
        for base, tuned, kl in [it.sum(dim=0).tolist()]
    ]


def _from_states(fast: FastPath, rows: Sequence[Encoded]) -> Pairs:
    """Compute log-probabilities from the last hidden states of rows."""
    with on_side(fast.model, "base"):
        base = torch.cat(fast.hidden_states(rows))
    with on_side(fast.model, "tuned"):
        tuned = torch.cat(fast.hidden_states(rows))
    n = _block_length(fast)
    for start in range(0, len(base), n):
        part = slice(start, start + n)
        yield fast.log_probabilities(base[part]), fast.log_probabilities(tuned[part])


def _from_logits(fast: FastPath, row: Encoded) -> Pairs:
    """Compute log-probabilities by the model's own forward pass, once for every block."""
    model: Any = fast.model
    ids = torch.tensor([row.ids], device=model.device)
    places = [at for at, label in enumerate(row.labels[1:]) if label != IGNORED]
    predicting = torch.tensor(places, device=model.device)
    keeps = keeps_logits(model)
    for at in predicting.split(_block_length(fast) if keeps else len(predicting)):
        found = []
        for side in ("base", "tuned"):
            with on_side(model, side):
                if keeps:
                    logits = model(input_ids=ids, use_cache=False, logits_to_keep=at).logits[0]
                else:
                    logits = model(input_ids=ids, use_cache=False).logits[0, at]
            found.append(torch.log_softmax(logits.float(), dim=1))
        yield found[0], found[1]


def _block_length(fast: FastPath) -> int:
    vocabulary: int = fast.model.get_output_embeddings().weight.shape[0]
    return max(1, BLOCK_LOGITS // vocabulary)
