"""How many examples a run's exam answers: chosen once, said, recorded, and kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny import LEAN_SETTINGS, Models, brisk, rows, write_rows

from finetuning_exam import exam, train
from finetuning_exam.answer_limit import AnswerLimit
from finetuning_exam.api import events
from finetuning_exam.api.events import CostPredicted, Event, Notice
from finetuning_exam.api.train import TrainedRun
from finetuning_exam.data.split import Split
from finetuning_exam.report.text import answers_words
from finetuning_exam.run_record import PinnedChoices
from finetuning_exam.settings import ExamSettings, TrainSettings
from finetuning_exam.training.cost.predict import predict
from finetuning_exam.training.prepare import prepare

LONG = 24
"""Tokens of an answer, which takes longer than a step of a tiny model."""
FEWEST = AnswerLimit(30, "fewest")
"""What auto chooses then after a training of one step."""
WORDS = (
    "Answers: 30 of 40 examples, chosen at random (the fewest; they take over 15% of the "
    "training's predicted time)"
)


def _settings(models: Models, folder: Path, **changes: Any) -> TrainSettings:
    return TrainSettings(
        data=(str(write_rows(folder / "train.jsonl", rows(60)[40:])),),
        eval_file=str(write_rows(folder / "held.jsonl", rows(40))),
        output_dir=str(folder / "out"),
        model_name_or_path=str(models.folder()),
        device="cpu",
        max_steps=1,
        max_new_tokens=LONG,
        **(LEAN_SETTINGS | changes),
    )


@pytest.fixture(scope="module")
def seen() -> list[Event]:
    """The events of the run."""
    return []


@pytest.fixture(scope="module")
def run(models: Models, tmp_path_factory: pytest.TempPathFactory, seen: list[Event]) -> TrainedRun:
    """A short run whose exam has forty examples."""
    return train(_settings(models, tmp_path_factory.mktemp("run")), on_event=seen.append)


def test_a_short_training_has_few_answers(run: TrainedRun, seen: list[Event]) -> None:
    """Thirty examples are answered; all are scored, and all are posed as multiple choice."""
    overall = run.exam.overall
    assert (overall.n_answered, overall.n_examples) == (30, 40)
    assert overall.choice_accuracy.n_questions == 40
    (predicted,) = [it for it in seen if isinstance(it, CostPredicted)]
    assert (predicted.answers, predicted.n_asking) == (FEWEST, 40)
    assert answers_words(predicted.answers, predicted.n_asking) == WORDS


def test_the_number_and_its_reason_are_recorded(run: TrainedRun) -> None:
    """run.json has the limit, and exam.json how many were answered; the report and the card say
    so.
    """
    record, taken = (
        json.loads((run.folder / name).read_text(encoding="utf-8"))
        for name in ("run.json", "exam.json")
    )
    assert record["settings"]["answered_examples"] == "auto"
    assert record["plan"]["answers"] == {"n": 30, "reason": "fewest"}
    assert taken["answering"] == {"n_answered": 30, "n_asking": 40, "reason": "fewest"}
    for name in ("report.html", "README.md"):
        text = (run.folder / name).read_text(encoding="utf-8").replace("&#39;", "'")
        assert f"{WORDS}; multiple choice: 40." in " ".join(text.split())


def test_the_exam_alone_answers_the_same(run: TrainedRun) -> None:
    """`exam` of the same file answers the examples that the run answered, and says so."""
    held = str(run.folder.parent / "held.jsonl")
    notices: list[Event] = []
    again = exam(
        ExamSettings(data=held, adapter_name_or_path=str(run.folder), max_new_tokens=LONG),
        on_event=notices.append,
    )
    assert [it.tuned_answer for it in again.rows] == [it.tuned_answer for it in run.exam.rows]
    assert Notice(WORDS) in notices


def _prepared(models: Models, answers: AnswerLimit | None, **changes: Any) -> Any:
    settings = brisk(
        models.folder(),
        **({"answered_examples": "auto", "max_steps": 1, "max_new_tokens": LONG} | changes),
    )
    return prepare(settings, Split(rows(9), (), rows(40)), PinnedChoices(answers=answers))


@pytest.mark.parametrize("earlier", [AnswerLimit(60, "time"), AnswerLimit(200, "enough"), FEWEST])
def test_a_resumed_run_keeps_its_number(models: Models, earlier: AnswerLimit) -> None:
    """However long the rest of the training takes, the exam answers what it would have."""
    prepared = _prepared(models, earlier)
    assert predict(prepared).answers == earlier
    assert prepared.exam_plan.answered_examples == earlier.n


@pytest.mark.parametrize("earlier", [None, AnswerLimit(5, "requested")])
def test_a_number_that_was_not_chosen_is_chosen(
    models: Models, earlier: AnswerLimit | None
) -> None:
    """A new run, and one that was told a number before, chooses by the training's time."""
    assert predict(_prepared(models, earlier)).answers == FEWEST


@pytest.mark.parametrize("earlier", [None, FEWEST])
def test_a_number_that_is_told_wins(models: Models, earlier: AnswerLimit | None) -> None:
    """`--answered_examples N` answers N, also in a resumed run."""
    prepared = _prepared(models, earlier, answered_examples=7)
    assert predict(prepared).answers == AnswerLimit(7, "requested")
    assert (
        prepared.exam_plan.draw(prepared.rows.exam.examples)[0]
        == (prepared.exam_plan.draw(prepared.rows.exam.examples)[1])
    )


def test_without_a_record_there_is_a_default(models: Models, tmp_path: Path) -> None:
    """After a run that was told a number, `exam` takes a hundred, and says why if that is not
    all.
    """
    told = train(_settings(models, tmp_path, answered_examples=2))
    assert told.exam.overall.n_answered == 2
    held = str(write_rows(tmp_path / "many.jsonl", rows(160)))
    notices: list[Event] = []
    settings = ExamSettings(
        data=held, adapter_name_or_path=str(told.folder), max_new_tokens=2, skills="none"
    )
    found = exam(settings, on_event=notices.append)
    assert found.overall.n_answered == 100
    said = [it.text for it in notices if isinstance(it, events.Notice)]
    n = found.n_asking
    words = f"Answers: 100 of {n} examples, chosen at random (the training's time is not known)"
    assert words in said


def test_folds_share_the_number(models: Models, tmp_path: Path) -> None:
    """In a cross-validation all folds together answer what the exam of one run would."""
    settings = _settings(models, tmp_path, folds=2)
    data = str(write_rows(tmp_path / "all.jsonl", rows(40)))
    found = train(replace(settings, data=(data,), eval_file=None))
    assert (found.exam.overall.n_answered, found.exam.answer_reason) == (30, "fewest")
    assert found.exam.overall.choice_accuracy.n_questions == 40
    assert found.record.plan.answers == FEWEST
