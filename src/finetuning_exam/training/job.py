"""Everything that the training loop and the trainer need, in one typed object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from finetuning_exam.model.device import Compute
from finetuning_exam.model.fast.path import FastPath
from finetuning_exam.objectives.base import Objective
from finetuning_exam.run_record import TrainingPlan
from finetuning_exam.settings import TrainSettings
from finetuning_exam.training.checkpoint.save import CheckpointConfig

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class TrainingJob(Generic[Row]):
    """An adapter to train in place, with its rows, objective and plan.

    `row_names` give the origin of each training row (`data.jsonl:3`) for error messages.
    """

    objective: Objective[Row]
    fast: FastPath
    tokenizer: PreTrainedTokenizerBase
    train_rows: tuple[Row, ...]
    validation_rows: tuple[Row, ...]
    settings: TrainSettings
    plan: TrainingPlan
    compute: Compute
    checkpoints: CheckpointConfig
    row_names: tuple[str, ...] = ()
