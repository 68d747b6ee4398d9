"""Asking skills: fair to both sides, the same ids as in the exam, and nothing half asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import END, Models, brisk, rows

from finetuning_exam.data.records import Example
from finetuning_exam.data.split import Split
from finetuning_exam.evaluation.ask_skills import ask_skills, skill_findings
from finetuning_exam.evaluation.choices import PREMISE, Ballot, Choice
from finetuning_exam.evaluation.skills import (
    SkillAnswer,
    SkillItem,
    read_skills,
    report_skills,
)
from finetuning_exam.model.session import Session
from finetuning_exam.training.prepare import prepare

CONTEXT = 1024


def _session(folder: Path, *, noise: float = 0.0) -> Session:
    """Return a session whose adapter does nothing, or is noise."""
    session = prepare(brisk(folder), Split(rows(4), (), ())).session
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in session.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=noise)
    return session


def _items() -> tuple[SkillItem, ...]:
    """Return three questions with two, three and eight choices."""
    return (
        SkillItem("two", "Which color is snow?", ("white", "green"), 0, 1, "own.jsonl"),
        SkillItem("three", "What do cows drink?", ("sand", "paint", "water"), 2, 2, "own.jsonl"),
        SkillItem("eight", "What is 3 + 3?", tuple("12345678"), 5, 3, "own.jsonl"),
    )


def _right_by_hand(session: Session, item: SkillItem) -> bool:
    """Score every choice alone, from the definition: nats per token against those unasked."""

    def nll(question: str, answer: str) -> float:
        row = session.encode(Example(question, answer, 0, ""))
        with torch.no_grad():
            return float(session.fast.row_nll([row])[0]) / row.n_supervised

    gains = [nll(item.question, it) - nll(PREMISE, it) for it in item.choices]
    return min(range(len(gains)), key=gains.__getitem__) == item.answer


@pytest.mark.parametrize("text", ["plain", "chat"])
def test_the_preferred_choice_is_the_one_the_question_makes_likelier(
    models: Models, text: str
) -> None:
    """Questions with any number of choices are answered as their choices are scored alone, with
    the run's template, by base and by tuned.
    """
    session = _session(models.folder(text=text), noise=0.2)
    items = (*_items(), *read_skills(None)[::40])
    session.model.eval()
    tuned = [_right_by_hand(session, item) for item in items]
    with session.model.disable_adapter():
        base = [_right_by_hand(session, item) for item in items]
    assert base != tuned
    expected = tuple(map(SkillAnswer, items, base, tuned))
    assert ask_skills(session, items, 8, CONTEXT) == expected
    assert ask_skills(session, items, 3, CONTEXT) == expected


@pytest.mark.parametrize("seed", [0, 1])
def test_a_random_base_is_at_chance(models: Models, seed: int) -> None:
    """A model that knows nothing answers about a quarter of the built-in questions, of which all
    are asked; an adapter with B = 0 gains and loses none.
    """
    answers = ask_skills(_session(models.folder(seed=seed)), read_skills(None), 64, CONTEXT)
    assert all(it.base_right == it.tuned_right for it in answers)
    report = report_skills(answers)
    assert [it.n_items for it in report.skills] == [25] * 8
    assert {it.status for it in report.skills} <= {"not measurable", "no measurable change"}
    assert report.overall is not None
    assert 0.16 <= report.overall.base <= 0.35


def test_a_question_that_does_not_fit_is_not_asked(models: Models) -> None:
    """If one choice exceeds the context the question is left out, and the others are asked."""
    session = _session(models.folder())
    long = replace(_items()[0], choices=("white", "green " * 40), line=9)
    found = ask_skills(session, [*_items(), long], 8, 64)
    assert [it.item for it in found] == list(_items())
    assert ask_skills(session, _items(), 8, 2) == ()


def test_a_special_token_is_not_obeyed(models: Models) -> None:
    """Under a chat template a question with a special token is found, and is not asked; as plain
    text it is.
    """
    unsafe = replace(_items()[0], choices=("white", f"green{END}"), line=4)
    chat, plain = _session(models.folder(text="chat")), _session(models.folder())
    assert [it.item.line for it in ask_skills(chat, [unsafe, *_items()], 8, CONTEXT)] == [1, 2, 3]
    (finding,) = skill_findings(chat.encoder, [unsafe, *_items()])
    assert (finding.where, finding.kind.severity) == ("own.jsonl:4", "error")
    assert len(ask_skills(plain, [unsafe, *_items()], 8, CONTEXT)) == 4


def test_a_tie_is_wrong(models: Models) -> None:
    """Two equal options answer nothing, so a model without any preference gets no credit."""
    session = _session(models.folder())
    option = Example("Which color is snow?", "white", 1, "own.jsonl")
    tie = Choice(0, (option, option))
    ballot = Ballot.of(session.encoder, [tie], CONTEXT)
    assert ballot.preferred(session.score_options(ballot.rows, 8)[0]) == (1,)
