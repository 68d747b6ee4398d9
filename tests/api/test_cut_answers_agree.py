"""Specification: `check` and `train` report answers cut off at a number of tokens alike."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from encoders import NO_END
from tiny import CHAT_TEMPLATE, LEAN_SETTINGS, Models

from finetuning_exam import CheckSettings, TrainSettings, check, train
from finetuning_exam.api.events import DataRead, Event, RunPrepared
from finetuning_exam.data.findings import Finding
from finetuning_exam.data.kinds import Kind
from finetuning_exam.model.folder import find_model_folder
from finetuning_exam.model.tokenizer import load_tokenizer

WORDS = [
    "river",
    "ox",
    "the",
    "internationally",
    "candle",
    "by",
    "morning",
    "island",
    "a",
    "xylophone",
]


def _texts(n: int, seed: int) -> list[str]:
    """Return `n` different texts of one to four sentences."""
    draw = random.Random(seed)
    return [
        " ".join(
            f"{' '.join(draw.choices(WORDS, k=draw.randint(4, 9))).capitalize()}."
            for _ in range(draw.randint(1, 4))
        )
        for _ in range(n)
    ]


def _write(path: Path, answers: Sequence[str], question: str = "Question") -> str:
    rows = [{"instruction": f"{question} {n}?", "output": it} for n, it in enumerate(answers)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return str(path)


def _model(models: Models, folder: Path, template: str | None) -> str:
    model = Path(shutil.copytree(models.folder(), folder / "model"))
    if template is not None:
        (model / "chat_template.jinja").write_text(template, encoding="utf-8")
    return str(model)


def _cut(model: str, n_tokens: int, texts: Sequence[str]) -> list[str]:
    """Return texts as a model writes them that may write so many tokens."""
    tokenizer = load_tokenizer(find_model_folder(model))
    ids = [tokenizer.encode(text, add_special_tokens=False)[:n_tokens] for text in texts]
    return [tokenizer.decode(it) for it in ids]


def _found(findings: Sequence[Finding]) -> list[str]:
    return sorted(str(it) for it in findings if it.kind is Kind.CUT_ANSWERS)


def _both(
    folder: Path, model: str, data: str, exam: str | None = None, max_length: int = 1000
) -> tuple[list[str], list[str]]:
    """Return the findings of cut answers, by `check` and by `train`."""
    asked = CheckSettings(
        data=(data,), eval_file=exam, model_name_or_path=model, max_length=max_length
    )
    run = TrainSettings(
        data=(data,),
        eval_file=exam,
        model_name_or_path=model,
        max_length=max_length,
        output_dir=str(folder / "run"),
        max_steps=1,
        device="cpu",
        lora_r=2,
        answered_examples=0,
        **LEAN_SETTINGS,
    )
    events: list[Event] = []
    train(run, on_event=events.append)
    seen: list[Finding] = []
    for event in events:
        if isinstance(event, DataRead):
            seen += event.check.findings
        if isinstance(event, RunPrepared):
            seen += event.prepared.rows.findings
    return _found(check(asked).findings), _found(seen)


@pytest.mark.parametrize(
    "template", [None, CHAT_TEMPLATE, NO_END], ids=["plain", "chat", "ends with text"]
)
def test_answers_cut_in_the_training_file(
    models: Models, tmp_path: Path, template: str | None
) -> None:
    """Both name the number of tokens and all answers, whichever part of the split they are in."""
    model = _model(models, tmp_path, template)
    data = _write(tmp_path / "d.jsonl", _cut(model, 90, _texts(60, 0)))
    checked, trained = _both(tmp_path, model, data)
    assert checked == trained
    (finding,) = checked
    assert " of 60 answers stop in mid-sentence at 90 tokens; also in lines " in finding


def test_answers_cut_in_the_exam_file(models: Models, tmp_path: Path) -> None:
    """The answers of the exam file are looked at, too; those left out of the exam are not."""
    model = _model(models, tmp_path, None)
    data = _write(tmp_path / "d.jsonl", _texts(30, 0))
    exam = _write(tmp_path / "e.jsonl", _cut(model, 90, _texts(50, 1)), "Exam question")
    with Path(exam).open("a", encoding="utf-8") as file:
        file.write('{"instruction": "Question 1?", "output": "It is taught."}\n')
    checked, trained = _both(tmp_path, model, data, exam)
    assert checked == trained
    (finding,) = checked
    assert finding.startswith(f"{exam}:")
    assert " of 50 answers stop in mid-sentence at 90 tokens" in finding


def test_rows_that_are_left_out_are_not_counted(models: Models, tmp_path: Path) -> None:
    """Rows over `--max_length` are left out of the count by both."""
    model = _model(models, tmp_path, None)
    answers = [*_cut(model, 90, _texts(60, 0)), *(" ".join(_texts(9, n)) for n in range(5))]
    data = _write(tmp_path / "d.jsonl", answers)
    checked, trained = _both(tmp_path, model, data, max_length=200)
    assert checked == trained
    (finding,) = checked
    assert " of 60 answers stop in mid-sentence at 90 tokens" in finding


def test_another_unit_is_named_instead(models: Models, tmp_path: Path) -> None:
    """Answers cut at a number of characters are reported once, by both, and not in tokens."""
    model = _model(models, tmp_path, None)
    data = _write(tmp_path / "d.jsonl", [it[:100] for it in _texts(60, 0)])
    checked, trained = _both(tmp_path, model, data)
    assert checked == trained
    (finding,) = checked
    assert " answers stop in mid-sentence at 100 characters" in finding
