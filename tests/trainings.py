"""Helpers for tests of training: an objective, plans, workloads and jobs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

import pytest
from tiny import checkpoints_in
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from finetuning_exam.data.encoding.encoder import Encoded, Encoder
from finetuning_exam.model.device import choose_compute
from finetuning_exam.model.fast.path import FastPath
from finetuning_exam.objectives.sft import SupervisedFineTuning
from finetuning_exam.run_record import TrainingPlan
from finetuning_exam.settings import FastPiece, TrainSettings
from finetuning_exam.training.cost.workload import Workload
from finetuning_exam.training.job import TrainingJob
from finetuning_exam.training.plan import make_plan

OBJECTIVE = SupervisedFineTuning(cast(Encoder, None), cast(Encoder, None))
"""Objective for rows that are already encoded."""
FastPieces = tuple[FastPiece | Literal["all", "none"], ...]
"""A value of `--fast_path`."""
BY_BOTH = pytest.mark.parametrize("fast_path", [("all",), ("none",)], ids=["fast", "stock"])
"""Run a test with the full fast path and without it."""


def plan_of(settings: TrainSettings, n_rows: int) -> TrainingPlan:
    """Return the plan for a small model without validation rows."""
    return make_plan(settings, n_rows, n_validation_rows=0, n_parameters=7_000_000)


def workload(fast: FastPath, settings: TrainSettings) -> Workload[Encoded]:
    """Return the workload of training on encoded rows."""
    return Workload(OBJECTIVE, fast, settings)


def job_of(
    fast: FastPath,
    tokenizer: PreTrainedTokenizerBase,
    train_rows: Sequence[Encoded],
    settings: TrainSettings,
    folder: Path,
) -> TrainingJob[Encoded]:
    """Return a job that trains on encoded rows on the CPU, without validation."""
    return TrainingJob(
        OBJECTIVE,
        fast,
        tokenizer,
        tuple(train_rows),
        (),
        settings,
        plan_of(settings, len(train_rows)),
        choose_compute("cpu", "float32"),
        checkpoints_in(folder),
    )
