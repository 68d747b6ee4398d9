"""Predict the time and memory of a run, printed before its first step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finetuning_exam.answer_limit import AnswerLimit
from finetuning_exam.model.memory import held_memory, peak_memory
from finetuning_exam.objectives.base import sequences_of
from finetuning_exam.run_record import Cost
from finetuning_exam.training.batches import draw_batches
from finetuning_exam.training.cost.exam_time import ExamCost, Pace, exam_cost, measure_pace
from finetuning_exam.training.cost.time import (
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


@dataclass(frozen=True, slots=True)
class Prediction:
    """The cost of a run, that of its exam in parts, and how many examples the exam answers."""

    cost: Cost
    exam: ExamCost
    answers: AnswerLimit


def predict(prepared: Prepared, done_steps: int = 0) -> Prediction:
    """Predict time and memory of a run after `done_steps`, by timing a few passes on its rows.

    Where `--answered_examples` is auto, and no earlier sitting chose their number, it follows from
    the time of the training.
    """
    measured = _measure(prepared, done_steps)
    answers, exam = measured.fit_answers(prepared, measured.train_seconds)
    return Prediction(Cost(measured.train_seconds, exam.total, measured.peak_bytes), exam, answers)


def predict_parts(
    prepared: Prepared, parts: Sequence[PartSize]
) -> tuple[tuple[Cost, ...], AnswerLimit]:
    """Predict the trainings of a cross-validation, by timing a few passes of the one on all rows,
    whose exam has all rows here; and choose how many of these are answered.

    A training costs what the rows of its steps cost, and an exam what its questions cost. Every
    part is measured on general text, and the last one, which has no questions, in skills. All parts
    have the memory of the largest.
    """
    measured = _measure(prepared, 0)
    rows_of_whole = _rows_seen(prepared, prepared.plan.total_steps, len(prepared.rows.train))
    trainings: list[float] = []
    for part in parts:
        plan = make_plan(
            prepared.settings, part.n_train, part.n_validation, prepared.base.n_parameters
        )
        rows = _rows_seen(prepared, plan.total_steps - part.done_steps, part.n_train)
        trainings.append(measured.train_seconds * rows / rows_of_whole)
    answers, exam = measured.fit_answers(prepared, sum(trainings))
    n_questions = len(prepared.rows.exam.rows)
    costs = [
        Cost(
            seconds,
            exam.general
            + (0.0 if part.n_exam else exam.skills)
            + (exam.scoring + exam.answering) * part.n_exam / n_questions,
            measured.peak_bytes,
        )
        for part, seconds in zip(parts, trainings, strict=True)
    ]
    return tuple(costs), answers


def _rows_seen(prepared: Prepared, n_steps: int, n_rows: int) -> int:
    return n_steps * rows_in_step(prepared.settings, n_rows)


@dataclass(frozen=True, slots=True)
class Measured:
    """The time and memory of a training, and the pace of its exam."""

    train_seconds: float
    peak_bytes: int
    pace: Pace

    def fit_answers(self, prepared: Prepared, train_seconds: float) -> tuple[AnswerLimit, ExamCost]:
        """Return how many examples the exam answers after so long a training, and its cost."""
        session, questions = prepared.session, prepared.rows.exam
        exam = exam_cost(session, questions, prepared.exam_plan, self.pace)
        limit = prepared.plan.answers or exam.affordable(train_seconds)
        plan = prepared.exam_plan.with_answers(limit)
        return limit, exam_cost(session, questions, plan, self.pace)


def _measure(prepared: Prepared, done_steps: int) -> Measured:
    """Time a few passes of everything that a run computes."""
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
    questions, exam_plan = prepared.rows.exam, prepared.exam_plan
    n_scored = validations + 2 * total_length(questions.rows)
    rate = scoring_seconds_per_token(prepared.fast, scored, settings.eval_batch_size, n_scored)
    training = training_seconds(workload, plan, batches)
    pace = measure_pace(prepared.session, questions, exam_plan, rate)
    predicted_peak = max(peak, held + prepared.memory.typical_spread * largest)
    return Measured(training + rate * validations, round(predicted_peak), pace)
