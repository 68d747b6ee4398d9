"""The cost of a cross-validation follows from one prediction."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import Models, brisk, rows

from finetuning_exam.data.split import Split
from finetuning_exam.run_record import Cost
from finetuning_exam.training.cost import predict as module
from finetuning_exam.training.cost.exam_time import EXAM_OVERHEAD_S, ExamCost, Pace, StepPace
from finetuning_exam.training.cost.predict import Measured, PartSize, predict_parts
from finetuning_exam.training.prepare import prepare


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows cost 100 s of training, and 30 s of exam, of which 6 s do not depend on its rows: 4
    s of general text and 2 s of skills.
    """
    measured = Measured(100.0, 5_000, Pace(0.0, 0.0, 0.0, StepPace(0.0, 0.0, 0.0, 1, 1)))
    monkeypatch.setattr(module, "_measure", lambda prepared, done_steps: measured)
    monkeypatch.setattr(module, "exam_cost", lambda *_: ExamCost(14.0, 10.0, 4.0, 2.0, 20))


def _predicted(models: Models, out: Path, *parts: PartSize, **changes: object) -> tuple[Cost, ...]:
    settings = brisk(models.folder(), output_dir=str(out), **changes)
    prepared = prepare(settings, Split(rows(20), (), rows(20)))
    return predict_parts(prepared, parts)[0]


@pytest.mark.usefixtures("fixed")
def test_epochs_cost_what_their_rows_cost(models: Models, tmp_path: Path) -> None:
    """A fold of a fifth costs four fifths of a training, and its share of the questions; the last
    training costs all rows, and what the losses cost, of which folds do not ask for skills.
    """
    fold, last = PartSize(16, 0, 4), PartSize(20, 0, 0)
    costs = _predicted(models, tmp_path, *[fold] * 5, last, max_steps=None, num_train_epochs=3.0)
    assert [cost.train_seconds for cost in costs] == pytest.approx([80.0] * 5 + [100.0])
    assert [cost.exam_seconds for cost in costs] == pytest.approx([8.8] * 5 + [6.0])
    assert {cost.peak_bytes for cost in costs} == {5_000}


@pytest.mark.usefixtures("fixed")
def test_steps_cost_the_same_in_every_part(models: Models, tmp_path: Path) -> None:
    """With `--max_steps` a fold takes as long as the training on all rows; done steps are free."""
    parts = PartSize(16, 0, 4), PartSize(16, 0, 4, done_steps=3), PartSize(20, 0, 0)
    costs = _predicted(models, tmp_path, *parts, max_steps=4)
    assert [cost.train_seconds for cost in costs] == pytest.approx([100.0, 25.0, 100.0])


def test_what_every_exam_costs_is_measured(models: Models, tmp_path: Path) -> None:
    """Without patches: an exam of no rows still costs its general text and its statistics, and less
    than one of all rows.
    """
    everything, nothing = _predicted(
        models, tmp_path, PartSize(20, 0, 20), PartSize(20, 0, 0), answered_examples=4
    )
    assert EXAM_OVERHEAD_S < nothing.exam_seconds < everything.exam_seconds
    assert everything.train_seconds == nothing.train_seconds > 0
