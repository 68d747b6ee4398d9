"""Predict the duration of an exam by timing a little of each of its parts.

The parts differ in their cost per token: general text needs the output head at every position, the
choices of a question share their prompt, and an answer is written one forward pass per token, which
takes longer with more rows and with longer ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from finetuning_exam.answer_limit import AnswerLimit, affordable_answers
from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.encoding.rows import EncodedRows
from finetuning_exam.evaluation.exam_plan import ExamPlan
from finetuning_exam.evaluation.general import general_rows
from finetuning_exam.model.divergence import compare_texts
from finetuning_exam.model.fast.shared_prompts import by_question
from finetuning_exam.model.generation.batch import can_batch
from finetuning_exam.model.generation.decoding import Decoding
from finetuning_exam.model.generation.generate import answer_both, batches
from finetuning_exam.model.generation.side_by_side import can_mix
from finetuning_exam.model.generation.trial import pass_seconds
from finetuning_exam.model.score import option_tokens, score_options
from finetuning_exam.model.session import Session
from finetuning_exam.training.cost.exam_tokens import (
    answered_rows,
    exam_tokens,
    sampled_options,
)
from finetuning_exam.training.cost.footprint import untouched

EXAM_OVERHEAD_S = 2.0
"""Time to load the statistics libraries and compute the statistics of an exam."""
PROBE_S = 0.3
"""Seconds that the timing of one part may take, by the time per token of scoring rows."""
FEWEST_PROBED, MOST_PROBED = 64, 512
"""Tokens of a timed part: fewer would be computed at another speed."""
WARM_UP = 8
"""Tokens that are computed before text is timed."""
TRIAL_PROMPT = 4
TRIAL_POSITIONS = 4096
"""Most positions of the timed passes over long rows, which need memory for their cache."""
ALONE_STEPS = (2, 6)
"""Lengths of two answers of a model that cannot write batches; the steps between are timed."""

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class StepPace:
    """Seconds of a forward pass that writes a token in each row: `fixed` ones, those of each row,
    and those of each earlier position in a row.

    `n_sides` models share a pass; with `batch_size` 1 every row has its own.
    """

    fixed: float
    per_row: float
    per_position: float
    n_sides: int
    batch_size: int

    def seconds(self, n_rows: int, length: int) -> float:
        """Return the seconds of a pass over rows of this length."""
        return self.fixed + n_rows * (self.per_row + self.per_position * length)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds that scoring a token takes one model in rows and in choices, and both models in
    general text; and the pace of writing.
    """

    row: float
    choice: float
    text: float
    step: StepPace


@dataclass(frozen=True, slots=True)
class ExamCost:
    """Seconds of an exam's parts, both models together, and the number of answers."""

    scoring: float
    answering: float
    general: float
    skills: float
    n_answers: int

    @property
    def other(self) -> float:
        """Seconds of everything but answers."""
        return self.scoring + self.general + self.skills

    @property
    def total(self) -> float:
        """Seconds of the exam."""
        return self.other + self.answering

    def affordable(self, train_seconds: float) -> AnswerLimit:
        """Return how many answers are worth their time after a training of so many seconds."""
        each = self.answering / self.n_answers if self.n_answers else 0.0
        return affordable_answers(train_seconds, each)


def exam_cost(
    session: Session, questions: EncodedRows[Encoded], plan: ExamPlan, pace: Pace
) -> ExamCost:
    """Return the cost of an exam at this pace."""
    tokens = exam_tokens(session, questions, plan)
    answered = answered_rows(questions, plan)
    return ExamCost(
        2 * (pace.row * tokens.own + pace.choice * tokens.choices),
        answering_seconds(answered, plan, pace),
        EXAM_OVERHEAD_S + pace.text * tokens.text,
        2 * pace.choice * tokens.skills,
        len(answered),
    )


def answering_seconds(rows: Sequence[Encoded], plan: ExamPlan, pace: Pace) -> float:
    """Return the seconds in which both models answer these rows.

    The tuned model's answers are counted to the length of their references, and the base's to the
    limit, since a base that was never taught to stop seldom does.
    """
    if not rows:
        return 0.0
    step = pace.step
    decoding = Decoding(plan.longest_answer(rows), stop_ids=(), pad_id=0, context=plan.context)
    lengths = [row.prompt_length for row in rows]
    total = 0.0
    for indices in batches(lengths, decoding, step.batch_size, step.n_sides):
        width = max(lengths[index] for index in indices)
        room = decoding.room(width)
        base = [room] * len(indices)
        tuned = [min(room, len(rows[it].ids) - lengths[it]) for it in indices]
        for written in [base + tuned] if step.n_sides == 2 else [base, tuned]:
            total += pace.row * width * len(written)
            for place in range(max(written)):
                total += step.seconds(sum(n > place for n in written), width + place)
    return total


def measure_pace(
    session: Session,
    questions: EncodedRows[Encoded],
    plan: ExamPlan,
    row: float,
    clock: Clock = time.perf_counter,
) -> Pace:
    """Time a little of each part of an exam; `row` is the pace of scoring rows.

    The model and the random state are left unchanged.
    """
    n_tokens = min(MOST_PROBED, max(FEWEST_PROBED, int(PROBE_S / max(row, 1e-9))))
    with untouched(session.fast):
        return Pace(
            row,
            _choice_pace(session, plan, n_tokens, clock) or row,
            _text_pace(session, plan, n_tokens, clock) or 2 * row,
            _step_pace(session, answered_rows(questions, plan), plan, clock),
        )


def _choice_pace(session: Session, plan: ExamPlan, n_tokens: int, clock: Clock) -> float:
    """Time the choices of a few questions of skills; 0 if there are none."""
    rows, _ = sampled_options(session, plan)
    taken: list[Encoded] = []
    for indices in by_question(rows):
        taken += [rows[index] for index in indices]
        if option_tokens(session.fast, taken, plan.batch_size) >= n_tokens:
            break
    if not taken:
        return 0.0
    score_options(session.fast, taken[:1], plan.batch_size)
    found = _seconds(lambda: score_options(session.fast, taken, plan.batch_size), clock)
    return found / option_tokens(session.fast, taken, plan.batch_size)


def _text_pace(session: Session, plan: ExamPlan, n_tokens: int, clock: Clock) -> float:
    """Time both models on a little general text; 0 if there is none."""
    taken: list[Encoded] = []
    for row in general_rows(session.encoder, plan.general[:MOST_PROBED], plan.context):
        left = n_tokens - sum(len(it.ids) for it in taken)
        if left < 2:
            break
        taken.append(row.first(left))
    if not taken:
        return 0.0
    compare_texts(session.fast, [taken[0].first(WARM_UP)], plan.batch_size)
    found = _seconds(lambda: compare_texts(session.fast, taken, plan.batch_size), clock)
    return found / sum(len(it.ids) for it in taken)


def _step_pace(session: Session, rows: Sequence[Encoded], plan: ExamPlan, clock: Clock) -> StepPace:
    """Time passes with few rows and with many, and with short rows and long ones."""
    model = session.model
    if not rows:
        return StepPace(0.0, 0.0, 0.0, 1, 1)
    prompt = rows[0].ids[:TRIAL_PROMPT]
    if not can_batch(model):
        return _alone(session, prompt, plan, clock)
    n_sides = 2 if can_mix(model) else 1
    few, many = n_sides, n_sides * min(plan.batch_size, len(rows))
    short = TRIAL_PROMPT
    typical = sum(row.prompt_length for row in rows) // len(rows) + plan.longest_answer(rows) // 2
    long = max(2 * short, min(typical, plan.context - 4, TRIAL_POSITIONS // many))
    (one,) = pass_seconds(model, prompt, few, [short], clock)
    at_short, at_long = pass_seconds(model, prompt, many, [short, long], clock)
    position = max(0.0, at_long - at_short) / (many * (long - short))
    row = max(0.0, at_short - one) / (many - few) if many > few else 0.0
    fixed = max(0.0, one - few * row)
    return StepPace(fixed, row, position, n_sides, plan.batch_size)


def _alone(session: Session, prompt: tuple[int, ...], plan: ExamPlan, clock: Clock) -> StepPace:
    """Time a model that cannot write batches, by both models' answers to one prompt."""

    def answer(n_tokens: int) -> None:
        decoding = Decoding(n_tokens, stop_ids=(), pad_id=0, context=plan.context)
        answer_both(session.model, session.base.tokenizer, [prompt], decoding, 1)

    few, many = (_seconds(partial(answer, n), clock) for n in ALONE_STEPS)
    step = max(0.0, many - few) / (ALONE_STEPS[1] - ALONE_STEPS[0]) / 2
    return StepPace(step, 0.0, 0.0, 1, 1)


def _seconds(compute: Callable[[], object], clock: Clock) -> float:
    started = clock()
    compute()
    return clock() - started
