"""The two built-in samples of general text: large, mixed, and strangers to all other texts."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from finetuning_exam.data.reading.read import read_sound_records
from finetuning_exam.evaluation.general import read_general_text, read_validation_text
from finetuning_exam.settings import FieldSettings

ROOT = Path(__file__).parents[2]
SAMPLES = {"exam": read_general_text(None), "validation": read_validation_text()}
KINDS = ("narrative", "news", "encyclopaedic", "dialogue", "code", "everyday")
"""Kinds of text in the order in which both samples repeat them."""
TYPOGRAPHY = set("—«»¿¡")
OF_THE_EXAMPLE_DATA = re.compile(r"\b(shell|bash|git|docker|kubectl|kubernetes)\b", re.IGNORECASE)


@pytest.fixture(params=SAMPLES)
def sample(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """One of the two samples."""
    return SAMPLES[request.param]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _sequences(text: str, length: int = 8) -> set[tuple[str, ...]]:
    words = _words(text)
    return {tuple(words[at : at + length]) for at in range(len(words) - length + 1)}


def _of_kind(sample: tuple[str, ...], kind: str) -> tuple[str, ...]:
    return sample[KINDS.index(kind) :: len(KINDS)]


def test_a_sample_has_enough_paragraphs(sample: tuple[str, ...]) -> None:
    """A sample has at least 104 paragraphs, as many of each kind, none of them twice."""
    assert len(set(sample)) == len(sample) >= 104
    assert {len(_of_kind(sample, kind)) for kind in KINDS} == {len(sample) // len(KINDS)}


def test_lengths_vary(sample: tuple[str, ...]) -> None:
    """A paragraph has 25 to 110 words, and a sample has both short and long ones."""
    lengths = sorted(len(part.split()) for part in sample)
    assert lengths[0] >= 25
    assert lengths[-1] <= 110
    assert lengths[5] <= 35
    assert lengths[-6] >= 85


def test_no_two_paragraphs_are_alike() -> None:
    """No eight words in a row occur in two paragraphs, be they of one sample or of both."""
    counted = Counter(
        sequence for sample in SAMPLES.values() for part in sample for sequence in _sequences(part)
    )
    assert [sequence for sequence, count in counted.items() if count > 1] == []


def test_paragraphs_open_differently() -> None:
    """The first three words of a paragraph, of either sample, open no other one."""
    openings = Counter(tuple(_words(part)[:3]) for sample in SAMPLES.values() for part in sample)
    assert [opening for opening, count in openings.items() if count > 1] == []


@pytest.mark.parametrize("name", ["train.jsonl", "exam.jsonl"])
def test_the_example_data_shares_nothing_with_a_sample(sample: tuple[str, ...], name: str) -> None:
    """No eight words in a row are in the example data, and none of its tools is named."""
    examples = read_sound_records([str(ROOT / name)], FieldSettings()).examples
    taught = set[tuple[str, ...]]().union(
        *(_sequences(f"{it.instruction} {it.answer}") for it in examples)
    )
    for part in sample:
        assert taught.isdisjoint(_sequences(part))
        assert not OF_THE_EXAMPLE_DATA.search(part)


def test_characters_are_those_of_ordinary_text(sample: tuple[str, ...]) -> None:
    """Characters are ASCII, letters of European languages or their quotation marks. Outside code,
    nearly all are letters and spaces.
    """
    for index, part in enumerate(sample):
        odd = {it for it in part if not (it.isascii() or it.isalpha() or it in TYPOGRAPHY)}
        assert not odd, part
        assert all(it == "\n" or it.isprintable() for it in part), part
        if index % len(KINDS) != KINDS.index("code"):
            assert sum(it.isalpha() or it.isspace() for it in part) > 0.85 * len(part), part


def test_code_is_whole_and_indented(sample: tuple[str, ...]) -> None:
    """Every sixth paragraph is code of several lines. Its Python compiles, so no blank line has
    cut a piece in two, and the indentation is that of the file.
    """
    code = _of_kind(sample, "code")
    assert all(part.count("\n") >= 3 for part in code)
    python = [part for part in code if re.match(r"(def|class|import|from|@)\b|@", part)]
    assert len(python) >= 6
    for part in python:
        compile(part, "sample", "exec")
    assert sum("\n  " in part for part in code) >= len(code) - 2
    others = [part for kind in KINDS if kind != "code" for part in _of_kind(sample, kind)]
    assert not any("\n " in part for part in others)


def test_dialogue_has_speakers(sample: tuple[str, ...]) -> None:
    """A dialogue has quotation marks, dashes, or a name and a colon before every line."""
    for part in _of_kind(sample, "dialogue"):
        lines = part.splitlines()
        spoken = part.count('"') >= 4 or part.count("»") >= 4
        named = all(re.match(r"\w+( \w+)?: |— ", line) for line in lines)
        assert spoken or (named and len(lines) >= 4), part


@pytest.mark.parametrize(
    "marks",
    [
        r"\b(und|nicht|der|das|ein|auf|wird|sie|bis|ich|im)\b",
        r"\b(les|une|dans|est|des|pour|vous|et|d|l)\b",
        r"\b(los|las|una|por|el|del|y)\b",
    ],
)
def test_a_few_paragraphs_are_in_other_languages(sample: tuple[str, ...], marks: str) -> None:
    """Two or three paragraphs each are German, French and Spanish; most are English."""
    found = [part for part in sample if len(re.findall(marks, part, re.IGNORECASE)) >= 4]
    assert 2 <= len(found) <= 3
    english = [part for part in sample if len(re.findall(r"\b(the|a|of|to|is)\b", part)) >= 2]
    assert len(english) > 0.75 * len(sample)
