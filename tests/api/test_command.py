"""Specification of the commands that a run names: how to resume it, and how to repeat it."""

from __future__ import annotations

import shlex

import pytest

from finetuning_exam.api.command import Command, command_of
from finetuning_exam.cli.arguments import parse
from finetuning_exam.settings import TrainSettings


@pytest.mark.parametrize(
    "more",
    [
        "",
        " --resume_from_checkpoint latest",
        " --resume-from-checkpoint=out/checkpoint-3",
        " --overwrite_output_dir",
        " --overwrite_output_dir True --resume_from_checkpoint 'a b/checkpoint-1'",
        " --no-overwrite-output-dir",
        " --resume_from_checkpoint latest --overwrite_output_dir=True",
    ],
)
def test_a_run_is_repeated_from_its_start(more: str) -> None:
    """Flags that resume or overwrite are left out; everything else stays."""
    again = "fte train 'my data.jsonl' --seed 3"
    assert Command(f"fte train{more} 'my data.jsonl' --seed 3").from_the_start == again
    assert Command(f"fte train 'my data.jsonl'{more} --seed 3").from_the_start == again
    assert Command(f"fte train 'my data.jsonl' --seed 3{more}").from_the_start == again
    resumed = Command(f"{again}{more}", "uv run fte").to_resume
    assert resumed == f"uv run {again} --resume_from_checkpoint latest"


def test_arguments_after_two_hyphens_stay_arguments() -> None:
    """A file whose name starts with a hyphen is kept, and the flag that resumes comes before it."""
    command = Command("fte train --seed 3 -- --resume_from_checkpoint")
    assert command.from_the_start == "fte train --seed 3 -- --resume_from_checkpoint"
    assert command.to_resume == (
        "fte train --seed 3 --resume_from_checkpoint latest -- --resume_from_checkpoint"
    )


@pytest.mark.parametrize(
    "settings",
    [
        TrainSettings(),
        TrainSettings(data=("a b.jsonl", "c.csv"), seed=3, learning_rate=1e-4),
        TrainSettings(early_stopping_patience=None, lora_target_modules=("q_proj", "v_proj")),
        TrainSettings(data=("-x.jsonl", "y.jsonl"), output_dir="-out", prompt_field="-- p"),
        TrainSettings(load_best_model_at_end=False, gradient_checkpointing=True, report_to=()),
    ],
)
def test_a_run_from_python_has_a_command_line(settings: TrainSettings) -> None:
    """The command line that stands for settings parses to the same settings."""
    words = shlex.split(command_of(settings).line)
    assert words[:2] == ["fte", "train"]
    assert parse(TrainSettings, "train", words[2:]).settings == settings


@pytest.mark.parametrize(
    "line",
    [
        "fte train 'my data.jsonl' --seed 3 --overwrite_output_dir",
        "fte train --output_dir 'a b' --fork 'it'\"'\"'s' d.jsonl --resume_from_checkpoint latest",
        "fte train --no-overwrite-output-dir -- -d.jsonl",
    ],
)
def test_a_command_can_be_typed_again(line: str) -> None:
    """The command as it was typed keeps every flag and its quotes, after the user's prefix."""
    command = Command(line, "python -m finetuning_exam")
    assert command.as_typed == f"python -m finetuning_exam {line.removeprefix('fte ')}"
    assert shlex.split(Command(line).as_typed) == shlex.split(line)
