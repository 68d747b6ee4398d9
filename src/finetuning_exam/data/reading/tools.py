"""Read definitions and calls of tools as OpenAI, Hermes, Glaive, LlamaFactory and xLAM do."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from finetuning_exam.data.findings import Fault
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.cells import is_nothing
from finetuning_exam.data.reading.json_values import json_type
from finetuning_exam.data.thoughts import said, split_thought, with_thought
from finetuning_exam.data.tool_text import (
    MARK,
    Call,
    as_call,
    bare_tool,
    call_text,
    find_calls,
    has_broken_call,
    is_call,
)

TOOLS = ("tools", "functions")
"""Fields of a record that define tools."""
CALL_ROLES = frozenset({"function_call", "tool_call"})
"""Roles of turns that are nothing but a call."""
RESULT_ROLES = frozenset({"tool", "function", "observation", "ipython", "tool_response"})
"""Roles of turns that hold what a tool returned."""
CALLS = ("tool_calls", "function_call")
"""Fields of an assistant's turn that hold its calls."""
THOUGHTS = ("reasoning_content", "thinking", "reasoning")
"""Fields of an assistant's turn that hold what it thought before it answered."""


def defines_tools(value: object) -> bool:
    """Return whether a value defines tools, and is not a note in words such as "a hammer"."""
    if is_nothing(value):
        return False
    return isinstance(value, list | dict) or (
        isinstance(value, str) and value.strip()[:1] in ("[", "{")
    )


def read_tools(record: Mapping[str, object]) -> str:
    """Return the tools that a record defines, as a JSON list; "" if it defines none.

    Raises:
        Fault: the definitions are no list of objects with names, or stand in two fields.
    """
    filled = [name for name in TOOLS if defines_tools(record.get(name))]
    if not filled:
        return ""
    if len(filled) > 1:
        detail = f"fields {filled[0]!r} and {filled[1]!r} have the same meaning"
        raise Fault(Kind.DUPLICATE_KEY, detail)
    what = f"field {filled[0]!r}"
    value = _unpacked(record[filled[0]], what)
    found = [value] if isinstance(value, dict) else value
    if not isinstance(found, list):
        raise Fault(Kind.BAD_TOOLS, f"{what} is {json_type(value)}; expected a list of tools")
    tools = [_unpacked(it, f"tool {number} of {what}") for number, it in enumerate(found, 1)]
    for number, tool in enumerate(tools, 1):
        inner = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
            raise Fault(Kind.BAD_TOOLS, f"tool {number} of {what} has no name")
    return json.dumps(tools, ensure_ascii=False)


def answer_with_calls(turn: Mapping[str, object], text: str, where: str) -> str:
    """Return the text of an assistant's turn, with its thought before and its calls behind.

    Raises:
        Fault: a call has no name, or arguments that are no object, or there are two thoughts.
    """
    calls: list[Call] = []
    for name in CALLS:
        value = turn.get(name)
        if is_nothing(value):
            continue
        calls += _calls(_unpacked(value, f"field {name!r} of {where}"), where)
    answer = call_text(text, calls) if calls else text
    inline = split_thought(answer)
    thoughts = {it: turn[it] for it in THOUGHTS if not is_nothing(turn.get(it))}
    if not thoughts and inline.thought is None:
        return answer
    named = [*thoughts, *(["<think>"] if inline.thought else [])]
    different = {str(it).strip() for it in (*thoughts.values(), inline.thought) if it}
    if len(different) > 1:
        raise Fault(Kind.BAD_TURNS, f"{where} has two thoughts: {' and '.join(named)}")
    if not thoughts:
        return with_thought(inline.thought or "", inline.said)
    (name, thought), *_ = thoughts.items()
    if not isinstance(thought, str):
        detail = f"field {name!r} of {where} is {json_type(thought)}; expected a string"
        raise Fault(Kind.WRONG_TYPE, detail)
    return with_thought(thought, inline.said)


def call_of_turn(value: object, where: str) -> str:
    """Return the text of a turn that is nothing but calls, given as JSON or as its text.

    Raises:
        Fault: it is no call.
    """
    if isinstance(value, str) and is_call(value):
        return value
    return call_text("", _calls(_unpacked(value, f"the call in {where}"), where))


def call_in_answer(answer: str, tools: str) -> str:
    """Return an answer beside tools; one that is nothing but JSON of their calls becomes a call."""
    try:
        value = json.loads(answer) if answer.lstrip()[:1] in ("[", "{") else None
    except (ValueError, RecursionError):
        return answer
    calls = find_calls(answer) or ()
    n_calls = len(value) if isinstance(value, list) else int(value is not None)
    names = {bare_tool(it).get("name") for it in json.loads(tools)}
    is_only_calls = 0 < n_calls == len(calls) and all(it.name in names for it in calls)
    return call_text("", calls) if is_only_calls else answer


def refuse_broken_calls(texts: Iterable[str]) -> None:
    """Refuse answers that mark a call which cannot be read.

    Raises:
        Fault: the JSON of a call is broken.
    """
    for text in texts:
        if has_broken_call(said(text)):
            raise Fault(Kind.BAD_TOOLS, f"a call between {MARK} and </tool_call> is no JSON")


def result_of_turn(value: object) -> object:
    """Return what a tool returned: a text, or the JSON of any other value."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | int | float) else value


def _calls(value: object, where: str) -> list[Call]:
    """Return the calls in a list, or the one that stands alone."""
    return [_call(it, where) for it in (value if isinstance(value, list) else [value])]


def _call(value: object, where: str) -> Call:
    call = as_call(_unpacked(value, f"a call in {where}"))
    if call is None:
        raise Fault(
            Kind.BAD_TOOLS, f"a call in {where} has no name, or arguments that are no JSON object"
        )
    return call


def _unpacked(value: object, what: str) -> object:
    """Return a value, or what the JSON in a text describes."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise Fault(Kind.BAD_TOOLS, f"{what} is no JSON") from None
