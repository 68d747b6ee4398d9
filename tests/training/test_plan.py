"""Specification of how many steps a run takes, and at what learning rate."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetuning_exam.run_record import MicroBatches, TrainingPlan
from finetuning_exam.settings import TrainSettings
from finetuning_exam.training.defaults import LARGE, SMALL, SMALL_MODEL_PARAMETERS
from finetuning_exam.training.plan import (
    MAX_VALIDATIONS,
    VALIDATION_COST,
    make_plan,
)

TINY, BIG = 7_000_000, 1_000_000_000


def _plan(
    settings: TrainSettings,
    n_rows: int,
    *,
    n_validation_rows: int = 1,
    n_parameters: int = TINY,
) -> TrainingPlan:
    return make_plan(settings, n_rows, n_validation_rows, n_parameters)


def test_a_plan_by_hand() -> None:
    """100 rows, 3 a pass, 4 passes a step, 2 epochs: 34 passes, 9 steps an epoch, 18 in all."""
    chosen = TrainSettings(
        per_device_train_batch_size=3,
        gradient_accumulation_steps=4,
        num_train_epochs=2,
        learning_rate=1e-4,
        warmup_ratio=0.1,
        save_steps=5,
    )
    assert _plan(chosen, 100) == TrainingPlan(
        learning_rate=1e-4,
        num_train_epochs=2.0,
        steps_per_epoch=9,
        total_steps=18,
        warmup_steps=2,
        save_steps=5,
        micro_batches=MicroBatches(2048),
    )


@pytest.mark.parametrize(
    ("n_parameters", "learning_rate"),
    [
        (TINY, SMALL.learning_rate),
        (SMALL_MODEL_PARAMETERS - 1, SMALL.learning_rate),
        (SMALL_MODEL_PARAMETERS, LARGE.learning_rate),
        (BIG, LARGE.learning_rate),
    ],
)
def test_auto_is_by_the_size_of_the_base(n_parameters: int, learning_rate: float) -> None:
    """`auto` takes the learning rate of a small or of a large base, and a small one's is higher."""
    assert _plan(TrainSettings(), 160, n_parameters=n_parameters).learning_rate == learning_rate
    assert SMALL.learning_rate > LARGE.learning_rate


@settings(deadline=None)
@given(n_rows=st.integers(1, 100_000))
def test_auto_epochs_are_within_their_bounds(n_rows: int) -> None:
    """A small base sees about as many rows in every file; a large one three passes."""
    few, many = SMALL.min_epochs, SMALL.max_epochs
    epochs = _plan(TrainSettings(), n_rows).num_train_epochs
    assert few <= epochs <= many
    if few < epochs < many:
        assert abs(epochs * n_rows - SMALL.rows_seen) <= n_rows
    assert _plan(TrainSettings(), n_rows, n_parameters=BIG).num_train_epochs == 3


def test_more_rows_take_fewer_epochs() -> None:
    """`auto` falls from most passes over a small file to fewest over a large one."""
    plans = [_plan(TrainSettings(), n_rows) for n_rows in (10, 1000, 100_000)]
    assert [plan.num_train_epochs for plan in plans] == [
        SMALL.max_epochs,
        SMALL.rows_seen / 1000,
        SMALL.min_epochs,
    ]


def test_a_number_given_wins_over_auto() -> None:
    """A learning rate or a number of epochs that is given holds for every size."""
    chosen = TrainSettings(learning_rate=0.5, num_train_epochs=7)
    for n_parameters in (TINY, BIG):
        plan = _plan(chosen, 32, n_parameters=n_parameters)
        assert (plan.learning_rate, plan.num_train_epochs, plan.total_steps) == (0.5, 7.0, 14)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, MicroBatches(2048, checkpointing=False)),
        ({"micro_batch_tokens": 300}, MicroBatches(300, checkpointing=False)),
        ({"gradient_checkpointing": True}, MicroBatches(2048, checkpointing=True)),
        ({"gradient_checkpointing": False}, MicroBatches(2048, checkpointing=False)),
    ],
)
def test_micro_batches_are_those_asked_for(
    changes: dict[str, object], expected: MicroBatches
) -> None:
    """Before memory is looked at, `auto` is what a machine with enough of it gets."""
    assert _plan(replace(TrainSettings(), **changes), 32).micro_batches == expected


def test_max_steps_overrides_the_epochs() -> None:
    """With `max_steps` the run has that many steps, and the epochs follow from it."""
    plan = _plan(TrainSettings(max_steps=5, num_train_epochs=100), 320)
    assert (plan.total_steps, plan.steps_per_epoch, plan.num_train_epochs) == (5, 20, 0.25)


def test_a_run_has_at_least_one_step() -> None:
    """One row, and less than one epoch, still make a step, a validation and a checkpoint."""
    plan = _plan(TrainSettings(num_train_epochs=0.01), 1)
    assert (plan.total_steps, plan.steps_per_epoch, plan.save_steps) == (1, 1, 1)


@pytest.mark.parametrize(("ratio", "steps"), [(0.0, 0), (0.001, 1), (0.03, 3), (0.5, 50)])
def test_warmup_steps_round_up(ratio: float, steps: int) -> None:
    """A share of the steps, rounded up; none only when none was asked for."""
    assert _plan(TrainSettings(max_steps=100, warmup_ratio=ratio), 10).warmup_steps == steps


@pytest.mark.parametrize(("total", "save_steps"), [(1, 1), (9, 1), (10, 1), (11, 2), (100, 10)])
def test_auto_validates_at_most_ten_times(total: int, save_steps: int) -> None:
    """Where validation is cheap, `save_steps auto` validates about ten times, and at least once."""
    plan = _plan(TrainSettings(max_steps=total), 1000, n_validation_rows=1)
    assert plan.save_steps == save_steps
    assert _plan(TrainSettings(max_steps=total), 1000, n_validation_rows=0) == plan


@pytest.mark.parametrize("n_validation_rows", [1, 10, 100, 1000, 100_000])
def test_auto_spends_little_time_on_validation(n_validation_rows: int) -> None:
    """All validations together see at most their share of rows, but there is always one."""
    chosen = TrainSettings(max_steps=100, per_device_train_batch_size=8)
    plan = _plan(chosen, 800, n_validation_rows=n_validation_rows)
    validations = math.ceil(plan.total_steps / plan.save_steps)
    assert 1 <= validations <= MAX_VALIDATIONS
    if validations > 1:
        assert validations * n_validation_rows <= VALIDATION_COST * 800


def test_save_steps_that_are_given_stand() -> None:
    """A number of steps that is given holds, whatever validation costs."""
    assert _plan(TrainSettings(save_steps=7), 800, n_validation_rows=10_000).save_steps == 7


@settings(deadline=None)
@given(
    n_rows=st.integers(1, 100_000),
    batch=st.integers(1, 64),
    accumulation=st.integers(1, 16),
    epochs=st.floats(0.01, 100),
)
def test_the_steps_cover_the_epochs_and_no_more(
    n_rows: int, batch: int, accumulation: int, epochs: float
) -> None:
    """All rows fit in an epoch's steps, and the last step is needed."""
    chosen = TrainSettings(
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        num_train_epochs=epochs,
    )
    plan = _plan(chosen, n_rows)
    rows_per_step = batch * accumulation
    assert (plan.steps_per_epoch - 1) * rows_per_step < n_rows
    assert n_rows <= plan.steps_per_epoch * rows_per_step
    assert epochs * plan.steps_per_epoch <= plan.total_steps
    assert plan.total_steps < epochs * plan.steps_per_epoch + 1
    assert 1 <= math.ceil(plan.total_steps / plan.save_steps) <= 10


def test_a_constant_rate_has_no_warmup() -> None:
    """The scheduler `constant` begins at its rate; `constant_with_warmup` rises to it."""
    for scheduler, steps in (("constant", 0), ("constant_with_warmup", 50), ("linear", 50)):
        chosen = TrainSettings(max_steps=100, warmup_ratio=0.5, lr_scheduler_type=scheduler)
        assert _plan(chosen, 10).warmup_steps == steps
    assert _plan(TrainSettings(max_steps=1, warmup_ratio=0.9), 10).warmup_steps == 0
