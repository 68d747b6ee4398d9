"""One training of a cross-validation: its rows, and what it is given by the whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finetuning_exam.data.split import Split
from finetuning_exam.run_record import Cost, Fold, PinnedChoices
from finetuning_exam.training.checkpoint.find import CheckpointRef

if TYPE_CHECKING:
    from finetuning_exam.evaluation.folds import ExaminedFold


@dataclass(frozen=True, slots=True)
class RunPart:
    """The training of a `fold`, or the last one, on all rows, which has none.

    `home` is the folder of the whole, and that of the last training. Choices are `pinned` and the
    cost is `predicted` once for all parts. If an earlier sitting did all of a fold, `examined` is
    its exam; if it did some of a training, `resumed` is where that goes on. The last training
    concludes the exams of all `folds`.
    """

    split: Split
    home: Path
    folder: Path
    pinned: PinnedChoices
    fold: Fold | None
    resumed: CheckpointRef | None = None
    examined: ExaminedFold | None = None
    predicted: Cost | None = None
    folds: tuple[ExaminedFold, ...] = ()

    @property
    def is_last(self) -> bool:
        """True for the training on all rows."""
        return self.fold is None
