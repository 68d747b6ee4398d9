"""The time estimate: what is timed, for how long, and what is counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import BRISK, CONTEXT, Models, adapted, brisk, checkpoints_in, encoded_rows, ignore, rows
from trainings import workload

from finetuning_exam import run_file
from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.split import Split
from finetuning_exam.evaluation.ask_skills import skill_choices
from finetuning_exam.evaluation.choices import Ballot
from finetuning_exam.evaluation.exam import ExamPlan
from finetuning_exam.evaluation.skills import read_skills
from finetuning_exam.model.fast.path import FastPath, choose_fast_path, wanted_pieces
from finetuning_exam.model.folder import ADAPTER_WEIGHTS
from finetuning_exam.model.memory import peak_memory
from finetuning_exam.model.score import option_tokens
from finetuning_exam.run_record import DataRecord, MicroBatches, TrainingPlan
from finetuning_exam.training.batches import draw_batches
from finetuning_exam.training.cost import time as cost_time
from finetuning_exam.training.cost.exam_tokens import scored_tokens
from finetuning_exam.training.cost.predict import predict
from finetuning_exam.training.cost.time import (
    MAX_SAMPLES,
    TIMING_S,
    TIMING_SHARE,
    WARM_UP_TOKENS,
    cut_rows,
    exam_seconds,
    n_validations,
    scoring_seconds_per_token,
    seconds_per_token,
    total_length,
    training_seconds,
)
from finetuning_exam.training.prepare import prepare
from finetuning_exam.training.run import make_record, train

NEVER = 10**12
CUT = partial(cut_rows, length=lambda row: len(row.ids), tail=Encoded.last)
"""Cut rows to a number of tokens."""
DATA = DataRecord(("d.jsonl",), "0" * 64, None, None, 9, 0, 5, False, 0, "1" * 64)


class Machine:
    """A clock that advances only with computation: a fixed time per pass plus a time per token."""

    def __init__(self, per_token: float, fixed: float = 0.0) -> None:
        self.now = 0.0
        self.computed: list[int] = []
        self._per_token, self._fixed = per_token, fixed

    def __call__(self) -> float:
        """Return the seconds since the start."""
        return self.now

    def compute(self, batch: tuple[Encoded, ...]) -> None:
        """Advance by the time that a batch takes."""
        self.computed.append(total_length(batch))
        self.now += self._fixed + self._per_token * total_length(batch)


def _batches(n: int, n_rows: int, length: int) -> list[tuple[Encoded, ...]]:
    return [encoded_rows((length,) * n_rows, seed) for seed in range(n)]


def test_whole_samples_are_timed_on_a_fast_machine() -> None:
    """After a warm-up on part of the first sample, a few whole samples are timed; the fixed time
    per pass is part of the result.
    """
    machine = Machine(1e-5, fixed=1e-3)
    found = seconds_per_token(
        machine.compute, total_length, CUT, _batches(9, 5, 40), NEVER, machine
    )
    assert machine.computed == [40, *[200] * MAX_SAMPLES]
    assert found == pytest.approx(1e-5 + 1e-3 / 200)


def test_less_is_timed_on_a_slow_machine() -> None:
    """If a whole sample takes longer than allowed, only some of its rows are timed, once."""
    machine = Machine(TIMING_S / 100)
    assert seconds_per_token(
        machine.compute, total_length, CUT, _batches(9, 5, 40), 1000, machine
    ) == pytest.approx(TIMING_S / 100)
    assert machine.computed == [40, 80]


def test_a_long_run_may_be_timed_longer() -> None:
    """Timing may take a share of the whole run's duration, if that is longer."""
    per_token = TIMING_S / 100
    machine = Machine(per_token)
    total = round(3 * 200 / TIMING_SHARE)
    seconds_per_token(machine.compute, total_length, CUT, _batches(9, 5, 40), total, machine)
    assert machine.computed == [40, 200, 200, 200]
    assert machine.now - 40 * per_token <= TIMING_SHARE * total * per_token + 1e-6


def test_a_long_row_is_timed_by_its_end() -> None:
    """If a single row takes too long, only its end is timed, where the labels are."""
    machine = Machine(TIMING_S / 100)
    seconds_per_token(machine.compute, total_length, CUT, _batches(2, 2, 5000), 10_000, machine)
    assert machine.computed[0] == WARM_UP_TOKENS
    assert machine.computed[1] < 5000
    parts: list[tuple[Encoded, ...]] = []
    (sample,) = _batches(1, 1, 5000)
    seconds_per_token(parts.append, total_length, CUT, [sample], NEVER, iter(range(99)).__next__)
    assert parts[0][0].ids == sample[0].ids[-WARM_UP_TOKENS:]
    assert parts[0][0].labels == sample[0].labels[-WARM_UP_TOKENS:]


def test_little_work_is_estimated_from_the_warm_up() -> None:
    """If the whole work is smaller than a sample, only the warm-up is timed."""
    machine = Machine(1e-5)
    assert seconds_per_token(
        machine.compute, total_length, CUT, _batches(3, 5, 40), 150, machine
    ) == pytest.approx(1e-5)
    assert machine.computed == [40]


def test_one_delayed_pass_does_not_matter() -> None:
    """The result is the median of the samples, so a pass delayed by another job is ignored."""
    machine = Machine(1e-3)

    def compute(batch: tuple[Encoded, ...]) -> None:
        machine.compute(batch)
        if len(machine.computed) == 3:
            machine.now += 1000

    found = seconds_per_token(compute, total_length, CUT, _batches(9, 5, 40), NEVER, machine)
    assert found == pytest.approx(1e-3)


def _plan(total: int, save: int, micro: MicroBatches | None = None) -> TrainingPlan:
    return TrainingPlan(1e-3, 1.0, 2, total, 0, save, micro or MicroBatches(2048))


@pytest.mark.parametrize(
    ("total", "save", "done", "n"),
    [(10, 5, 0, 3), (11, 5, 0, 4), (3, 100, 0, 2), (10, 5, 5, 1), (11, 5, 5, 2), (10, 5, 10, 0)],
)
def test_validations_are_counted_as_the_trainer_runs_them(
    total: int, save: int, done: int, n: int
) -> None:
    """Validation runs before the first step, at each checkpoint, and after the last step."""
    assert n_validations(_plan(total, save), done) == n


@settings(deadline=None)
@given(total=st.integers(1, 200), save=st.integers(1, 60), done=st.integers(1, 200))
def test_a_resumed_run_validates_the_rest(total: int, save: int, done: int) -> None:
    """The validations before and after a checkpoint add up to those of an unbroken run."""
    done = min(total, done // save * save)
    before = sum(step % save == 0 or step == total for step in range(1, done + 1))
    whole = n_validations(_plan(total, save), 0)
    if done:
        assert 1 + before + n_validations(_plan(total, save), done) == whole


def _fast(dropout: float = 0.0) -> FastPath:
    return choose_fast_path(adapted(dropout=dropout), 0, wanted_pieces(["all"]))


def _ticking(seconds: float) -> Callable[[], float]:
    """Return a clock on which everything takes the same number of seconds."""
    times = iter(range(10**6))
    return lambda: seconds * next(times)


def test_training_time_is_per_token_and_per_step() -> None:
    """The time covers all tokens of all steps, plus the optimizer's time for each step."""
    chosen = replace(BRISK, per_device_train_batch_size=3)
    batch = encoded_rows((20, 30, 40, 50, 60, 70))
    few, many = (
        training_seconds(
            workload(_fast(), chosen),
            _plan(99, 9),
            draw_batches(batch, chosen, steps),
            _ticking(1.0),
        )
        for steps in (2000, 20_000)
    )
    assert many == pytest.approx(10 * few, rel=1e-6)
    steps = 2000 * (1.0 + cost_time.STEP_OVERHEAD_S)
    per_token = (few - steps) / (total_length(batch) * 2000 / 2)
    assert 1 / 200 < per_token < 1 / 100  # one second per pass over about half of the rows


def test_timing_leaves_the_model_unchanged() -> None:
    """Timing leaves no gradients, and changes neither the random state nor any weight."""
    fast = _fast(dropout=0.5)
    fast.model.eval()
    state = {name: it.clone() for name, it in fast.model.state_dict().items()}
    before = torch.get_rng_state()
    plan = _plan(4, 2, MicroBatches(100, checkpointing=True))
    batches = draw_batches(encoded_rows((20, 30, 40)), BRISK, 4)
    assert training_seconds(workload(fast, BRISK), plan, batches) > 0
    assert scoring_seconds_per_token(fast, encoded_rows((20, 30)), 2, 999) > 0
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in fast.model.parameters())
    assert all(torch.equal(state[name], it) for name, it in fast.model.state_dict().items())
    assert not fast.model.training


def test_more_answers_and_longer_ones_take_longer(models: Models) -> None:
    """An exam's time grows with its rows, with those that are answered, and with their length."""
    prepared = prepare(brisk(models.folder()), Split(rows(4), (), rows(40)))

    def seconds(n_rows: int = 40, **changes: Any) -> float:
        plan = replace(prepared.exam_plan, **changes)
        return exam_seconds(
            prepared.session,
            prepared.rows.exam.rows[:n_rows],
            plan,
            1e-3,
            _ticking(1.0),
        )

    assert seconds(answered_examples=0) < seconds(answered_examples=8, max_new_tokens=4)
    assert seconds(20, max_new_tokens=4) < seconds(40, max_new_tokens=4)
    few, many = (seconds(max_new_tokens=n) for n in (4, 400))
    assert few <= many
    unanswered = replace(prepared.exam_plan, answered_examples=0)
    scored = scored_tokens(prepared.session, prepared.rows.exam.rows[:10], unanswered)
    assert seconds(10, answered_examples=0) == cost_time.EXAM_OVERHEAD_S + 1e-3 * scored


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_what_an_exam_scores(models: Models, architecture: str) -> None:
    """Both models score every row, the choices of those that are asked, and the general text; a
    model on the fast path computes the prompt of a question once for all of its choices.
    """
    prepared = prepare(brisk(models.folder(architecture)), Split(rows(4), (), rows(40)))
    session, found = prepared.session, prepared.rows.exam.rows
    general = ("A paragraph.", "Größer, with 33 bytes of UTF-8.")
    text = sum(len(session.encoder.encode_text(it).ids) for it in general)
    n_prompts = 1 if architecture == "llama" else 4
    for asked in (0, 7, 40, 99):
        prompts = sum(row.prompt_length for row in found[:asked])
        choices = n_prompts * prompts + 5 * (total_length(found[:asked]) - prompts)
        plan = ExamPlan(0, 8, asked, None, CONTEXT, general=general)
        assert scored_tokens(session, found, plan) == 2 * (total_length(found) + choices + text)


def test_a_paragraph_is_scored_up_to_the_context(models: Models) -> None:
    """However long a paragraph is, no more of it is counted than the model sees."""
    prepared = prepare(brisk(models.folder()), Split(rows(4), (), rows(8)))
    found = prepared.rows.exam.rows
    plan = ExamPlan(0, 8, 0, None, CONTEXT, general=("word " * 9_000, "x" * 10**4))
    expected = 2 * (total_length(found) + 2 * CONTEXT)
    assert scored_tokens(prepared.session, found, plan) == expected


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_forecast_counts_the_skills(models: Models, architecture: str) -> None:
    """The tokens of skills are estimated from a few of their questions, to a tenth."""
    prepared = prepare(brisk(models.folder(architecture)), Split(rows(4), (), rows(8)))
    session = prepared.session
    plan = ExamPlan(0, 8, 0, None, CONTEXT, general=(), skills=read_skills(None))
    choices = skill_choices(session.encoder, plan.skills)
    ballot = Ballot.of(session.encoder, choices, CONTEXT)
    expected = option_tokens(session.fast, ballot.rows, 8)
    without = scored_tokens(session, (), replace(plan, skills=()))
    assert without == 0
    assert scored_tokens(session, (), plan) / 2 == pytest.approx(expected, rel=0.15)
    few = replace(plan, skills=plan.skills[:3])
    ballot = Ballot.of(session.encoder, choices[:3], CONTEXT)
    assert scored_tokens(session, (), few) == 2 * option_tokens(session.fast, ballot.rows, 8)


def test_the_forecast_knows_the_general_file(models: Models, tmp_path: Path) -> None:
    """A run with a general text of its own is predicted with that text's length, to the accuracy
    that the exam's own rows allow.
    """
    counted: list[int] = []
    for name, times in (("short", 1), ("long", 10)):
        path = tmp_path / name
        path.write_text("\n\n".join(["The cat eats in the barn."] * times), encoding="utf-8")
        settings = brisk(models.folder(), general_file=str(path), answered_examples=0)
        prepared = prepare(settings, Split(rows(4), (), rows(8)))
        exam_rows = prepared.rows.exam.rows
        counted.append(scored_tokens(prepared.session, exam_rows, prepared.exam_plan))
        rest = 2 * total_length(prepared.rows.exam.rows)
        scored = [
            len(prepared.rows.encoder.encode_text(it).ids) for it in prepared.exam_plan.general
        ]
        assert counted[-1] - rest == pytest.approx(2 * sum(scored), rel=0.3)
    assert counted[1] > counted[0]


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("fast_path", ["all", "none"])
def test_a_run_is_predicted(models: Models, architecture: str, fast_path: str) -> None:
    """Time and memory of a run are predicted for any model, which is left unchanged."""
    settings = brisk(models.folder(architecture), fast_path=(fast_path,), max_steps=6)
    prepared = prepare(settings, Split(rows(9), rows(3), rows(5)))
    state = {name: it.clone() for name, it in prepared.model.state_dict().items()}
    whole = predict(prepared)
    assert 0 < whole.train_seconds < 300
    assert whole.exam_seconds > cost_time.EXAM_OVERHEAD_S
    assert 100e6 < whole.peak_bytes < 100e9
    assert predict(prepared, done_steps=6).train_seconds == 0
    assert all(torch.equal(state[name], it) for name, it in prepared.model.state_dict().items())


def test_a_prediction_does_not_change_the_adapter(models: Models, tmp_path: Path) -> None:
    """With or without a prediction, the adapter is the same byte for byte, even with dropout."""
    adapters = []
    for name in ("with", "without"):
        (folder := tmp_path / name).mkdir()
        settings = brisk(models.folder(), lora_dropout=0.3, output_dir=str(folder))
        prepared = prepare(settings, Split(rows(9), rows(3), rows(5)))
        if name == "with":
            predict(prepared)
        train(prepared, checkpoints_in(folder), ignore)
        adapters.append((folder / ADAPTER_WEIGHTS).read_bytes())
    assert adapters[0] == adapters[1]


def test_prediction_and_measurement_are_recorded(models: Models, tmp_path: Path) -> None:
    """run.json holds predicted and measured time and memory under the same names."""
    settings = brisk(models.folder(), output_dir=str(tmp_path), micro_batch_tokens=99)
    prepared = prepare(settings, Split(rows(9), (), rows(5)))
    predicted = predict(prepared)
    result = train(prepared, checkpoints_in(tmp_path), ignore)
    seconds = {"train": 3.5, "exam": 1.5}
    record = make_record(prepared, DATA, result, "fte train", seconds, predicted)
    run_file.write(tmp_path, record)
    written = json.loads((tmp_path / run_file.RUN).read_text(encoding="utf-8"))
    assert written["predicted"] == asdict(predicted)
    measured = written["measured"]
    assert isinstance(measured, dict)
    assert (measured["train_seconds"], measured["exam_seconds"]) == (3.5, 1.5)
    assert measured["peak_bytes"] == pytest.approx(peak_memory(torch.device("cpu")), rel=0.01)
    plan = written["plan"]
    assert isinstance(plan, dict)
    assert plan["micro_batches"] == {"tokens": 99, "checkpointing": False}
