"""One training, as the loop and the trainer get it: a single typed object."""

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
    """An adapter to train in place: on which rows, by which objective, and with which plan.

    `row_names` say where the training rows come from (`data.jsonl:3`), for error messages.
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
