"""Thoughts: what a model writes between <think> and </think> before it answers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

from finetuning_exam.data.records import Example

_THOUGHT = re.compile(r"\s*<think>(.*?)</think>\s*", re.DOTALL)
OPENING = re.compile(r"<think>\s*\Z")
"""A prompt that ends inside of a thought, as some templates write it."""


class Answer(NamedTuple):
    """An answer in two parts; `thought` is None without one, and may be empty."""

    thought: str | None
    said: str


def split_thought(text: str) -> Answer:
    """Return the thought that an answer begins with, without its marks, and what follows it."""
    found = _THOUGHT.match(text)
    return Answer(found[1].strip(), text[found.end() :]) if found else Answer(None, text)


def with_thought(thought: str, text: str) -> str:
    """Return an answer with its thought as most models write it."""
    return f"<think>\n{thought.strip()}\n</think>\n\n{text.lstrip()}"


def has_thought(text: str) -> bool:
    """Return whether an answer begins with a thought that is not empty."""
    return bool(split_thought(text).thought)


def choose_thinking(wanted: bool | Literal["auto"], examples: Iterable[Example]) -> bool:
    """Resolve `auto`: true if any answer begins with a thought."""
    if wanted != "auto":
        return wanted
    return any(
        has_thought(it.answer) or any(has_thought(turn.text) for turn in it.earlier)
        for it in examples
    )


def said(text: str) -> str:
    """Return what follows the thought of a written answer; "" if the thought does not end.

    The answer may begin inside of the thought, where the prompt opened it.
    """
    _, end, rest = text.rpartition("</think>")
    if end:
        return rest.strip()
    return "" if text.lstrip().startswith("<think>") else text
