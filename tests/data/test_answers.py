"""Specification of the faults that only all answers of a file show."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from finetuning_exam import CheckSettings, check
from finetuning_exam.data.answers import cut_answers, length_units, repeated_answer
from finetuning_exam.data.check import check_records
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.read import Records
from finetuning_exam.data.records import Example
from finetuning_exam.model.folder import find_model_folder
from finetuning_exam.model.tokenizer import load_tokenizer

WORDS = ["river", "stone", "garden", "winter", "candle", "letter", "morning", "island", "forest"]


def _texts(n: int, seed: int = 0) -> list[str]:
    """Return `n` different texts of one to five sentences."""
    draw = random.Random(seed)
    return [
        " ".join(
            f"{' '.join(draw.choices(WORDS, k=draw.randint(6, 16))).capitalize()}."
            for _ in range(draw.randint(1, 5))
        )
        for _ in range(n)
    ]


def _rows(answers: Sequence[str], path: str = "t") -> tuple[Example, ...]:
    return tuple(
        Example(f"Question {number}?", answer, number, path)
        for number, answer in enumerate(answers, 1)
    )


def _cut(answers: Sequence[str]) -> list[str]:
    return [str(it) for it in cut_answers(_rows(answers), length_units())]


CUTS: dict[str, Callable[[str], str]] = {
    "120 characters": lambda text: text[:120],
    "120 bytes": lambda text: text.replace("e", "é").encode()[:120].decode(errors="ignore"),
    "20 words": lambda text: " ".join(text.split()[:20]),
}


@pytest.mark.parametrize("length", CUTS)
def test_answers_cut_at_one_length_are_one_finding(length: str) -> None:
    """Answers that stop in mid-sentence at one length are one finding, with the length."""
    answers = [CUTS[length](text) for text in _texts(60)]
    (finding,) = _cut(answers)
    assert f" of 60 answers stop in mid-sentence at {length}; also in lines " in finding


def test_the_finding_counts_and_names_the_first() -> None:
    """The first such answer is the place, five more are named, and the rest are counted."""
    answers = ["It is so."] * 40
    for number, text in enumerate(_texts(12)):
        answers[3 * number] = text[:44]
    assert _cut(answers) == [
        "t:1: 12 of 40 answers stop in mid-sentence at 44 characters; "
        "also in lines 4, 7, 10, 13, 16 and 6 more."
    ]


def test_a_file_in_which_every_answer_is_cut_is_found() -> None:
    """No whole answer is needed to see that all of them stop at one length."""
    assert len(_cut([text[:50] for text in _texts(12) if text[:50][-1] != "."])) == 1


def test_each_file_has_its_own_finding() -> None:
    """Two files that are cut at different lengths are two findings."""
    rows = (
        *_rows([text[:90] for text in _texts(40, 1)], "a"),
        *_rows([text[:140] for text in _texts(40, 2)], "b"),
    )
    found = cut_answers(rows, length_units())
    assert [(it.path, it.kind) for it in found] == [
        ("a", Kind.CUT_ANSWERS),
        ("b", Kind.CUT_ANSWERS),
    ]


SOUND = {
    "whole sentences": _texts(200),
    "no final marks at all": [text.rstrip(".") for text in _texts(200)],
    "a pattern of one length": [
        f"The capital of country {n} has the number {n} in our list" for n in range(100, 160)
    ],
    "labels": ["positive", "negative", "neutral"] * 30,
    "codes": [f"{random.Random(n).getrandbits(256):064x}" for n in range(60)],
    "commands": [
        f"tool --name {word} --size {n} --all yes" for word in WORDS for n in range(10, 20)
    ],
    "four of one length": [*_texts(60), *(text[:55] for text in _texts(4, 9))],
}


@pytest.mark.parametrize("answers", SOUND.values(), ids=SOUND)
def test_answers_that_end_by_themselves_are_no_finding(answers: Sequence[str]) -> None:
    """Whole answers, patterns, labels and codes are not taken for answers that were cut."""
    assert _cut(answers) == []


def test_plain_texts_are_no_answers() -> None:
    """Pieces of plain text are cut by design."""
    rows = [Example("", text[:100], n, "t") for n, text in enumerate(_texts(40), 1)]
    assert cut_answers(rows, length_units()) == ()
    assert list(repeated_answer([Example("", "same", n, "t") for n in range(9)])) == []


# One answer for many questions


def _repeated(answers: Sequence[str]) -> list[str]:
    return [str(it) for it in repeated_answer(_rows(answers))]


def test_one_answer_for_many_questions_is_found() -> None:
    """An answer in more than a fifth of the rows, among answers of their own, is a finding."""
    answers = [*_texts(30), *["I cannot help with that."] * 8]
    assert _repeated(answers) == [
        "t:31: 8 of 38 rows have the answer 'I cannot help with that.', and most others have one "
        "of their own."
    ]


@pytest.mark.parametrize(
    "answers",
    [
        [*_texts(33), *["I cannot help with that."] * 8],
        [*_texts(8), *["No."] * 4],
        ["yes"] * 30 + ["no"] * 20,
        ["spam"] * 40 + ["ham"] * 3 + ["unsure"],
        [f"class {n % 25}" for n in range(100)] + ["class 3"] * 60,
        ["the same"] * 40,
    ],
    ids=["a fifth", "four", "two labels", "rare labels", "many labels", "all the same"],
)
def test_labels_and_rare_repetitions_are_no_finding(answers: Sequence[str]) -> None:
    """Labels repeat, and so may a few answers."""
    assert _repeated(answers) == []


def test_an_answer_is_reported_once() -> None:
    """Where one answer dominates, that finding says it already."""
    rows = _rows([*_texts(6), *["No idea."] * 94])
    kinds = [it.kind for it in check_records(Records((), rows, ()), None).findings]
    assert Kind.UNBALANCED in kinds
    assert Kind.REPEATED_ANSWER not in kinds


def test_answers_cut_at_a_number_of_tokens_are_found(tmp_path: Path) -> None:
    """Answers that a model stopped at its limit of tokens have no other length in common."""
    tokenizer = load_tokenizer(find_model_folder("builtin"))
    ids = [tokenizer.encode(text, add_special_tokens=False)[:40] for text in _texts(60)]
    path = tmp_path / "d.jsonl"
    rows = [
        {"instruction": f"Question {n}?", "output": tokenizer.decode(row)}
        for n, row in enumerate(ids)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    found = check(CheckSettings(data=(str(path),))).findings
    (cut,) = [it.detail for it in found if it.kind is Kind.CUT_ANSWERS]
    assert " of 60 answers stop in mid-sentence at 40 tokens; also in lines " in cut
