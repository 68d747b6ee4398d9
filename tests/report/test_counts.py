"""Specification of printed counts: one thing is named in the singular."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import finetuning_exam
from finetuning_exam.cli.run_summary import epochs_words
from finetuning_exam.report.text import counted, pieces_words

ROOT = Path(finetuning_exam.__file__).parent
SOURCES = sorted([*(ROOT / "cli").glob("*.py"), *(ROOT / "report").glob("*.py")])
COUNT = re.compile(r"\{[^{}]+\} (?:more )?([a-z]+s)\b(?!/s)")
NO_COUNTS = {"is", "was", "gives", "shows", "loss"}
ALWAYS_SEVERAL = {
    "parameters": "an adapter and a base have many",
    "nats": "a unit",
    "times": "a factor, or printed for more than one",
    "adapters": "a cross-validation has at least two folds",
    "folds": "a cross-validation has at least two",
    "trainings": "printed for more than one",
    "skills": "printed for more than one",
    "examples": "more than the pieces of evidence, or than the sampled ones, so at least two",
}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_count_is_followed_by_a_bare_plural(path: Path) -> None:
    """What may be one is printed by `counted`, so there is no "1 steps"."""
    found = COUNT.findall(path.read_text(encoding="utf-8"))
    assert set(found) - NO_COUNTS - ALWAYS_SEVERAL.keys() == set()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (counted(1, "step"), "1 step"),
        (counted(0, "step"), "0 steps"),
        (counted(2000, "row"), "2,000 rows"),
        (pieces_words(1, 1), "1 example, 1 piece of evidence"),
        (epochs_words(1.0), "1 epoch"),
        (epochs_words(1.0004), "1 epoch"),
        (epochs_words(0.5), "0.5 epochs"),
        (epochs_words(15), "15 epochs"),
    ],
)
def test_one_is_singular(text: str, expected: str) -> None:
    """One thing, and only one, has no s."""
    assert text == expected
