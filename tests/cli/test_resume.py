"""Specification of the commands that a run prints: how to resume it, and how to repeat it."""

from __future__ import annotations

import pytest

from finetuning_exam.cli.resume import command_without_resume, resume_command


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
def test_a_run_is_made_again_from_its_start(more: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was said of resuming and replacing is left out; everything else stays."""
    again = "fte train 'my data.jsonl' --seed 3"
    assert command_without_resume(f"fte train{more} 'my data.jsonl' --seed 3") == again
    assert command_without_resume(f"fte train 'my data.jsonl'{more} --seed 3") == again
    assert command_without_resume(f"fte train 'my data.jsonl' --seed 3{more}") == again
    monkeypatch.setenv("UV_RUN_RECURSION_DEPTH", "1")
    assert resume_command(f"{again}{more}") == f"uv run {again} --resume_from_checkpoint latest"
