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


def labels_of(
    ids: tuple[int, ...], answers: Sequence[tuple[int, int]], loss_on: LossOn
) -> tuple[int, ...]:
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
