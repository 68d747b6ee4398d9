"""What is trained is what is used later: in resume, exam, compare and other tools."""

from __future__ import annotations

import json
import shutil
from datetime import datetime
from pathlib import Path

import pytest
from tiny import LEAN_SETTINGS, Models, rows, write_rows
from transformers import AutoTokenizer

from finetuning_exam.api.train import train
from finetuning_exam.model.session import Session
from finetuning_exam.settings import Template, TrainSettings

DATED = (
    "{{ '<|im_start|>system\nToday is ' + strftime_now('%d %B %Y') + '<|im_end|>\n' }}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
FIRST_DAY, NEXT_DAY = datetime(2026, 12, 31, 23, 59, 50), datetime(2027, 1, 1, 0, 0, 10)


@pytest.fixture
def base(models: Models, tmp_path: Path) -> Path:
    """A copy of the small chat model, whose template may be changed."""
    return Path(shutil.copytree(models.folder(text="chat"), tmp_path / "base"))


def _settings(base: Path, folder: Path, **others: object) -> TrainSettings:
    data = folder / "train.jsonl"
    if not data.exists():
        write_rows(data, rows(40))
    return TrainSettings(
        data=(str(data),),
        model_name_or_path=str(base),
        output_dir=str(folder / "run"),
        device="cpu",
        max_steps=4,
        save_steps=2,
        lora_r=4,
        answered_examples=2,
        max_new_tokens=4,
        **{**LEAN_SETTINGS, **others},
    )


def _set_template(base: Path, template: str | None) -> None:
    for name in ("chat_template.jinja", "chat_template.json"):
        (base / name).unlink(missing_ok=True)
    path = base / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config.pop("chat_template", None)
    path.write_text(json.dumps(config), encoding="utf-8")
    if template is not None:
        (base / "chat_template.jinja").write_text(template, encoding="utf-8")


def _served(run: Path, question: str) -> tuple[int, ...]:
    """Return the ids that another tool sends, which only knows the run's folder."""
    tokenizer = AutoTokenizer.from_pretrained(run)
    messages = [{"role": "user", "content": question}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    return tuple(ids)


def test_a_run_that_is_resumed_on_another_day_keeps_its_date(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A template that writes the date gives one adapter whenever the run goes on, and its exam and
    its session ask with the date of its start.
    """
    _set_template(base, DATED)
    clock = "finetuning_exam.training.prepare.now"
    monkeypatch.setattr(clock, lambda: FIRST_DAY)
    settings = _settings(base, tmp_path)
    train(settings)
    run = tmp_path / "run"
    whole = (run / "adapter_model.safetensors").read_bytes()
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert record["template_date"] == FIRST_DAY.isoformat()
    shutil.rmtree(run / "checkpoint-4")
    (run / "adapter_model.safetensors").unlink()
    monkeypatch.setattr(clock, lambda: NEXT_DAY)
    train(_settings(base, tmp_path, resume_from_checkpoint="latest"))
    assert (run / "adapter_model.safetensors").read_bytes() == whole
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert record["template_date"] == FIRST_DAY.isoformat()
    session = Session.load(run, device="cpu")
    (prompt,) = session.prompts(["What day is it?"], 4)
    assert "31 December 2026" in session.base.tokenizer.decode(prompt.ids)


@pytest.mark.parametrize("template", ["plain", "chat"])
def test_the_saved_tokenizer_asks_as_training_did(
    base: Path, tmp_path: Path, template: Template
) -> None:
    """A tool that trusts the tokenizer in a run's folder sends the prompt of the session."""
    train(_settings(base, tmp_path, template=template))
    session = Session.load(tmp_path / "run", device="cpu")
    (prompt,) = session.prompts(["What does ls do?"], 4)
    assert _served(tmp_path / "run", "What does ls do?") == prompt.ids


@pytest.mark.parametrize(
    "named",
    [{"default": DATED, "tool_use": "{{ tools }}"}, {"chat": DATED}],
    ids=["a default", "a single one"],
)
def test_named_templates_are_trained_and_saved(
    base: Path, tmp_path: Path, named: dict[str, str]
) -> None:
    """Of several chat templates the default one is used and saved; a single one needs no name."""
    _set_template(base, None)
    path = base / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["chat_template"] = [{"name": it, "template": text} for it, text in named.items()]
    path.write_text(json.dumps(config), encoding="utf-8")
    train(_settings(base, tmp_path))
    assert (tmp_path / "run" / "chat_template.jinja").read_text(encoding="utf-8") == DATED
    assert _served(tmp_path / "run", "Hi")


def test_a_template_in_a_processor_file_is_used(base: Path, tmp_path: Path) -> None:
    """Some folders keep the chat template in chat_template.json."""
    _set_template(base, None)
    text = json.dumps({"chat_template": DATED})
    (base / "chat_template.json").write_text(text, encoding="utf-8")
    train(_settings(base, tmp_path))
    assert (tmp_path / "run" / "chat_template.jinja").read_text(encoding="utf-8") == DATED
