"""What exam.json says of a cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetuning_exam.durable import finite

if TYPE_CHECKING:  # it imports torch, which a reader of exam.json does without
    from finetuning_exam.evaluation.exam import FoldFigures


@dataclass(frozen=True, slots=True)
class Fold:
    """A fold: the rows its adapter was trained on and examined on, and the NLL per token of both
    models in its exam.
    """

    n_train: int
    n_exam: int
    nll_base: float | None
    nll_tuned: float | None


@dataclass(frozen=True, slots=True)
class Folds:
    """The adapters that a cross-validation examined, each on rows that it was not trained on.

    The adapter that was saved is not among them: it was trained on all rows, in the same way.
    `forgetting` is measured on it.
    """

    n_adapters_examined: int
    saved_adapter_was_examined: bool
    each: tuple[Fold, ...]


def folds_of(figures: Sequence[FoldFigures]) -> Folds | None:
    """Return what exam.json says of these folds; None if there are none."""
    if not figures:
        return None
    each = tuple(
        Fold(
            it.n_train,
            it.n_exam,
            finite(it.nll_per_token.base),
            finite(it.nll_per_token.tuned),
        )
        for it in figures
    )
    return Folds(len(each), saved_adapter_was_examined=False, each=each)
