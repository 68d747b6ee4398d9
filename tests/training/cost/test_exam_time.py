"""The predicted time of an exam: what is timed, and what is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import CONTEXT, Models, adapted, brisk, encoded_rows, rows

from finetuning_exam.answer_limit import AnswerLimit
from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.encoding.rows import EncodedRows
from finetuning_exam.data.split import Split
from finetuning_exam.evaluation.ask_skills import skill_choices
from finetuning_exam.evaluation.choices import Ballot
from finetuning_exam.evaluation.exam_plan import ExamPlan
from finetuning_exam.evaluation.skills import read_skills
from finetuning_exam.model.generation import generate
from finetuning_exam.model.generation.trial import pass_seconds
from finetuning_exam.model.score import option_tokens
from finetuning_exam.training.cost import exam_time
from finetuning_exam.training.cost.exam_time import (
    EXAM_OVERHEAD_S,
    ExamCost,
    Pace,
    StepPace,
    answering_seconds,
    exam_cost,
    measure_pace,
)
from finetuning_exam.training.cost.exam_tokens import ExamTokens, exam_tokens
from finetuning_exam.training.prepare import Prepared, prepare

PACE = Pace(1e-3, 2e-3, 3e-3, StepPace(0.1, 0.01, 1e-4, 2, 16))
PLAN = ExamPlan(0, 8, 0, None, CONTEXT, general=())


def _prepared(models: Models, n_exam: int = 40, architecture: str = "llama") -> Prepared:
    return prepare(brisk(models.folder(architecture)), Split(rows(4), (), rows(n_exam)))


def _length(found: Sequence[Encoded]) -> int:
    return sum(len(row.ids) for row in found)


def test_the_parts_add_up(models: Models) -> None:
    """Every part of an exam costs its tokens at its own pace; both models score."""
    prepared = _prepared(models)
    questions, plan = prepared.rows.exam, replace(prepared.exam_plan, answered_examples=7)
    tokens = exam_tokens(prepared.session, questions, plan)
    cost = exam_cost(prepared.session, questions, plan, PACE)
    assert cost.scoring == pytest.approx(2 * (1e-3 * tokens.own + 2e-3 * tokens.choices))
    assert cost.general == pytest.approx(EXAM_OVERHEAD_S + 3e-3 * tokens.text)
    assert cost.skills == pytest.approx(2 * 2e-3 * tokens.skills)
    assert cost.n_answers == 7
    assert cost.total == pytest.approx(cost.other + cost.answering)
    assert cost.affordable(1e9) == AnswerLimit(200, "enough")
    assert cost.affordable(0.0) == AnswerLimit(30, "fewest")


def test_more_answers_and_longer_ones_take_longer(models: Models) -> None:
    """An exam's time grows with its rows, with those that are answered, and with their length."""
    prepared = _prepared(models)
    found = prepared.rows.exam

    def seconds(n_rows: int = 40, answered: int = 200, limit: int | None = None) -> float:
        plan = replace(PLAN, answered_examples=answered, max_new_tokens=limit)
        part = EncodedRows(found.rows[:n_rows], found.examples[:n_rows], ())
        return exam_cost(prepared.session, part, plan, PACE).total

    assert seconds(answered=0) < seconds(answered=8, limit=4) < seconds(answered=16, limit=4)
    assert seconds(20, limit=4) < seconds(40, limit=4)
    assert seconds(limit=4) < seconds(limit=400)


def _row(prompt: int, answer: int) -> Encoded:
    (row,) = encoded_rows((prompt + answer,))
    return replace(row, prompt_length=prompt)


def test_a_batch_is_written_to_the_limit_by_its_base() -> None:
    """The tuned model's rows leave the batch at the lengths of their references, the base's rows
    stay to the limit; a pass costs more with more rows, and with longer ones.
    """
    examined = [_row(5, 3), _row(8, 2)]
    plan = replace(PLAN, answered_examples=2, max_new_tokens=4)
    live = [4, 4, 3, 2]  # two base rows; tuned rows of three and of two tokens
    steps = sum(0.1 + n * (0.01 + 1e-4 * (8 + at)) for at, n in enumerate(live))
    assert answering_seconds(examined, plan, PACE) == pytest.approx(1e-3 * 8 * 4 + steps)
    apart = replace(PACE, step=replace(PACE.step, n_sides=1))
    sides = [2, 2, 2, 2], [2, 2, 1]
    steps = sum(0.1 + n * (0.01 + 1e-4 * (8 + at)) for side in sides for at, n in enumerate(side))
    assert answering_seconds(examined, plan, apart) == pytest.approx(1e-3 * 8 * 4 + steps)
    assert answering_seconds([], plan, PACE) == 0.0


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma3"])
def test_passes_are_timed_at_each_length(architecture: str) -> None:
    """One time for each length, by the clock; the model stays as it is."""
    model = adapted(architecture)
    ticks = iter(range(10**6))
    before = {name: it.clone() for name, it in model.state_dict().items()}
    times = pass_seconds(model, (5, 6, 7, 8), 6, [4, 60, 90], lambda: float(next(ticks)))
    assert times == (1.0, 1.0, 1.0)
    assert all(torch.equal(before[name], it) for name, it in model.state_dict().items())
    assert model.training


def test_the_pace_of_writing_is_solved_from_three_passes(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With passes whose time is known, the pace of any other pass is right."""
    known = StepPace(0.2, 0.03, 1e-3, 2, 8)

    def timed(
        model: object, prompt: object, n_rows: int, lengths: Sequence[int], clock: object
    ) -> tuple[float, ...]:
        return tuple(known.seconds(n_rows, length) for length in lengths)

    monkeypatch.setattr(exam_time, "pass_seconds", timed)
    prepared = _prepared(models)
    plan = replace(PLAN, answered_examples=20, max_new_tokens=50)
    found = measure_pace(prepared.session, prepared.rows.exam, plan, 1e-3).step
    for n_rows, length in ((2, 4), (16, 4), (9, 40), (16, 90)):
        assert found.seconds(n_rows, length) == pytest.approx(
            known.seconds(n_rows, length), rel=0.1
        )


@pytest.mark.parametrize(
    ("architecture", "is_batched"), [("llama", True), ("gpt2", True), ("llama", False)]
)
def test_every_part_is_timed(
    models: Models, architecture: str, is_batched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part has a pace of its own on any model, which is left unchanged."""
    if not is_batched:
        for module in (exam_time, generate):
            monkeypatch.setattr(module, "can_batch", lambda model: False)
    prepared = _prepared(models, 8, architecture)
    plan = replace(
        PLAN, answered_examples=4, max_new_tokens=4, general=("A text.",), skills=read_skills(None)
    )
    before = {name: it.clone() for name, it in prepared.model.state_dict().items()}
    random_state = torch.get_rng_state()
    pace = measure_pace(prepared.session, prepared.rows.exam, plan, 1e-3)
    assert min(pace.choice, pace.text, pace.step.seconds(2, 9)) > 0
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(before[name], it) for name, it in prepared.model.state_dict().items())


def test_what_is_not_asked_is_not_timed(models: Models) -> None:
    """Without skills, text and answers there is nothing to time."""
    prepared = _prepared(models, 8)
    pace = measure_pace(prepared.session, prepared.rows.exam, PLAN, 1e-3)
    assert pace == Pace(1e-3, 1e-3, 2e-3, StepPace(0.0, 0.0, 0.0, 1, 1))


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_what_an_exam_scores(models: Models, architecture: str) -> None:
    """Both models score every row, the choices of those that are posed, and the general text; a
    model on the fast path computes the prompt of a question once for all of its choices.
    """
    prepared = _prepared(models, 40, architecture)
    session, questions = prepared.session, prepared.rows.exam
    general = ("A paragraph.", "Größer, with 33 bytes of UTF-8.")
    text = sum(len(session.encoder.encode_text(it).ids) for it in general)
    n_prompts = 1 if architecture == "llama" else 4
    for asked in (0, 7, 40, 99):
        plan = replace(PLAN, answered_examples=asked, general=general)
        posed = [questions.rows[index] for index in plan.draw(questions.examples)[0]]
        prompts = sum(row.prompt_length for row in posed)
        choices = n_prompts * prompts + 5 * (_length(posed) - prompts)
        expected = ExamTokens(_length(questions.rows), choices, 0, text)
        assert exam_tokens(session, questions, plan) == expected


def test_a_paragraph_is_scored_up_to_the_context(models: Models) -> None:
    """However long a paragraph is, no more of it is counted than the model sees."""
    prepared = _prepared(models, 8)
    plan = replace(PLAN, general=("word " * 9_000, "x" * 10**4))
    assert exam_tokens(prepared.session, prepared.rows.exam, plan).text == 2 * CONTEXT


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_forecast_counts_the_skills(models: Models, architecture: str) -> None:
    """The tokens of skills are estimated from a few of their questions, to a tenth."""
    prepared = _prepared(models, 8, architecture)
    session, questions = prepared.session, prepared.rows.exam
    plan = replace(PLAN, skills=read_skills(None))
    choices = skill_choices(session.encoder, plan.skills)
    ballot = Ballot.of(session.encoder, choices, CONTEXT)
    expected = option_tokens(session.fast, ballot.rows, 8)
    assert exam_tokens(session, questions, PLAN).skills == 0
    assert exam_tokens(session, questions, plan).skills == pytest.approx(expected, rel=0.15)
    few = replace(plan, skills=plan.skills[:3])
    ballot = Ballot.of(session.encoder, choices[:3], CONTEXT)
    assert exam_tokens(session, questions, few).skills == option_tokens(
        session.fast, ballot.rows, 8
    )


def test_the_forecast_knows_the_general_file(models: Models, tmp_path: Path) -> None:
    """A run with a general text of its own is predicted with that text's length."""
    counted: list[int] = []
    for name, times in (("short", 1), ("long", 10)):
        path = tmp_path / name
        path.write_text("\n\n".join(["The cat eats in the barn."] * times), encoding="utf-8")
        settings = brisk(models.folder(), general_file=str(path), answered_examples=0)
        prepared = prepare(settings, Split(rows(4), (), rows(8)))
        counted.append(exam_tokens(prepared.session, prepared.rows.exam, prepared.exam_plan).text)
    assert counted[1] == 10 * counted[0]


def test_nothing_is_answered_for_nothing() -> None:
    """An exam without questions affords all answers, which cost nothing."""
    assert ExamCost(1.0, 0.0, 2.0, 3.0, 0).affordable(1e3) == AnswerLimit(200, "enough")
