"""A run that folds system texts does so in training, exam, compare and the saved template."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import CHAT_TEMPLATE, LEAN_SETTINGS, Models
from transformers import AutoTokenizer

from finetuning_exam import CompareSettings, ExamSettings, TrainSettings, compare, exam, train
from finetuning_exam.api.load_adapter import load_session
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.errors import DataError, UsageError

NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
SYSTEM = Turn("system", "Be brief.")
ASKED = Example("What is it?", "", 1, "d.jsonl", earlier=(SYSTEM,))
BY_HAND = Example("Be brief.\n\nWhat is it?", "", 1, "d.jsonl")


def _write(name: str, rows: list[dict[str, str]]) -> None:
    Path(name).write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


@pytest.fixture
def settings(models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainSettings:
    """A short run on records with a system text, whose template refuses system turns."""
    monkeypatch.chdir(tmp_path)
    model = Path(shutil.copytree(models.folder(text="chat"), "model"))
    (model / "chat_template.jinja").write_text(NO_SYSTEM + CHAT_TEMPLATE, encoding="utf-8")
    rows = [
        {"system": "Be brief.", "instruction": f"What is {it}?", "output": f"It is {it}."}
        for it in range(30)
    ]
    _write("train.jsonl", rows)
    others = [{**it, "instruction": f"Who {it['instruction'][5:]}"} for it in rows[:4]]
    _write("other.jsonl", others)
    return TrainSettings(
        data=("train.jsonl",),
        model_name_or_path="model",
        system_turns="fold",
        output_dir="run",
        device="cpu",
        max_steps=2,
        lora_r=2,
        answered_examples=2,
        max_new_tokens=4,
        **LEAN_SETTINGS,
    )


def test_a_folded_run_is_folded_everywhere(settings: TrainSettings) -> None:
    """run.json records it; exam and compare follow it, and so does the saved tokenizer."""
    train(settings)
    record = json.loads(Path("run/run.json").read_text(encoding="utf-8"))
    assert record["settings"]["system_turns"] == "fold"
    options = CompareSettings(adapter_name_or_path="run", device="cpu", max_new_tokens=4)
    session = load_session(options)
    prompts = session.prompts([ASKED, BY_HAND], 4)
    assert prompts[0] == prompts[1]
    server = AutoTokenizer.from_pretrained("run")
    messages = [
        {"role": "system", "content": SYSTEM.text},
        {"role": "user", "content": ASKED.instruction},
    ]
    ids = server.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert tuple(ids) == prompts[0].ids
    asked = ExamSettings(
        data="other.jsonl",
        adapter_name_or_path="run",
        device="cpu",
        answered_examples=2,
        max_new_tokens=4,
        skills="none",
    )
    assert exam(asked).overall.n_examples == 4
    with pytest.raises(DataError, match=r"(?s)rejects system turns.*--system_turns fold"):
        exam(replace(asked, system_turns="keep"))
    assert len(compare(replace(options, prompts="other.jsonl"))) == 4


def test_a_run_is_resumed_with_its_own_form(settings: TrainSettings) -> None:
    """Another form is another run."""
    train(settings)
    other = replace(settings, system_turns="keep", resume_from_checkpoint="latest")
    with pytest.raises((UsageError, DataError)) as caught:
        train(other)
    assert "system_turns" in str(caught.value)
