"""The time estimate: what is timed, for how long, and what is counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import BRISK, Models, adapted, brisk, checkpoints_in, encoded_rows, ignore, rows
from trainings import workload

from finetuning_exam import run_file
from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.split import Split
from finetuning_exam.model.fast.path import FastPath, choose_fast_path, wanted_pieces
from finetuning_exam.model.folder import ADAPTER_WEIGHTS
from finetuning_exam.model.memory import peak_memory
from finetuning_exam.run_record import DataRecord, MicroBatches, TrainingPlan
from finetuning_exam.training.batches import draw_batches
from finetuning_exam.training.cost import time as cost_time
from finetuning_exam.training.cost.exam_time import EXAM_OVERHEAD_S
from finetuning_exam.training.cost.predict import predict
from finetuning_exam.training.cost.time import (
    MAX_SAMPLES,
    TIMING_S,
    TIMING_SHARE,
    WARM_UP_TOKENS,
    cut_rows,
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


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("fast_path", ["all", "none"])
def test_a_run_is_predicted(models: Models, architecture: str, fast_path: str) -> None:
    """Time and memory of a run are predicted for any model, which is left unchanged."""
    settings = brisk(models.folder(architecture), fast_path=(fast_path,), max_steps=6)
    prepared = prepare(settings, Split(rows(9), rows(3), rows(5)))
    state = {name: it.clone() for name, it in prepared.model.state_dict().items()}
    whole = predict(prepared).cost
    assert 0 < whole.train_seconds < 300
    assert whole.exam_seconds > EXAM_OVERHEAD_S
    assert 100e6 < whole.peak_bytes < 100e9
    assert predict(prepared, done_steps=6).cost.train_seconds == 0
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
    predicted = predict(prepared).cost
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
