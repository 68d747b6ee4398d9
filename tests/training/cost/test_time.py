"""Specification of the time estimate: what is timed, for how long, and what is counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import BRISK, CONTEXT, Models, adapted, brisk, checkpoints_in, encoded_rows, ignore, rows
from trainings import workload

from finetuning_exam.data.encoding.encode import Encoded
from finetuning_exam.data.split import Split
from finetuning_exam.model.fast.path import FastPath, choose_fast_path, wanted_pieces
from finetuning_exam.model.folder import ADAPTER_WEIGHTS
from finetuning_exam.model.memory import peak_memory
from finetuning_exam.run_file import write
from finetuning_exam.run_record import DataRecord, MicroBatches, TrainingPlan
from finetuning_exam.training.batches import draw_batches
from finetuning_exam.training.cost import time as cost_time
from finetuning_exam.training.cost.predict import predict
from finetuning_exam.training.cost.time import (
    COST,
    FREE_S,
    MOST_TIMED,
    WARM_UP_TOKENS,
    cut_rows,
    exam_seconds,
    n_validations,
    scored_tokens,
    scoring_seconds_per_token,
    seconds_per_token,
    total_length,
    training_seconds,
)
from finetuning_exam.training.run import make_record, prepare, train

NEVER = 10**12
CUT = partial(cut_rows, length=lambda row: len(row.ids), tail=Encoded.last)
"""A part of some rows, as far as tokens go."""
DATA = DataRecord(("d.jsonl",), "0" * 64, None, None, 9, 0, 5, False, 0, "1" * 64)


class Machine:
    """A clock that goes on only while something is computed: a fixed time, and so much a token."""

    def __init__(self, per_token: float, fixed: float = 0.0) -> None:
        self.now = 0.0
        self.computed: list[int] = []
        self._per_token, self._fixed = per_token, fixed

    def __call__(self) -> float:
        """Seconds since the start."""
        return self.now

    def compute(self, batch: tuple[Encoded, ...]) -> None:
        """Take the time that a batch takes."""
        self.computed.append(total_length(batch))
        self.now += self._fixed + self._per_token * total_length(batch)


def _batches(n: int, n_rows: int, length: int) -> list[tuple[Encoded, ...]]:
    return [encoded_rows((length,) * n_rows, seed) for seed in range(n)]


def test_whole_samples_are_timed_where_they_are_cheap() -> None:
    """On a fast machine a few whole samples are timed, after a small part of the first; the fixed
    time of a pass is in the result.
    """
    machine = Machine(1e-5, fixed=1e-3)
    found = seconds_per_token(
        machine.compute, total_length, CUT, _batches(9, 5, 40), NEVER, machine
    )
    assert machine.computed == [40, *[200] * MOST_TIMED]
    assert found == pytest.approx(1e-5 + 1e-3 / 200)


def test_a_slow_machine_times_less() -> None:
    """Where a whole sample takes longer than may be spent, some of its rows are timed, once."""
    machine = Machine(FREE_S / 100)
    assert seconds_per_token(
        machine.compute, total_length, CUT, _batches(9, 5, 40), 1000, machine
    ) == pytest.approx(FREE_S / 100)
    assert machine.computed == [40, 80]


def test_a_long_run_may_be_timed_longer() -> None:
    """A share of the whole run's time may be spent, where that is more."""
    per_token = FREE_S / 100
    machine = Machine(per_token)
    total = round(3 * 200 / COST)
    seconds_per_token(machine.compute, total_length, CUT, _batches(9, 5, 40), total, machine)
    assert machine.computed == [40, 200, 200, 200]
    assert machine.now - 40 * per_token <= COST * total * per_token + 1e-6


def test_of_a_row_that_is_too_long_the_end_is_timed() -> None:
    """A single row that costs too much is timed in part, by its end, where the labels are."""
    machine = Machine(FREE_S / 100)
    seconds_per_token(machine.compute, total_length, CUT, _batches(2, 2, 5000), 10_000, machine)
    assert machine.computed[0] == WARM_UP_TOKENS
    assert machine.computed[1] < 5000
    parts: list[tuple[Encoded, ...]] = []
    (sample,) = _batches(1, 1, 5000)
    seconds_per_token(parts.append, total_length, CUT, [sample], NEVER, iter(range(99)).__next__)
    assert parts[0][0].ids == sample[0].ids[-WARM_UP_TOKENS:]
    assert parts[0][0].labels == sample[0].labels[-WARM_UP_TOKENS:]


def test_little_work_is_not_timed_by_doing_it_first() -> None:
    """Where the whole work is smaller than a sample, the small part alone has to do."""
    machine = Machine(1e-5)
    assert seconds_per_token(
        machine.compute, total_length, CUT, _batches(3, 5, 40), 150, machine
    ) == pytest.approx(1e-5)
    assert machine.computed == [40]


def test_a_pass_that_was_held_up_does_not_count() -> None:
    """The median of the samples is taken, so one pass in the shadow of another job is no matter."""
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
def test_validations_are_counted_as_the_trainer_takes_them(
    total: int, save: int, done: int, n: int
) -> None:
    """One before the first step, one with each checkpoint, and one after the last step."""
    assert n_validations(_plan(total, save), done) == n


@settings(deadline=None)
@given(total=st.integers(1, 200), save=st.integers(1, 60), done=st.integers(1, 200))
def test_a_resumed_run_validates_the_rest(total: int, save: int, done: int) -> None:
    """What was validated before and what is validated after a checkpoint is all of it."""
    done = min(total, done // save * save)
    before = sum(step % save == 0 or step == total for step in range(1, done + 1))
    whole = n_validations(_plan(total, save), 0)
    if done:
        assert 1 + before + n_validations(_plan(total, save), done) == whole


def _fast(dropout: float = 0.0) -> FastPath:
    return choose_fast_path(adapted(dropout=dropout), 0, wanted_pieces(["all"]))


def _ticking(seconds: float) -> Callable[[], float]:
    """A clock on which everything takes so many seconds."""
    times = iter(range(10**6))
    return lambda: seconds * next(times)


def test_training_is_tokens_times_their_time_and_a_step_s_own() -> None:
    """All tokens of all steps are counted, each step with the optimizer's time on top."""
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
    assert 1 / 200 < per_token < 1 / 100  # a second for each pass over about half of the rows


def test_timing_leaves_the_model_as_it_was() -> None:
    """No gradient stays, no random number is drawn, no weight is changed."""
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

    def seconds(n_rows: int = 40, **changes: object) -> float:
        chosen = replace(prepared.settings, **changes)
        return exam_seconds(
            prepared.fast,
            prepared.base.tokenizer,
            prepared.rows.exam.rows[:n_rows],
            chosen,
            CONTEXT,
            1e-3,
            _ticking(1.0),
        )

    assert seconds(answered_examples=0) < seconds(answered_examples=8, max_new_tokens=4)
    assert seconds(20, max_new_tokens=4) < seconds(40, max_new_tokens=4)
    few, many = (seconds(max_new_tokens=n) for n in (4, 400))
    assert few <= many
    scored = scored_tokens(prepared.rows.exam.rows[:10], replace(BRISK, answered_examples=0))
    assert seconds(10, answered_examples=0) == cost_time.EXAM_OVERHEAD_S + 1e-3 * scored


def test_what_an_exam_scores(models: Models) -> None:
    """Both models score every row, four choices of each that is asked, and the general text."""
    found = prepare(brisk(models.folder()), Split(rows(4), (), rows(40))).rows.exam.rows
    per_byte = sum(it.n_supervised for it in found) / sum(it.answer_bytes for it in found)
    text = round(per_byte * cost_time.GENERAL_TEXT_BYTES)
    for asked in (0, 7, 40, 99):
        expected = 2 * (total_length(found) + 4 * total_length(found[:asked]) + text)
        assert scored_tokens(found, replace(BRISK, answered_examples=asked)) == expected
    assert scored_tokens(encoded_rows((20, 30)), replace(BRISK, answered_examples=0)) == 100


def test_the_length_of_the_general_text_is_known() -> None:
    """It is what the exam's own file holds, to some percent."""
    text = (files("finetuning_exam.evaluation") / "general_text.txt").read_bytes()
    assert len(text) == pytest.approx(cost_time.GENERAL_TEXT_BYTES, rel=0.05)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("fast_path", ["all", "none"])
def test_a_run_is_predicted(models: Models, architecture: str, fast_path: str) -> None:
    """Time and memory of a run come out for any model, and the model is as before."""
    settings = brisk(models.folder(architecture), fast_path=(fast_path,), max_steps=6)
    prepared = prepare(settings, Split(rows(9), rows(3), rows(5)))
    state = {name: it.clone() for name, it in prepared.model.state_dict().items()}
    whole = predict(prepared)
    assert 0 < whole.train_seconds < 300
    assert whole.exam_seconds > cost_time.EXAM_OVERHEAD_S
    assert 100e6 < whole.peak_bytes < 100e9
    assert predict(prepared, done_steps=6).train_seconds == 0
    assert all(torch.equal(state[name], it) for name, it in prepared.model.state_dict().items())


def test_a_prediction_changes_no_byte(models: Models, tmp_path: Path) -> None:
    """A run that was predicted gives the adapter of one that was not, with dropout too."""
    found = []
    for name in ("with", "without"):
        (folder := tmp_path / name).mkdir()
        settings = brisk(models.folder(), lora_dropout=0.3, output_dir=str(folder))
        prepared = prepare(settings, Split(rows(9), rows(3), rows(5)))
        if name == "with":
            predict(prepared)
        train(prepared, checkpoints_in(folder), ignore)
        found.append((folder / ADAPTER_WEIGHTS).read_bytes())
    assert found[0] == found[1]


def test_predicted_and_measured_stand_side_by_side(models: Models, tmp_path: Path) -> None:
    """run.json holds time and memory as predicted, and as measured with the same names."""
    settings = brisk(models.folder(), output_dir=str(tmp_path), micro_batch_tokens=99)
    prepared = prepare(settings, Split(rows(9), (), rows(5)))
    predicted = predict(prepared)
    result = train(prepared, checkpoints_in(tmp_path), ignore)
    seconds = {"train": 3.5, "exam": 1.5}
    record = make_record(prepared, DATA, result, tmp_path, "fte train", seconds, predicted)
    write(tmp_path, record)
    written = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert written["predicted"] == asdict(predicted)
    measured = written["measured"]
    assert (measured["train_seconds"], measured["exam_seconds"]) == (3.5, 1.5)
    assert measured["peak_bytes"] == pytest.approx(peak_memory(torch.device("cpu")), rel=0.01)
    assert written["plan"]["micro_batches"] == {"tokens": 99, "checkpointing": False}
