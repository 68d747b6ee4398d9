"""Tools in the form that every template takes: named in the system turn, called in the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from finetuning_exam.data.encoding.system_text import folded, has_system
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.data.tool_text import introduction, is_call, result_text


def uses_tools(example: Example) -> bool:
    """Return whether an example defines tools, calls one, or holds what one returned."""
    return bool(
        example.tools
        or example.asked_by == "tool"
        or is_call(example.answer)
        or any(it.role == "tool" or is_call(it.text) for it in example.earlier)
    )


def spelled_out(example: Example, *, in_question: bool = False) -> Example:
    """Return an example in turns of system, user and assistant alone.

    The tools are part of the system turn, or of the first question if they shall be `in_question`,
    and what a tool returned is a turn of the user.
    """
    turns: list[Turn] = []
    results: list[str] = []
    for turn in (*example.earlier, Turn(example.asked_by, example.instruction)):
        if turn.role == "tool":
            results.append(result_text(turn.text))
            continue
        if results:
            turns.append(Turn("user", "\n".join(results)))
            results = []
        turns.append(turn)
    if results:
        turns.append(Turn("user", "\n".join(results)))
    question = turns.pop().text
    is_first = not has_system(example)
    if example.tools:
        before = [] if is_first else [turns.pop(0).text]
        turns.insert(0, Turn("system", "\n\n".join([*before, introduction(example.tools)])))
    spelled = replace(
        example, earlier=tuple(turns), instruction=question, asked_by="user", tools=""
    )
    return folded(spelled) if in_question and is_first else spelled


def each_answer(examples: Sequence[Example]) -> tuple[Example, ...]:
    """Return conversations with tools once for each of their answers, and others as they are.

    So the exam asks for every call, after the history that led to it; the answers of one
    conversation are one group.
    """
    return tuple(part for example in examples for part in _answers_of(example))


def _answers_of(example: Example) -> tuple[Example, ...]:
    if not example.trained_answers or not uses_tools(example):
        return (example,)
    example = replace(example, group=example.group or example.where)
    return (*map(example.up_to_answer, example.trained_answers), example)
