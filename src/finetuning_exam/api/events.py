"""The progress of a run as typed events, which are passed to a callback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetuning_exam.answer_limit import AnswerLimit
from finetuning_exam.data.check import Check
from finetuning_exam.data.split import Split
from finetuning_exam.evaluation.outlook import ExamOutlook
from finetuning_exam.training.checkpoint.find import CheckpointRef
from finetuning_exam.training.progress import Progress

if TYPE_CHECKING:
    from finetuning_exam.evaluation.exam import FoldFigures, Stage
    from finetuning_exam.model.session import Session
    from finetuning_exam.run_record import Cost, Fold, TrainingResult
    from finetuning_exam.training.prepare import Prepared


@dataclass(frozen=True, slots=True)
class DataRead:
    """The data is read, checked and split; the model is loaded next.

    `exam` says whether the exam is large enough for a verdict. In a cross-validation, `folds` are
    the splits of its folds, and the exam of `split` has all examples.
    """

    check: Check
    split: Split
    exam: ExamOutlook
    folds: tuple[Split, ...] = ()


@dataclass(frozen=True, slots=True)
class RunPrepared:
    """Model, rows, steps and memory are settled; time is estimated next."""

    prepared: Prepared


@dataclass(frozen=True, slots=True)
class CostPredicted:
    """The prediction of time and memory; `can_stop_early` says that the time is an upper limit.

    It is for `n_trainings` together, those that are left of a cross-validation. `answers` is the
    limit for the `n_asking` examples of the exam that can be answered.
    """

    cost: Cost
    can_stop_early: bool
    answers: AnswerLimit
    n_asking: int
    n_trainings: int = 1


@dataclass(frozen=True, slots=True)
class RunBegun:
    """The folder is the run's own now; training starts next.

    `replaced` says that it held an earlier run. For a resumed run `machine_changes` are what may
    change its last bits.
    """

    replaced: bool
    resumed: CheckpointRef | None
    machine_changes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FoldBegun:
    """A fold of a cross-validation is trained next; `begun` says what it resumes from."""

    fold: Fold
    begun: RunBegun


@dataclass(frozen=True, slots=True)
class FoldEnded:
    """A fold is trained and examined; `is_earlier` says that an earlier sitting did it."""

    fold: Fold
    figures: FoldFigures
    is_earlier: bool


@dataclass(frozen=True, slots=True)
class TrainingEnded:
    """The adapter is trained and saved; `seconds` are wall time with validation and saving."""

    result: TrainingResult
    seconds: float


@dataclass(frozen=True, slots=True)
class SessionLoaded:
    """Base and adapter are loaded."""

    session: Session


@dataclass(frozen=True, slots=True)
class Notice:
    """A line to print: what was read, left out or cut."""

    text: str


@dataclass(frozen=True, slots=True)
class ExamStage:
    """What the exam does next: scoring, answering or choosing."""

    stage: Stage


@dataclass(frozen=True, slots=True)
class ExportStage:
    """What an export does next, such as `writing model.safetensors`."""

    stage: str


Event = (
    DataRead
    | RunPrepared
    | CostPredicted
    | RunBegun
    | Progress
    | FoldBegun
    | FoldEnded
    | TrainingEnded
    | SessionLoaded
    | Notice
    | ExamStage
    | ExportStage
)
OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Do nothing with an event."""
