"""Specification of what must be the same for a run to be resumed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from finetuning_exam.durable import Json
from finetuning_exam.errors import UsageError
from finetuning_exam.settings import Dtype, TrainSettings
from finetuning_exam.training.inputs import (
    PinnedChoices,
    check_same_inputs,
    earlier_choices,
    machine_changes,
    prepared_inputs,
    run_inputs,
)
from finetuning_exam.training.plan import MicroBatches
from finetuning_exam.training.run_folder import begin, read_run

SETTINGS = TrainSettings(lora_target_modules=("q_proj", "v_proj"), learning_rate=1e-2)
WHERE = "out/checkpoint-3"


def _written(settings: TrainSettings = SETTINGS) -> dict[str, Json]:
    """The inputs of a run as they come back from run.json."""
    inputs = run_inputs(settings, "ab" * 32, None)
    found: dict[str, Json] = json.loads(json.dumps(inputs, allow_nan=False))
    return found


def _refusal(now: dict[str, Json]) -> str:
    with pytest.raises(UsageError) as caught:
        check_same_inputs(_written(), now, WHERE)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_inputs_are_plain_settings_and_hashes() -> None:
    """Every setting is there, tuples as lists, so that run.json gives back what was written."""
    inputs = run_inputs(SETTINGS, "ab", "cd")
    assert inputs["data"] == {"sha256": "ab", "exam_sha256": "cd"}
    assert isinstance(inputs["settings"], dict)
    assert inputs["settings"]["lora_target_modules"] == ["q_proj", "v_proj"]
    assert _written() == run_inputs(SETTINGS, "ab" * 32, None)


def test_the_same_inputs_pass() -> None:
    """A run with the same settings and files may be resumed."""
    check_same_inputs(_written(), run_inputs(SETTINGS, "ab" * 32, None), WHERE)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learning_rate": 2e-2}, "learning_rate 0.01 → 0.02"),
        ({"learning_rate": "auto"}, "learning_rate 0.01 → 'auto'"),
        ({"seed": 7}, "seed 42 → 7"),
        ({"lora_r": 4}, "lora_r 16 → 4"),
        ({"max_steps": 9}, "max_steps None → 9"),
        (
            {"lora_target_modules": ("q_proj",)},
            "lora_target_modules ['q_proj', 'v_proj'] → ['q_proj']",
        ),
    ],
)
def test_another_setting_is_refused(changes: dict[str, object], words: str) -> None:
    """What would make it another run is named with what it was and what it is."""
    assert _refusal(run_inputs(replace(SETTINGS, **changes), "ab" * 32, None)) == (
        f"{WHERE}: was not made with these inputs: {words}. "
        "Give the same ones; for a new run from its weights, --fork it into another --output_dir."
    )


def test_other_files_are_refused() -> None:
    """Files are compared by content: another training file, or an exam file come lately."""
    assert "sha256 'abab" in _refusal(run_inputs(SETTINGS, "cd" * 32, None))
    assert "exam_sha256 None → 'ef'" in _refusal(run_inputs(SETTINGS, "ab" * 32, "ef"))


def test_all_differences_are_shown() -> None:
    """One line names every setting and file that differs."""
    told = _refusal(run_inputs(replace(SETTINGS, seed=7, lora_r=4), "cd", None))
    assert [name in told for name in ("seed 42 → 7", "lora_r 16 → 4", "→ 'cd'")] == [True] * 3


@pytest.mark.parametrize(
    "changes",
    [
        {"data": ("moved.jsonl",)},
        {"eval_file": "moved.jsonl"},
        {"output_dir": "elsewhere"},
        {"config": "c.yaml"},
        {"resume_from_checkpoint": "latest"},
        {"report_to": ("wandb",)},
        {"fail_if_worse": True},
        {"answered_examples": 3},
        {"max_new_tokens": 5},
        {"eval_batch_size": 2},
        {"logging_steps": 1},
        {"save_total_limit": 9},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_changes_no_training_is_free(changes: dict[str, object]) -> None:
    """Names of files, and what only shows or examines, may be changed."""
    check_same_inputs(_written(), run_inputs(replace(SETTINGS, **changes), "ab" * 32, None), WHERE)


@pytest.mark.parametrize("earlier", [{}, {"settings": None, "data": []}, {"settings": {"new": 1}}])
def test_what_the_earlier_run_did_not_write_down_is_not_compared(earlier: dict[str, Json]) -> None:
    """A run.json of an older version, or none, refuses nothing that it does not know."""
    check_same_inputs(earlier, _written(), WHERE)


def _prepared(inputs: dict[str, Json], base: str, rows: str) -> dict[str, Json]:
    machine = {"torch": "1", "threads": "2"}
    return prepared_inputs(
        inputs, ("m", base), "plain", rows, MicroBatches(), "cpu", "float32", machine
    )


def test_other_weights_and_other_tokens_are_refused() -> None:
    """A base that changed in its folder, or rows that encode differently, are no same run."""
    inputs = run_inputs(SETTINGS, "ab" * 32, None)
    earlier = _prepared(inputs, "1", "2")
    check_same_inputs(earlier, _prepared(inputs, "1", "2"), WHERE)
    with pytest.raises(UsageError) as caught:
        check_same_inputs(earlier, _prepared(inputs, "3", "4"), WHERE)
    assert "the tokens of the rows '2' → '4'" in str(caught.value)
    assert "the base's weights '1' → '3'" in str(caught.value)


@pytest.mark.parametrize(("device", "cpu_dtype"), [("cpu", "bfloat16"), ("cuda", None)])
def test_choices_come_back_from_an_unfinished_run(
    tmp_path: Path, device: str, cpu_dtype: Dtype | None
) -> None:
    """What was chosen by the memory and speed then found is written down before the first step."""
    chosen = MicroBatches(512, checkpointing=True)
    inputs = run_inputs(SETTINGS, "ab", None)
    written = prepared_inputs(inputs, ("m", "1"), "plain", "2", chosen, device, "bfloat16", {})
    begin(tmp_path, written)
    assert earlier_choices(read_run(tmp_path)) == PinnedChoices(chosen, cpu_dtype)


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
def test_a_run_that_tells_no_micro_batches_has_none(plan: Json) -> None:
    """A run.json of an older version leaves the choice to the run that goes on."""
    assert earlier_choices({"plan": plan}) == PinnedChoices()
    assert earlier_choices({}) == PinnedChoices()


def test_another_machine_is_told_and_not_refused() -> None:
    """Libraries, threads and processor may change the last bits, so they are named."""
    inputs = run_inputs(SETTINGS, "ab" * 32, None)
    earlier = _prepared(inputs, "1", "2")
    assert machine_changes(earlier, {"torch": "1", "threads": "2"}) == ()
    assert machine_changes(earlier, {"torch": "2", "threads": "2"}) == ("torch 1 → 2",)
    assert machine_changes({}, {"torch": "2"}) == ()
    other = prepared_inputs(
        inputs, ("m", "1"), "plain", "2", MicroBatches(), "cpu", "float32", {"torch": "2"}
    )
    check_same_inputs(earlier, other, WHERE)
