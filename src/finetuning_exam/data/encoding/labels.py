"""Labels: which tokens of a row are supervised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

IGNORED = -100
"""The label of a position without loss, as in PyTorch's cross-entropy."""
LossOn = Literal["last_answer", "answers", "everything"]
"""The supervised part: the last answer, every assistant turn, or all but the first token."""


def training_loss_on(*, completion_only: bool) -> LossOn:
    """Return what a training supervises, as `--completion_only_loss` has it."""
    return "answers" if completion_only else "everything"


Span = tuple[int, int]
"""The first index of a stretch of a row, and the one behind it."""


def weights_of(
    n_ids: int, answers: Sequence[Span], weights: Sequence[float], loss_on: LossOn
) -> tuple[float, ...] | None:
    """Return the weight of each id's loss; None where each is 1.

    `weights` are those of the `answers`. A row scored for its last answer alone has none; where
    everything is trained, a prompt weighs as much as the answer that follows it.
    """
    if loss_on == "last_answer" or all(weight == 1 for weight in weights):
        return None
    found: list[float] = []
    for (_, end), weight in zip(answers, weights, strict=True):
        found += [weight] * (end - len(found))
    return (*found, *([weights[-1]] * (n_ids - len(found))))


def labels_of(ids: tuple[int, ...], answers: Sequence[Span], loss_on: LossOn) -> tuple[int, ...]:
    """Return a label for each id: the id itself where it is supervised, else `IGNORED`.

    `answers` are the spans (start, end) of the answers with their end tokens, in order. The first
    token of a row is never supervised, since nothing predicts it.
    """
    spans = answers
    if loss_on == "everything":
        spans = [(0, len(ids))]
    elif loss_on == "last_answer":
        spans = answers[-1:]
    labels: list[int] = []
    for start, end in spans:
        start = max(start, 1)
        labels += [IGNORED] * (start - len(labels))
        labels += ids[start:end]
    return (*labels, *([IGNORED] * (len(ids) - len(labels))))
