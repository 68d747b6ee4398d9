"""Predict the time and memory of a run, printed before its first step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from finetuning_exam.model.memory import held_memory, peak_memory
from finetuning_exam.objectives.base import sequences_of
from finetuning_exam.run_record import Cost
from finetuning_exam.training.batches import draw_batches
from finetuning_exam.training.cost.exam_tokens import scored_tokens
from finetuning_exam.training.cost.time import (
    EXAM_OVERHEAD_S,
    exam_seconds,
    n_validations,
    scoring_seconds_per_token,
    total_length,
    training_seconds,
)
from finetuning_exam.training.frontier import SCALES, frontier_rows
from finetuning_exam.training.plan import make_plan, rows_in_step
from finetuning_exam.training.prepare import Prepared

MAX_SIZED_BATCHES = 100
"""Batches whose size is computed to find the largest pass."""


@dataclass(frozen=True, slots=True)
class PartSize:
    """The size of one training of a cross-validation, of which `done_steps` are done."""

    n_train: int
    n_validation: int
    n_exam: int
    done_steps: int = 0


def predict(prepared: Prepared, done_steps: int = 0) -> Cost:
    """Predict time and memory of a run after `done_steps`, by timing a few passes on its rows."""
    return _cost_and_rate(prepared, done_steps)[0]


def predict_parts(prepared: Prepared, parts: Sequence[PartSize]) -> tuple[Cost, ...]:
    """Predict the trainings of a cross-validation, by timing a few passes of the one on all rows,
    whose exam has all rows here.

    A training costs what the rows of its steps cost, and an exam what its questions cost. Every
    part is measured on general text, and the last one, which has no questions, in skills. All parts
    have the memory of the largest.
    """
    predicted = _predict_whole(prepared)
    whole = predicted.cost
    questions = whole.exam_seconds - predicted.lost_seconds
    rows_of_whole = _rows_seen(prepared, prepared.plan.total_steps, len(prepared.rows.train))
    n_questions = len(prepared.rows.exam.rows)
    costs: list[Cost] = []
    for part in parts:
        plan = make_plan(
            prepared.settings, part.n_train, part.n_validation, prepared.base.n_parameters
        )
        rows = _rows_seen(prepared, plan.total_steps - part.done_steps, part.n_train)
        costs.append(
            Cost(
                whole.train_seconds * rows / rows_of_whole,
                (predicted.general_seconds if part.n_exam else predicted.lost_seconds)
                + questions * part.n_exam / n_questions,
                whole.peak_bytes,
            )
        )
    return tuple(costs)


def _rows_seen(prepared: Prepared, n_steps: int, n_rows: int) -> int:
    return n_steps * rows_in_step(prepared.settings, n_rows)


@dataclass(frozen=True, slots=True)
class Prediction:
    """The cost of a run, and the part of its exam's seconds that does not depend on its questions,
    with and without skills.
    """

    cost: Cost
    lost_seconds: float
    general_seconds: float


def _predict_whole(prepared: Prepared) -> Prediction:
    cost, rate = _cost_and_rate(prepared, 0)
    general, lost = (
        EXAM_OVERHEAD_S + rate * scored_tokens(prepared.session, (), plan)
        for plan in (replace(prepared.exam_plan, skills=()), prepared.exam_plan)
    )
    return Prediction(cost, lost, general)


def _cost_and_rate(prepared: Prepared, done_steps: int) -> tuple[Cost, float]:
    """Return the cost of a run, and the seconds in which it scores a token."""
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
    validations += len(SCALES) * sum(map(total_length, frontier_rows(prepared)))
    exam_rows, exam_plan = prepared.rows.exam.rows, prepared.exam_plan
    n_scored = validations + scored_tokens(prepared.session, exam_rows, exam_plan)
    rate = scoring_seconds_per_token(prepared.fast, scored, settings.eval_batch_size, n_scored)
    training = training_seconds(workload, plan, batches)
    exam = exam_seconds(prepared.session, exam_rows, exam_plan, rate)
    predicted_peak = max(peak, held + prepared.memory.typical_spread * largest)
    return Cost(training + rate * validations, exam, round(predicted_peak)), rate
