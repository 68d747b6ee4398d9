"""Folds have steps of their own, and conversations with tools are cross-validated too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import LEAN, Models, rows, write_rows

from finetuning_exam.cli import main


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in an empty folder."""
    monkeypatch.chdir(tmp_path)
    text = "\n\n".join(f"Some words about {it}." for it in "abcdefgh")
    Path("general.txt").write_text(text, encoding="utf-8")


def _train(models: Models, *flags: str) -> int:
    quick = ["--device", "cpu", "--answered_examples", "6", "--max_new_tokens", "4", *LEAN]
    files = ["--model", str(models.folder(text="chat")), "--general_file", "general.txt"]
    return main(["train", "d.jsonl", *files, *quick, "--folds", "2", *flags])


def _json(path: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return content


def test_a_fold_has_as_many_steps_as_its_rows_take(models: Models) -> None:
    """Half of the rows take half of the steps; the last training has all."""
    write_rows(Path("d.jsonl"), (*rows(12, "a"), *rows(24, "b")[12:]))
    assert _train(models, "--num_train_epochs", "1", "--per_device_train_batch_size", "4") == 0
    steps = [_json(f"output/{it}run.json")["plan"]["total_steps"] for it in ("fold-1/", "")]
    assert steps == [3, 6]


def test_conversations_with_tools_are_cross_validated(
    models: Models, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each answer is asked once, and folds that are done are read back."""
    lines = []
    trees = "alder birch cedar dogwood elder fir gum hazel iris jasmine"
    for number, word in enumerate(trees.split()):
        call = {"role": "function_call", "content": {"name": "find", "arguments": {"of": word}}}
        answer = {"role": "assistant", "content": f"{number} {word}."}
        turns = [{"role": "user", "content": f"Where is the {word}?"}, call]
        turns += [{"role": "tool", "content": f"Behind {word}."}, answer]
        lines.append(json.dumps({"messages": turns, "tools": [{"name": "find"}]}) + "\n")
    Path("d.jsonl").write_text("".join(lines), encoding="utf-8")
    assert _train(models, "--max_steps", "1") == 0
    exam = _json("output/exam.json")
    assert (exam["n_examples"], len(exam["examples"])) == (20, 20)
    assert exam["calls"]["n_calls"] + exam["calls"]["n_others"] <= 12
    Path("output/exam.json").unlink()
    before = Path("output/fold-1/run.json").stat().st_mtime_ns
    capsys.readouterr()
    assert _train(models, "--max_steps", "1", "--resume_from_checkpoint", "latest") == 0
    assert Path("output/fold-1/run.json").stat().st_mtime_ns == before
