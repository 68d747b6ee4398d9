"""Predict the time and memory of a run, printed before its first step."""

from __future__ import annotations

from finetuning_exam.model.memory import held_memory, peak_memory
from finetuning_exam.objectives.base import sequences_of
from finetuning_exam.run_record import Cost
from finetuning_exam.training.batches import draw_batches
from finetuning_exam.training.cost.exam_tokens import scored_tokens
from finetuning_exam.training.cost.time import (
    exam_seconds,
    n_validations,
    scoring_seconds_per_token,
    total_length,
    training_seconds,
)
from finetuning_exam.training.prepare import Prepared

MAX_SIZED_BATCHES = 100
"""Batches whose size is computed to find the largest pass."""


def predict(prepared: Prepared, done_steps: int = 0) -> Cost:
    """Predict time and memory of a run after `done_steps`, by timing a few passes on its rows."""
    settings, plan, workload = prepared.settings, prepared.plan, prepared.workload
    device = prepared.compute.device
    held, peak = held_memory(device), peak_memory(device)
    drawn = draw_batches(prepared.rows.train, settings, plan.total_steps)[done_steps:]
    batches = [
        (*batch, *workload.objective.extra_rows(step))
        for step, batch in enumerate(drawn, done_steps)
    ]
    validation = sequences_of(workload.objective, prepared.rows.validation)
    scored = prepared.rows.scored
    largest = prepared.memory.largest_pass(workload, batches[:MAX_SIZED_BATCHES], scored)
    validations = n_validations(plan, done_steps) * total_length(validation)
    exam_rows, exam_plan = prepared.rows.exam.rows, prepared.exam_plan
    n_scored = validations + scored_tokens(prepared.session, exam_rows, exam_plan)
    rate = scoring_seconds_per_token(prepared.fast, scored, settings.eval_batch_size, n_scored)
    training = training_seconds(workload, plan, batches)
    exam = exam_seconds(prepared.session, exam_rows, exam_plan, rate)
    predicted_peak = max(peak, held + prepared.memory.typical_spread * largest)
    return Cost(training + rate * validations, exam, round(predicted_peak))
