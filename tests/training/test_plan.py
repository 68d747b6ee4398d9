"""The plan of a run: its steps, epochs, learning rate and validations."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetuning_exam.run_record import MicroBatches, PinnedChoices, TrainingPlan
from finetuning_exam.settings import Scheduler, TrainSettings
from finetuning_exam.training.defaults import (
    MAX_EPOCHS,
    MIN_EPOCHS,
    ROWS_SEEN,
    SMALLEST,
    defaults_for,
)
from finetuning_exam.training.plan import MAX_VALIDATIONS, VALIDATION_COST, make_plan

TINY, BIG = 7_000_000, 1_000_000_000


def _plan(
    settings: TrainSettings,
    n_rows: int,
    *,
    n_validation_rows: int = 1,
    n_parameters: int = TINY,
) -> TrainingPlan:
    return make_plan(settings, n_rows, n_validation_rows, n_parameters)


def test_a_plan_computed_by_hand() -> None:
    """100 rows, 3 per pass, 4 passes per step, 2 epochs: 34 passes and 9 steps per epoch."""
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
        (1_000, 4e-3),
        (6_000_000, 4e-3),
        (134_515_008, 1.2e-3),
        (268_098_176, 8.7e-4),
        (1_000_000_000, 5.2e-4),
        (7_000_000_000, 2.4e-4),
    ],
)
def test_auto_depends_on_the_size_of_the_base(n_parameters: int, learning_rate: float) -> None:
    """The larger the base, the lower its learning rate."""
    assert _plan(TrainSettings(), 160, n_parameters=n_parameters).learning_rate == learning_rate


@given(st.integers(1, 10**11))
def test_auto_has_no_steps(n_parameters: int) -> None:
    """A few more parameters change the learning rate by a few percent at most."""
    rates = [defaults_for(n).learning_rate for n in (n_parameters, n_parameters * 21 // 20)]
    assert rates[0] >= rates[1] > 0.9 * rates[0]


@settings(deadline=None)
@given(n_rows=st.integers(1, 100_000))
def test_auto_epochs_are_within_their_bounds(n_rows: int) -> None:
    """A small base sees about the same number of rows for any file, a large one 3 epochs."""
    epochs = _plan(TrainSettings(), n_rows, n_parameters=SMALLEST).num_train_epochs
    assert MIN_EPOCHS <= epochs <= MAX_EPOCHS
    if MIN_EPOCHS < epochs < MAX_EPOCHS:
        assert abs(epochs * n_rows - ROWS_SEEN) <= n_rows
    assert _plan(TrainSettings(), n_rows, n_parameters=BIG).num_train_epochs == MIN_EPOCHS


def test_more_rows_take_fewer_epochs() -> None:
    """`auto` decreases from the most epochs for a small file to the fewest for a large one."""
    plans = [_plan(TrainSettings(), n_rows, n_parameters=SMALLEST) for n_rows in (10, 1000, 10**5)]
    assert [plan.num_train_epochs for plan in plans] == [MAX_EPOCHS, 10, MIN_EPOCHS]


def test_a_resumed_run_keeps_its_rate_and_steps() -> None:
    """Whatever the defaults have become; those of a run that does not record them are known."""
    pinned = PinnedChoices(learning_rate=0.123, total_steps=7)
    plan = make_plan(TrainSettings(), 160, 0, BIG, pinned)
    assert (plan.learning_rate, plan.total_steps) == (0.123, 7)
    before = PinnedChoices(MicroBatches(2048), has_no_rate=True)
    small, big = (make_plan(TrainSettings(), 160, 0, n, before) for n in (5_000_000, BIG))
    assert (small.learning_rate, small.num_train_epochs) == (3e-3, 16)
    assert (big.learning_rate, big.num_train_epochs) == (2e-4, 3)


def test_explicit_numbers_override_auto() -> None:
    """An explicit learning rate or number of epochs applies to bases of every size."""
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
def test_micro_batches_follow_the_settings(changes: dict[str, Any], expected: MicroBatches) -> None:
    """Before memory is measured, `auto` is what a machine with enough memory uses."""
    assert _plan(replace(TrainSettings(), **changes), 32).micro_batches == expected


def test_max_steps_overrides_the_epochs() -> None:
    """`max_steps` sets the number of steps, and the epochs follow from it."""
    plan = _plan(TrainSettings(max_steps=5, num_train_epochs=100), 320)
    assert (plan.total_steps, plan.steps_per_epoch, plan.num_train_epochs) == (5, 20, 0.25)


def test_a_run_has_at_least_one_step() -> None:
    """Even one row and less than one epoch give a step, a validation and a checkpoint."""
    plan = _plan(TrainSettings(num_train_epochs=0.01), 1)
    assert (plan.total_steps, plan.steps_per_epoch, plan.save_steps) == (1, 1, 1)


@pytest.mark.parametrize(("ratio", "steps"), [(0.0, 0), (0.001, 1), (0.03, 3), (0.5, 50)])
def test_warmup_steps_round_up(ratio: float, steps: int) -> None:
    """Warm-up is a share of the steps, rounded up; it is zero only if the ratio is."""
    assert _plan(TrainSettings(max_steps=100, warmup_ratio=ratio), 10).warmup_steps == steps


@pytest.mark.parametrize(("total", "save_steps"), [(1, 1), (9, 1), (10, 1), (11, 2), (100, 10)])
def test_auto_validates_at_most_ten_times(total: int, save_steps: int) -> None:
    """If validation is cheap, `save_steps auto` validates about ten times, and at least once."""
    plan = _plan(TrainSettings(max_steps=total), 1000, n_validation_rows=1)
    assert plan.save_steps == save_steps
    assert _plan(TrainSettings(max_steps=total), 1000, n_validation_rows=0) == plan


@pytest.mark.parametrize("n_validation_rows", [1, 10, 100, 1000, 100_000])
def test_auto_spends_little_time_on_validation(n_validation_rows: int) -> None:
    """All validations together score at most a share of the rows, but there is at least one."""
    chosen = TrainSettings(max_steps=100, per_device_train_batch_size=8)
    plan = _plan(chosen, 800, n_validation_rows=n_validation_rows)
    validations = math.ceil(plan.total_steps / plan.save_steps)
    assert 1 <= validations <= MAX_VALIDATIONS
    if validations > 1:
        assert validations * n_validation_rows <= VALIDATION_COST * 800


def test_explicit_save_steps_are_kept() -> None:
    """An explicit `save_steps` is used, whatever validation costs."""
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
    """The steps of an epoch hold all rows, and its last step is needed."""
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
    """The scheduler `constant` starts at its rate; `constant_with_warmup` rises to it."""
    expected: dict[Scheduler, int] = {"constant": 0, "constant_with_warmup": 50, "linear": 50}
    for scheduler, steps in expected.items():
        chosen = TrainSettings(max_steps=100, warmup_ratio=0.5, lr_scheduler_type=scheduler)
        assert _plan(chosen, 10).warmup_steps == steps
    assert _plan(TrainSettings(max_steps=1, warmup_ratio=0.9), 10).warmup_steps == 0
