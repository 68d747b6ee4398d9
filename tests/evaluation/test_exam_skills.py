"""Skills and divergence in an exam: asked of both models, by the settings, into every output."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import CONTEXT, Models, brisk, rows

from finetuning_exam.api.exam import exam as examine
from finetuning_exam.api.train import train
from finetuning_exam.data.encoding.rows import encode_all
from finetuning_exam.data.split import Split
from finetuning_exam.errors import DataError, UsageError
from finetuning_exam.evaluation.exam import Exam, Stage, take_exam
from finetuning_exam.evaluation.exam_file import read_exam_file
from finetuning_exam.evaluation.exam_plan import ExamPlan
from finetuning_exam.evaluation.skills import chosen_skills, read_skills
from finetuning_exam.model.divergence import compare_texts
from finetuning_exam.settings import ExamSettings
from finetuning_exam.training.prepare import Prepared, prepare

OWN = [
    {
        "skill": "colors",
        "question": "Which color is snow?",
        "choices": ["white", "red"],
        "answer": 0,
    },
    {
        "skill": "colors",
        "question": "Which color is grass?",
        "choices": ["blue", "green"],
        "answer": 1,
    },
    {"skill": "numbers", "question": "What is 2 + 2?", "choices": ["3", "4", "5"], "answer": 1},
]
PLAN = ExamPlan(0, 8, 4, 4, CONTEXT, general=tuple(f"A cat eats fish {n} times." for n in range(9)))


def _written(folder: Path, records: Sequence[object] = OWN) -> str:
    path = folder / "skills.jsonl"
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return str(path)


def _prepared(models: Models, architecture: str = "llama", *, noise: float = 0.0) -> Prepared:
    prepared = prepare(brisk(models.folder(architecture)), Split(rows(4), (), ()))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in prepared.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=noise)
    return prepared


def _take(prepared: Prepared, plan: ExamPlan, stages: list[Stage] | None = None) -> Exam:
    encoded = encode_all(prepared.rows.encoder, rows(8), CONTEXT)
    seen: list[Stage] = [] if stages is None else stages
    return take_exam(prepared.session, encoded, plan, seen.append)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_an_exam_asks_skills_of_both_models(models: Models, architecture: str) -> None:
    """With questions an exam reports each skill; an adapter of noise differs from its base, by the
    mean divergence over all tokens of the general text.
    """
    prepared = _prepared(models, architecture, noise=0.3)
    stages: list[Stage] = []
    found = _take(prepared, replace(PLAN, skills=read_skills(None)[::5]), stages)
    assert stages == ["scoring", "answering", "choosing", "general text", "skills"]
    assert found.skills is not None
    assert [it.n_items for it in found.skills.skills] == [5] * 8
    assert found.skills.overall is not None
    assert found.skills.overall.n_gained + found.skills.overall.n_lost > 0
    texts = [prepared.rows.encoder.encode_text(it) for it in PLAN.general]
    kl = sum(it.kl for it in compare_texts(prepared.fast, texts, 8))
    n_tokens = sum(row.n_supervised for row in texts)
    assert found.divergence is not None
    assert found.divergence.n_tokens == n_tokens
    assert found.divergence.kl_per_token == pytest.approx(kl / n_tokens)
    assert 0 < found.divergence.interval.low < found.divergence.kl_per_token


def test_nothing_changes_with_an_adapter_that_does_nothing(models: Models) -> None:
    """With B = 0 no answer changes, no skill is worse, and the divergence is zero."""
    found = _take(_prepared(models), replace(PLAN, skills=read_skills(None)[::5]))
    assert found.skills is not None
    for it in found.skills.skills:
        assert (it.base, it.n_gained, it.n_lost) == (it.tuned, 0, 0)
        assert it.status == "not measurable"
    assert found.divergence is not None
    assert found.divergence.kl_per_token == 0.0
    assert (found.divergence.interval.low, found.divergence.interval.high) == (0.0, 0.0)


def test_without_questions_there_are_no_skills(models: Models) -> None:
    """A plan without questions asks none."""
    assert _take(_prepared(models), PLAN).skills is None


def test_the_setting_chooses_the_questions(tmp_path: Path) -> None:
    """`auto` are the built-in ones, `none` asks none, and anything else is a file."""
    assert chosen_skills("auto") == read_skills(None)
    assert chosen_skills("none") == ()
    assert [it.question for it in chosen_skills(_written(tmp_path))] == [
        str(it["question"]) for it in OWN
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"skill": "a", "question": "b", "choices": ["c", "d"]}', "missing field 'answer'"),
        ('{"skill": "a", "question": "b", "choices": ["c"], "answer": 0}', "1 choices; expected"),
        ("not JSON", "not valid JSON"),
    ],
)
def test_a_bad_file_is_an_error_before_the_work(
    models: Models, tmp_path: Path, content: str, message: str
) -> None:
    """Both commands name the line of a faulty question before a model is loaded."""
    path = tmp_path / "skills.jsonl"
    path.write_text(content, encoding="utf-8")
    data = tmp_path / "data.jsonl"
    data.write_text('{"prompt": "a", "completion": "b"}\n' * 2, encoding="utf-8")
    settings = brisk(models.folder(), data=(str(data),), skills=str(path), output_dir=str(tmp_path))
    for command in (
        lambda: train(settings),
        lambda: examine(ExamSettings(data=str(data), skills=str(path))),
    ):
        with pytest.raises(DataError, match=r"skills\.jsonl:1") as caught:
            command()
        assert message in str(caught.value)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    """A file that is not there is named."""
    with pytest.raises(UsageError, match=r"nowhere\.jsonl"):
        chosen_skills(str(tmp_path / "nowhere.jsonl"))


def test_a_run_and_its_exam_ask_the_same(models: Models, tmp_path: Path) -> None:
    """`train` and `exam` write the same skills and divergence into exam.json; the run's page and
    card show them.
    """
    data = tmp_path / "data.jsonl"
    records = [{"prompt": f"What is {n} + 1?", "completion": f"It is {n + 1}."} for n in range(60)]
    data.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    folder, skills = tmp_path / "out", _written(tmp_path)
    settings = brisk(
        models.folder(),
        data=(str(data),),
        skills=skills,
        answered_examples=0,
        output_dir=str(folder),
    )
    taken = train(settings).exam
    assert taken.skills is not None
    assert [(it.skill, it.n_items) for it in taken.skills.skills] == [("colors", 2), ("numbers", 1)]
    assert {it.status for it in taken.skills.skills} == {"not measurable"}
    written = read_exam_file(folder / "exam.json")
    assert written.skills is not None
    assert written.divergence is not None
    assert written.divergence.kl_per_token is not None
    assert written.divergence.kl_per_token > 0
    for name in ("report.html", "README.md"):
        text = (folder / name).read_text(encoding="utf-8")
        assert "3 multiple-choice questions about 2 skills, none measurable" in text
        assert "KL(base‖tuned)" in text
    again = tmp_path / "again.json"
    new = tmp_path / "new.jsonl"
    new.write_text("\n".join(map(json.dumps, records[:9])), encoding="utf-8")
    examine(
        ExamSettings(
            data=str(new),
            adapter_name_or_path=str(folder),
            skills=skills,
            answered_examples=0,
            device="cpu",
            dtype="float32",
            output_file=str(again),
        )
    )
    found = read_exam_file(again)
    assert found.skills == written.skills
    assert found.divergence is not None
    assert found.divergence.kl_per_token == pytest.approx(written.divergence.kl_per_token, rel=1e-3)
