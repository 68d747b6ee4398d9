"""Specification of what a resumed run must share with the run that it continues."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from run_inputs import BEGUN, DATA, INPUTS, SETTINGS, WHERE, inputs_of

from finetuning_exam.durable import Json
from finetuning_exam.errors import UsageError
from finetuning_exam.run_file import check_same_inputs, machine_changes, read, write
from finetuning_exam.run_record import (
    BaseInputs,
    DataInputs,
    MicroBatches,
    PlanInputs,
    RunInputs,
)
from finetuning_exam.run_settings import settings_by_name


def _refusal(now: RunInputs, earlier: RunInputs = INPUTS) -> str:
    with pytest.raises(UsageError) as caught:
        check_same_inputs(earlier, now, WHERE)
    assert caught.value.exit_code == 2
    return str(caught.value)


def _changed(**changes: object) -> RunInputs:
    return replace(INPUTS, settings=settings_by_name(replace(SETTINGS, **changes)))  # type: ignore[arg-type]


def test_the_same_inputs_pass(tmp_path: Path) -> None:
    """A run with the same settings and files may be resumed, before and after it is prepared."""
    write(tmp_path, BEGUN)
    run = read(tmp_path)
    assert run is not None
    check_same_inputs(run.inputs, INPUTS, WHERE)
    check_same_inputs(run.inputs, BEGUN, WHERE)


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
    assert _refusal(_changed(**changes)) == (
        f"{WHERE}: cannot be resumed with other inputs: {words}. Give the original ones, or start "
        "a new run from its weights with --fork and another --output_dir."
    )


def test_other_files_are_refused() -> None:
    """Files are compared by content: another training file, or an exam file come lately."""
    assert "sha256 'abab" in _refusal(replace(INPUTS, data=DataInputs("cd" * 32, None)))
    assert "exam_sha256 None → 'ef'" in _refusal(replace(INPUTS, data=DataInputs("ab" * 32, "ef")))


def test_all_differences_are_shown() -> None:
    """One line names every setting and file that differs."""
    message = _refusal(replace(_changed(seed=7, lora_r=4), data=DataInputs("cd", None)))
    assert [name in message for name in ("seed 42 → 7", "lora_r 16 → 4", "→ 'cd'")] == [True] * 3


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
    check_same_inputs(INPUTS, _changed(**changes), WHERE)


def test_a_base_may_be_moved() -> None:
    """Bases are compared by their weights, not by their names."""
    check_same_inputs(BEGUN, replace(BEGUN, base=BaseInputs("moved", "1")), WHERE)


@pytest.mark.parametrize("earlier", [{}, {"settings": None, "data": []}, {"settings": {"new": 1}}])
def test_what_the_earlier_run_did_not_write_down_is_not_compared(
    tmp_path: Path, earlier: dict[str, Json]
) -> None:
    """A run.json of an older version refuses nothing that it does not know."""
    check_same_inputs(inputs_of(tmp_path, {"tool": "x", **earlier}), BEGUN, WHERE)


def test_other_weights_and_other_tokens_are_refused() -> None:
    """A base that changed in its folder, or rows that encode differently, are no same run."""
    data = replace(DATA, rows_sha256="4")
    message = _refusal(replace(BEGUN, base=BaseInputs("m", "3"), data=data), BEGUN)
    assert "the tokens of the rows '2' → '4'" in message
    assert "the base's weights '1' → '3'" in message


def test_other_micro_batches_are_refused() -> None:
    """Micro-batches change the last bits, so a resumed run keeps those it began with."""
    now = replace(BEGUN, plan=PlanInputs(MicroBatches(512)))
    assert "micro_batches {'tokens': 2048, 'checkpointing': False} → " in _refusal(now, BEGUN)


def test_another_machine_is_named_and_not_refused() -> None:
    """Libraries, threads and processor may change the last bits, so they are named."""
    other = replace(BEGUN, machine={"torch": "2", "threads": "2"})
    assert machine_changes(BEGUN, BEGUN) == ()
    assert machine_changes(BEGUN, other) == ("torch 1 → 2",)
    assert machine_changes(RunInputs(), other) == ()
    check_same_inputs(BEGUN, other, WHERE)
