"""A classification in words and tables: accuracy, what guessing gives, and the confusions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetuning_exam.report.text import on_one_line, p_value, percent

if TYPE_CHECKING:  # this imports torch, which is not needed to show text
    from finetuning_exam.evaluation.labels import LabelAccuracy, Picks

N_CHARACTERS = 20
"""A label is cut to this many characters in tables and sentences."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """A table: for each right label the number of its examples by the label that was picked."""

    labels: tuple[str, ...]
    rows: tuple[tuple[str, tuple[int, ...]], ...]


def short(label: str) -> str:
    """Return a label on one line, cut to `N_CHARACTERS`."""
    text = on_one_line(label)
    return text if len(text) <= N_CHARACTERS else f"{text[: N_CHARACTERS - 1].rstrip()}…"


def short_names(labels: Sequence[str]) -> tuple[str, ...]:
    """Return each label on one line and cut; those that would look the same are numbered."""
    names = [short(label) for label in labels]
    return tuple(
        name if names.count(name) == 1 else f"{name} #{number}"
        for number, name in enumerate(names, 1)
    )


def guesses_words(found: LabelAccuracy) -> str:
    """Say what guessing gives: `always answering "yes" gives 60%, shuffled labels 52%`."""
    commonest, *_ = short_names(found.labels)
    return (
        f"always answering {_quoted(commonest)} gives {percent(found.majority, 0)}, "
        f"shuffled labels {percent(found.shuffled, 0)}"
    )


def accuracy_words(found: LabelAccuracy) -> str:
    """Say how often both models pick the right label, and what guessing gives."""
    return (
        f"base {percent(found.base.accuracy, 0)}, tuned {percent(found.tuned.accuracy, 0)} right; "
        f"{guesses_words(found)}"
    )


def tests_words(found: LabelAccuracy) -> str:
    """Name both tests of the tuned model against guesses."""
    return (
        f"one-sided: {p_value(found.p_majority)} against the commonest label, "
        f"{p_value(found.p_shuffled)} against shuffled labels"
    )


def confusion(found: LabelAccuracy, picks: Picks) -> Confusion:
    """Return the confusion table of one model."""
    names = short_names(found.labels)
    return Confusion(names, tuple(zip(names, picks.confusion, strict=True)))


def confusions_words(found: LabelAccuracy, picks: Picks, n_shown: int = 5) -> str:
    """List the most frequent confusions: `"a" for "b" (3)`, where "b" would be right."""
    wrong = [
        (count, picked, right)
        for right, row in enumerate(picks.confusion)
        for picked, count in enumerate(row)
        if picked != right and count
    ]
    wrong.sort(key=lambda it: -it[0])
    names = [_quoted(name) for name in short_names(found.labels)]
    shown = [f"{names[picked]} for {names[right]} ({n:,})" for n, picked, right in wrong[:n_shown]]
    return ", ".join(shown) or "none"


def _quoted(name: str) -> str:
    return f'"{name}"'
