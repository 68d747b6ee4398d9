"""What a run will take, told before its first step."""

from __future__ import annotations

from finetuning_exam.model.memory import held_memory, peak_memory
from finetuning_exam.run_record import Cost
from finetuning_exam.training.cost.time import (
    exam_seconds,
    n_tokens,
    n_validations,
    scored_tokens,
    scoring_seconds_per_token,
    training_seconds,
)
from finetuning_exam.training.cost.workload import draw_batches
from finetuning_exam.training.run import Prepared

DRAWN_BATCHES = 100
"""Batches that are looked at to see how large they get."""


def predict(prepared: Prepared, done_steps: int = 0) -> Cost:
    """Time and memory of the run from a step on, from a few passes on its own rows."""
    settings, plan, fast = prepared.settings, prepared.plan, prepared.fast
    device = prepared.compute.device
    held, peak = held_memory(device), peak_memory(device)
    batches = draw_batches(prepared.train_rows, settings, plan.total_steps)[done_steps:]
    scored = (*prepared.validation_rows, *prepared.exam_rows.rows)
    largest = prepared.memory.largest_pass(fast, settings, batches[:DRAWN_BATCHES], scored)
    validations = n_validations(plan, done_steps) * n_tokens(prepared.validation_rows)
    n_scored = validations + scored_tokens(prepared.exam_rows.rows, settings)
    rate = scoring_seconds_per_token(fast, scored, settings.eval_batch_size, n_scored)
    training = training_seconds(fast, settings, plan, batches)
    exam = exam_seconds(
        fast,
        prepared.base.tokenizer,
        prepared.exam_rows.rows,
        settings,
        prepared.base.context,
        rate,
    )
    usual, _ = prepared.memory.spreads
    return Cost(training + rate * validations, exam, round(max(peak, held + usual * largest)))
