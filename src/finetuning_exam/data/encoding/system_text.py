"""System text before the first question, for chat templates that take no system turn."""

from __future__ import annotations

from dataclasses import replace

from finetuning_exam.data.records import Example


def has_system(example: Example) -> bool:
    """Return whether a conversation has a system turn."""
    return bool(example.earlier) and example.earlier[0].role == "system"


def folded(example: Example) -> Example:
    """Return a conversation whose system text stands before its first question, as Gemma's makers
    advise.
    """
    if not has_system(example):
        return example
    system, *turns = example.earlier
    for place, turn in enumerate(turns):
        if turn.role == "user":
            turns[place] = replace(turn, text=f"{system.text}\n\n{turn.text}")
            return replace(example, earlier=tuple(turns))
    return replace(
        example, earlier=tuple(turns), instruction=f"{system.text}\n\n{example.instruction}"
    )
