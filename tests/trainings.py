"""Shared by the tests of training: its two ways, and the plan of a small training."""

from __future__ import annotations

import pytest

from finetuning_exam.run_record import TrainingPlan
from finetuning_exam.settings import TrainSettings
from finetuning_exam.training.plan import make_plan

BY_BOTH = pytest.mark.parametrize("fast_path", [("all",), ("none",)], ids=["fast", "stock"])
"""By every piece of the fast path, and by none."""


def plan_of(settings: TrainSettings, n_rows: int) -> TrainingPlan:
    """The plan of a small model without validation rows."""
    return make_plan(settings, n_rows, n_validation_rows=0, n_parameters=7_000_000)
