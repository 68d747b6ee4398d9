"""The inputs of a small run, as run.json holds them when it begins and once it is prepared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from finetuning_exam.run_file import read
from finetuning_exam.run_record import (
    BaseInputs,
    DataInputs,
    MicroBatches,
    PlanInputs,
    RunInputs,
)
from finetuning_exam.run_settings import settings_by_name
from finetuning_exam.settings import TrainSettings

SETTINGS = TrainSettings(lora_target_modules=("q_proj", "v_proj"), learning_rate=1e-2)
WHERE = "out/checkpoint-3"
DATA = DataInputs("ab" * 32, None)
INPUTS = RunInputs(settings_by_name(SETTINGS), DATA)
BEGUN = replace(
    INPUTS,
    data=replace(DATA, rows_sha256="2"),
    base=BaseInputs("m", "1"),
    template="plain",
    plan=PlanInputs(MicroBatches(2048)),
    device="cpu",
    dtype="float32",
    machine={"torch": "1", "threads": "2"},
)


def put(path: Path, content: object) -> None:
    """Write a run.json with this content."""
    (path / "run.json").write_text(json.dumps(content), encoding="utf-8")


def inputs_of(path: Path, content: object) -> RunInputs:
    """Return the inputs that are read from a run.json with this content."""
    put(path, content)
    run = read(path)
    assert run is not None
    return run.inputs
