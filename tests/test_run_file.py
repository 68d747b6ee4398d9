"""Specification of run.json: written as ever, and read in every version."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_inputs import BEGUN, SETTINGS, inputs_of, put

from finetuning_exam.answer_limit import AnswerLimit
from finetuning_exam.durable import Json
from finetuning_exam.errors import UsageError
from finetuning_exam.run_file import is_run, read, write
from finetuning_exam.run_record import (
    AdapterRecord,
    BaseInputs,
    BaseRecord,
    Cost,
    DataInputs,
    DataRecord,
    MicroBatches,
    PinnedChoices,
    PlanInputs,
    RunInputs,
    RunRecord,
    TrainingPlan,
    TrainingResult,
)
from finetuning_exam.run_settings import settings_by_name
from finetuning_exam.settings import Dtype, TrainSettings

FINISHED = RunRecord(
    command="fte train d.jsonl",
    settings=SETTINGS,
    plan=TrainingPlan(0.01, 2.0, 3, 6, 1, 2, MicroBatches(2048), AnswerLimit(60, "time")),
    data=DataRecord(("d.jsonl",), "a1", None, None, 9, 2, 3, False, 0, "b2"),
    base=BaseRecord("builtin", "c3", 7_000_000, 1024),
    adapter=AdapterRecord(6, 3072, "d4"),
    template="plain",
    template_sha256="e5",
    device="cpu",
    dtype="float32",
    threads=2,
    result=TrainingResult(6, 4, 4.5, None, 1102, 1.5, 0.25, 578.5, False),
    seconds={"load": 0.5, "train": 2.0},
    predicted=Cost(1.5, 3.0, 1_000),
    versions={"python": "3.13.1"},
    machine={"python": "3.13.1", "threads": "2"},
)


def _content(path: Path) -> dict[str, Json]:
    content: dict[str, Json] = json.loads((path / "run.json").read_text(encoding="utf-8"))
    return content


# Write


def test_a_run_that_begins_is_written_word_for_word(tmp_path: Path) -> None:
    """The keys and their order are part of the file's form."""
    write(tmp_path, replace(BEGUN, settings={"seed": 42, "lora_target_modules": ["q_proj"]}))
    assert (
        (tmp_path / "run.json").read_text(encoding="utf-8")
        == """\
{
  "tool": "finetuning-exam",
  "schema_version": 1,
  "state": "unfinished",
  "settings": {
    "seed": 42,
    "lora_target_modules": [
      "q_proj"
    ]
  },
  "data": {
    "sha256": "abababababababababababababababababababababababababababababababab",
    "exam_sha256": null,
    "rows_sha256": "2"
  },
  "base": {
    "name": "m",
    "sha256": "1"
  },
  "template": "plain",
  "template_date": null,
  "plan": {
    "micro_batches": {
      "tokens": 2048,
      "checkpointing": false
    },
    "learning_rate": null,
    "total_steps": null,
    "answers": null
  },
  "device": "cpu",
  "dtype": "float32",
  "machine": {
    "torch": "1",
    "threads": "2"
  },
  "fold": null,
  "thinking": false
}
"""
    )


FINISHED_TEXT = """\
{
  "tool": "finetuning-exam",
  "schema_version": 1,
  "command": "fte train d.jsonl",
  "settings": SETTINGS,
  "plan": {
    "learning_rate": 0.01,
    "num_train_epochs": 2.0,
    "steps_per_epoch": 3,
    "total_steps": 6,
    "warmup_steps": 1,
    "save_steps": 2,
    "micro_batches": {
      "tokens": 2048,
      "checkpointing": false
    },
    "answers": {
      "n": 60,
      "reason": "time"
    }
  },
  "data": {
    "paths": [
      "d.jsonl"
    ],
    "sha256": "a1",
    "exam_path": null,
    "exam_sha256": null,
    "n_train": 9,
    "n_validation": 2,
    "n_exam": 3,
    "exam_is_training": false,
    "exam_rows_also_taught": 0,
    "rows_sha256": "b2"
  },
  "base": {
    "name": "builtin",
    "sha256": "c3",
    "n_parameters": 7000000,
    "context": 1024
  },
  "adapter": {
    "n_modules": 6,
    "n_parameters": 3072,
    "sha256": "d4"
  },
  "template": "plain",
  "template_sha256": "e5",
  "device": "cpu",
  "dtype": "float32",
  "threads": 2,
  "result": {
    "steps": 6,
    "best_step": 4,
    "first_validation_loss": 4.5,
    "best_validation_loss": null,
    "tokens": 1102,
    "seconds": 1.5,
    "saving_seconds": 0.25,
    "tokens_per_second": 578.5,
    "stopped_early": false,
    "adapter_scale": 1.0,
    "frontier": []
  },
  "seconds": {
    "load": 0.5,
    "train": 2.0
  },
  "predicted": {
    "train_seconds": 1.5,
    "exam_seconds": 3.0,
    "peak_bytes": 1000
  },
  "measured": null,
  "template_date": null,
  "stop_token_ids": [],
  "versions": {
    "python": "3.13.1"
  },
  "machine": {
    "python": "3.13.1",
    "threads": "2"
  },
  "fold": null,
  "thinking": false
}
"""


def test_a_finished_run_is_written_word_for_word(tmp_path: Path) -> None:
    """The keys and their order are part of the file's form; settings are those of the class."""
    write(tmp_path, FINISHED)
    written = json.dumps(settings_by_name(SETTINGS), indent=2).replace("\n", "\n  ")
    expected = FINISHED_TEXT.replace("SETTINGS", written)
    assert (tmp_path / "run.json").read_text(encoding="utf-8") == expected


def test_settings_are_named_and_as_json_gives_them_back() -> None:
    """Every setting is there, tuples as lists, so that a run compares equal with its file."""
    named = settings_by_name(SETTINGS)
    assert named.keys() == vars(SETTINGS).keys()
    assert named["lora_target_modules"] == ["q_proj", "v_proj"]


# Read

TEXTS = st.text(max_size=8)
HASHES = st.none() | TEXTS
COUNTS = st.integers(0, 10**9)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
NAMED = st.dictionaries(TEXTS, TEXTS, max_size=3)
MICRO_BATCHES = st.builds(MicroBatches, COUNTS, st.booleans())
DRAWN_SETTINGS = st.builds(
    TrainSettings,
    seed=st.integers(0, 2**32 - 1),
    learning_rate=st.just("auto") | st.floats(1e-9, 10),
    lora_target_modules=st.lists(TEXTS, max_size=2).map(tuple),
    max_steps=st.none() | st.integers(1, 9),
    gradient_checkpointing=st.sampled_from([True, False, "auto"]),
    eval_file=HASHES,
)
DRAWN_INPUTS = st.builds(
    RunInputs,
    DRAWN_SETTINGS.map(settings_by_name),
    st.none() | st.builds(DataInputs, TEXTS, HASHES, HASHES),
    st.none() | st.builds(BaseInputs, TEXTS, TEXTS),
    HASHES,
    HASHES,
    st.none() | st.builds(PlanInputs, MICRO_BATCHES),
    HASHES,
    HASHES,
    NAMED,
)
COSTS = st.none() | st.builds(Cost, NUMBERS, NUMBERS, COUNTS)
RECORDS = st.builds(
    RunRecord,
    command=TEXTS,
    settings=DRAWN_SETTINGS,
    plan=st.builds(TrainingPlan, NUMBERS, NUMBERS, COUNTS, COUNTS, COUNTS, COUNTS, MICRO_BATCHES),
    data=st.builds(
        DataRecord,
        *(st.lists(TEXTS, max_size=2).map(tuple), TEXTS, HASHES, HASHES),
        *(COUNTS, COUNTS, COUNTS, st.booleans(), COUNTS, TEXTS),
    ),
    base=st.builds(BaseRecord, TEXTS, TEXTS, COUNTS, COUNTS),
    adapter=st.builds(AdapterRecord, COUNTS, COUNTS, TEXTS),
    template=TEXTS,
    template_sha256=TEXTS,
    device=TEXTS,
    dtype=TEXTS,
    threads=COUNTS,
    result=st.builds(
        TrainingResult,
        *(COUNTS, COUNTS, st.none() | NUMBERS, st.none() | NUMBERS, COUNTS),
        *(NUMBERS, NUMBERS, NUMBERS, st.booleans()),
    ),
    seconds=st.dictionaries(TEXTS, NUMBERS, max_size=3),
    predicted=COSTS,
    measured=COSTS,
    template_date=HASHES,
    stop_token_ids=st.lists(COUNTS, max_size=2).map(tuple),
    versions=NAMED,
    machine=NAMED,
)


@settings(deadline=None)
@given(DRAWN_INPUTS)
def test_inputs_come_back_as_they_were_written(inputs: RunInputs) -> None:
    """Whatever goes into a run is what a resume compares with."""
    with TemporaryDirectory() as folder:
        write(Path(folder), inputs)
        run = read(Path(folder))
    assert run is not None
    assert run.is_unfinished
    assert run.inputs == inputs
    assert run.record() is None


@settings(deadline=None)
@given(RECORDS)
def test_a_record_comes_back_as_it_was_written(record: RunRecord) -> None:
    """A finished run is read as it was written, and its inputs with it."""
    with TemporaryDirectory() as folder:
        write(Path(folder), record)
        run = read(Path(folder))
    assert run is not None
    assert not run.is_unfinished
    assert run.record() == record
    assert run.inputs == RunInputs(
        settings_by_name(record.settings),
        DataInputs(record.data.sha256, record.data.exam_sha256, record.data.rows_sha256),
        BaseInputs(record.base.name, record.base.sha256),
        record.template,
        record.template_date,
        PlanInputs(
            record.plan.micro_batches,
            record.plan.learning_rate,
            record.plan.total_steps,
            record.plan.answers,
        ),
        record.device,
        record.dtype,
        record.machine,
    )
    assert (run.data_paths, run.adapter_sha256) == (record.data.paths, record.adapter.sha256)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "5", '"run"', "\x80", "[" * 100_000])
def test_a_damaged_file_is_no_run(tmp_path: Path, content: str) -> None:
    """A file that holds no object says nothing, like a file that is missing."""
    assert read(tmp_path) is None
    (tmp_path / "run.json").write_bytes(content.encode("latin-1"))
    assert read(tmp_path) is None
    assert not is_run(tmp_path)


@pytest.mark.parametrize("damage", [None, 5, "x", [], ["x"], {}, {"x": 1}, {"sha256": 5}])
def test_a_damaged_part_is_not_known(tmp_path: Path, damage: Json) -> None:
    """A part that is missing or of another form is not known; the others still are."""
    write(tmp_path, FINISHED)
    content = _content(tmp_path)
    for part in ("data", "base", "plan", "adapter"):
        put(tmp_path, {**content, part: damage})
        run = read(tmp_path)
        assert run is not None
        assert run.record() is None
        assert (run.inputs.data is None) == (part == "data")
        assert (run.inputs.base is None) == (part == "base")
        assert (run.inputs.plan is None) == (part == "plan")
        assert (run.adapter_sha256 is None) == (part == "adapter")
        assert (run.data_paths == ()) == (part == "data")


@pytest.mark.parametrize("damage", [None, 5, "x", []])
def test_damaged_settings_are_not_known(tmp_path: Path, damage: Json) -> None:
    """Settings and machine facts that are no object are not known either."""
    inputs = inputs_of(tmp_path, {"settings": damage, "machine": damage, "dtype": damage})
    assert (inputs.settings, inputs.machine) == ({}, {})
    assert inputs.dtype == ("x" if damage == "x" else None)


def test_unknown_keys_are_ignored(tmp_path: Path) -> None:
    """What another version has written besides does not matter."""
    write(tmp_path, FINISHED)
    content = _content(tmp_path)
    for part in ("settings", "data"):
        inner = content[part]
        assert isinstance(inner, dict)
        inner["new"] = 1
    put(tmp_path, {**content, "new": 1})
    run = read(tmp_path)
    assert run is not None
    assert run.record() == FINISHED


@pytest.mark.parametrize("run", [BEGUN, FINISHED], ids=["begun", "finished"])
def test_a_file_without_a_version_is_read(tmp_path: Path, run: RunInputs | RunRecord) -> None:
    """A file from before there was a version has the same keys."""
    write(tmp_path, run)
    now = read(tmp_path)
    content = _content(tmp_path)
    assert content.pop("schema_version") == 1
    put(tmp_path, content)
    before = read(tmp_path)
    assert now is not None
    assert before is not None
    assert (before.inputs, before.record()) == (now.inputs, now.record())


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    """What a newer version wrote is not guessed at; but the folder is known to be a run's."""
    put(tmp_path, {"tool": "finetuning-exam", "schema_version": 2})
    with pytest.raises(UsageError) as caught:
        read(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'run.json'} was written by a newer version of fine-tuning-exam (schema 2; "
        "this one reads up to 1). Update fine-tuning-exam."
    )
    assert is_run(tmp_path)


def test_another_programs_version_is_not_ours(tmp_path: Path) -> None:
    """A run.json of another program may have a schema_version, which means nothing here."""
    put(tmp_path, {"schema_version": 7})
    assert read(tmp_path) is not None
    assert not is_run(tmp_path)


@pytest.mark.parametrize(("device", "cpu_dtype"), [("cpu", "bfloat16"), ("cuda", None)])
def test_choices_come_back_from_an_unfinished_run(
    tmp_path: Path, device: str, cpu_dtype: Dtype | None
) -> None:
    """Choices made by the memory and speed of a machine are written before the first step."""
    chosen = MicroBatches(512, checkpointing=True)
    write(
        tmp_path, replace(BEGUN, plan=PlanInputs(chosen, 1e-3, 9), device=device, dtype="bfloat16")
    )
    run = read(tmp_path)
    assert run is not None
    assert run.inputs.pinned == PinnedChoices(chosen, cpu_dtype, learning_rate=1e-3, total_steps=9)


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ({"n": 60, "reason": "time"}, AnswerLimit(60, "time")),
        (None, None),
        ({"n": 60}, None),
        ({"n": 60, "reason": "whim"}, None),
        ({"n": "60", "reason": "time"}, None),
    ],
)
def test_the_limit_of_answers_is_read_back(
    tmp_path: Path, answers: Json, found: AnswerLimit | None
) -> None:
    """A resumed run answers as many examples as it would have; a damaged number is not known."""
    chosen = {"micro_batches": {"tokens": 5, "checkpointing": False}, "answers": answers}
    assert inputs_of(tmp_path, {"plan": chosen}).pinned.answers == found


@pytest.mark.parametrize(
    "plan",
    [
        None,
        [],
        {},
        {"total_steps": 3},
        {"micro_batches": 5},
        {"micro_batches": {"tokens": 5}},
        {"micro_batches": {"tokens": "5", "checkpointing": False}},
        {"micro_batches": {"tokens": 5, "checkpointing": None}},
    ],
)
def test_a_run_without_micro_batches_pins_none(tmp_path: Path, plan: Json) -> None:
    """A run.json of an older version leaves the choice to the run that goes on."""
    assert inputs_of(tmp_path, {"plan": plan}).pinned == PinnedChoices()
    assert RunInputs().pinned == PinnedChoices()
