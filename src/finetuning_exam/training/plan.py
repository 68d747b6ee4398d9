"""What a run will do, settled before it starts: steps, learning rate, when to validate."""

from __future__ import annotations

import math

from finetuning_exam.run_record import MicroBatches, TrainingPlan
from finetuning_exam.settings import DataSettings, TrainSettings
from finetuning_exam.training.defaults import defaults_for

MICRO_BATCH_TOKENS = 2048
"""Tokens computed at once where memory allows it."""
MAX_VALIDATIONS = 10
VALIDATION_COST = 0.4
"""Most validation rows per training row; scoring a row costs about half of training on it."""


def make_plan(
    settings: TrainSettings, n_rows: int, n_validation_rows: int, n_parameters: int
) -> TrainingPlan:
    """Resolve `auto` by the base's size and count the steps for `n_rows` training rows.

    Micro-batches are those of a machine with memory enough.
    """
    size = defaults_for(n_parameters)
    learning_rate = (
        size.learning_rate if settings.learning_rate == "auto" else settings.learning_rate
    )
    epochs = (
        size.epochs(n_rows) if settings.num_train_epochs == "auto" else settings.num_train_epochs
    )
    per_epoch = steps_per_epoch(settings, n_rows)
    total = settings.max_steps or max(1, math.ceil(epochs * per_epoch))
    rows_seen = total * settings.per_device_train_batch_size * settings.gradient_accumulation_steps
    affordable = int(VALIDATION_COST * rows_seen / max(1, n_validation_rows))
    validations = min(MAX_VALIDATIONS, max(1, affordable))
    save_steps = (
        math.ceil(total / validations) if settings.save_steps == "auto" else settings.save_steps
    )
    return TrainingPlan(
        learning_rate,
        total / per_epoch,
        per_epoch,
        total,
        _warmup_steps(settings, total),
        save_steps,
        MicroBatches(
            MICRO_BATCH_TOKENS
            if settings.micro_batch_tokens == "auto"
            else settings.micro_batch_tokens,
            settings.gradient_checkpointing is True,
        ),
    )


def steps_per_epoch(settings: DataSettings, n_rows: int) -> int:
    """Optimizer steps of one pass over `n_rows` training rows."""
    batches = math.ceil(n_rows / settings.per_device_train_batch_size)
    return math.ceil(batches / settings.gradient_accumulation_steps)


def _warmup_steps(settings: TrainSettings, total: int) -> int:
    """Steps of rising learning rate; never all of them, and none where the rate is constant."""
    if settings.lr_scheduler_type == "constant":
        return 0
    return min(math.ceil(settings.warmup_ratio * total), total - 1)
