"""Plan a run before it starts: steps, learning rate, and when to validate."""

from __future__ import annotations

import math

from finetuning_exam.run_record import MicroBatches, PinnedChoices, TrainingPlan
from finetuning_exam.settings import DataSettings, TrainSettings
from finetuning_exam.training.defaults import defaults_before, defaults_for

MICRO_BATCH_TOKENS = 2048
"""Tokens per pass if memory allows."""
MAX_VALIDATIONS = 10
VALIDATION_COST = 0.4
"""Validation rows per training row, at most; scoring costs about half as much as training."""


def make_plan(
    settings: TrainSettings,
    n_rows: int,
    n_validation_rows: int,
    n_parameters: int,
    pinned: PinnedChoices | None = None,
) -> TrainingPlan:
    """Resolve `auto` by the size of the base, and count the steps for `n_rows` training rows.

    A resumed run keeps its `pinned` learning rate and steps. Micro-batches are planned as if memory
    were unlimited.
    """
    pinned = pinned or PinnedChoices()
    defaults = (defaults_before if pinned.has_no_rate else defaults_for)(n_parameters)
    learning_rate, epochs = settings.learning_rate, settings.num_train_epochs
    if learning_rate == "auto":
        learning_rate = pinned.learning_rate or defaults.learning_rate
    if epochs == "auto":
        epochs = defaults.epochs(n_rows)
    per_epoch = steps_per_epoch(settings, n_rows)
    by_epochs = pinned.total_steps or max(1, math.ceil(epochs * per_epoch))
    total = settings.max_steps or by_epochs
    rows_seen = total * rows_per_step(settings)
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


def rows_per_step(settings: DataSettings) -> int:
    """Return the number of rows in an optimizer batch."""
    return settings.per_device_train_batch_size * settings.gradient_accumulation_steps


def rows_in_step(settings: DataSettings, n_rows: int) -> int:
    """Return the most rows that an optimizer batch really has, with `n_rows` training rows."""
    return min(rows_per_step(settings), n_rows)


def steps_per_epoch(settings: DataSettings, n_rows: int) -> int:
    """Return the optimizer steps of one epoch of `n_rows` training rows."""
    batches = math.ceil(n_rows / settings.per_device_train_batch_size)
    return math.ceil(batches / settings.gradient_accumulation_steps)


def _warmup_steps(settings: TrainSettings, total: int) -> int:
    """Return the warm-up steps: fewer than all steps, and none if the rate is constant."""
    if settings.lr_scheduler_type == "constant":
        return 0
    return min(math.ceil(settings.warmup_ratio * total), total - 1)
