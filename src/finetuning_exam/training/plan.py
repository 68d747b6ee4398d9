"""What a run will do, settled before it starts: steps, learning rate, when to validate."""

from __future__ import annotations

import math
from dataclasses import dataclass

from finetuning_exam.settings import TrainSettings

SMALL_MODEL_PARAMETERS = 50_000_000
VALIDATIONS_PER_RUN = 10


@dataclass(frozen=True, slots=True)
class SizeDefaults:
    """What `auto` means for a model of some size."""

    learning_rate: float
    num_train_epochs: float


SMALL = SizeDefaults(learning_rate=3e-3, num_train_epochs=16)
"""Below `SMALL_MODEL_PARAMETERS`: measured on the built-in base (docs/experiments.md)."""
LARGE = SizeDefaults(learning_rate=2e-4, num_train_epochs=3)
"""The LoRA paper's and TRL's usual choice (Hu et al. 2021)."""


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """Resolved numbers of a run; all steps are optimizer steps."""

    learning_rate: float
    num_train_epochs: float
    steps_per_epoch: int
    total_steps: int
    warmup_steps: int
    save_steps: int


def make_plan(settings: TrainSettings, n_rows: int, n_parameters: int) -> TrainingPlan:
    """Resolve `auto` by the base's size and count the steps for `n_rows` training rows."""
    size = SMALL if n_parameters < SMALL_MODEL_PARAMETERS else LARGE
    learning_rate = (
        size.learning_rate if settings.learning_rate == "auto" else settings.learning_rate
    )
    epochs = (
        size.num_train_epochs if settings.num_train_epochs == "auto" else settings.num_train_epochs
    )
    batches = math.ceil(n_rows / settings.per_device_train_batch_size)
    steps_per_epoch = math.ceil(batches / settings.gradient_accumulation_steps)
    total = settings.max_steps or max(1, math.ceil(epochs * steps_per_epoch))
    save_steps = (
        max(1, math.ceil(total / VALIDATIONS_PER_RUN))
        if settings.save_steps == "auto"
        else settings.save_steps
    )
    return TrainingPlan(
        learning_rate,
        total / steps_per_epoch,
        steps_per_epoch,
        total,
        math.ceil(settings.warmup_ratio * total),
        save_steps,
    )
