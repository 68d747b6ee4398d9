"""Calls of tools as text: the form in which a conversation holds them, whatever file it came from.

An answer calls a tool with its name and arguments as JSON between two marks, the form that most
chat templates write and many models know:

    <tool_call>
    {"name": "weather", "arguments": {"city": "Bern"}}
    </tool_call>
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from finetuning_exam.data.thoughts import said

MARK = "<tool_call>"
_OBJECT = re.compile(r"[\[{]")
_ARGUMENTS = ("arguments", "parameters", "args", "input")
_INTRODUCTION = """\
You can use these tools, each described by a line of JSON:
{tools}

To use one, answer with its name and its arguments:
<tool_call>
{{"name": "…", "arguments": {{…}}}}
</tool_call>"""


class Call(NamedTuple):
    """A call of a tool; `arguments` is an object, by the names of the parameters."""

    name: str
    arguments: dict[str, object]


def call_text(text: str, calls: Iterable[Call]) -> str:
    """Return an answer that says a text, if any, and then calls tools."""
    parts = [text.strip()] if text.strip() else []
    for call in calls:
        value = json.dumps(call._asdict(), ensure_ascii=False)
        parts.append(f"<tool_call>\n{value}\n</tool_call>")
    return "\n".join(parts)


def is_call(text: str) -> bool:
    """Return whether an answer calls a tool, in the form of `call_text`; a thought calls none."""
    return MARK in text and bool(split_calls(said(text))[1])


def split_calls(text: str) -> tuple[str, tuple[Call, ...]]:
    """Return what an answer says before its calls, and the calls; those that are no JSON are left
    out.
    """
    before, *marked = text.split(MARK)
    calls = tuple(call for part in marked for call in _read(part))
    return before.strip(), calls


def find_calls(text: str) -> tuple[Call, ...] | None:
    """Return the calls in an answer in any usual form, or None if it does not try to call.

    Read are the form of `call_text`, and JSON alone or after a mark such as `[TOOL_CALLS]`: an
    object, or a list of objects, with a name and arguments. An answer that tries, but whose JSON
    is broken, has no calls: ().
    """
    if MARK in text:
        return split_calls(text)[1]
    start = _OBJECT.search(text)
    before = text[: start.start()] if start else text
    is_marked = "TOOL_CALLS" in text or "<|python_tag|>" in text or "functools" in before
    while start and is_marked and text.startswith("[TOOL_CALLS", start.start()):
        start = _OBJECT.search(text, start.end())
    if not start or (before.strip() and not is_marked):
        return () if is_marked else None
    calls = tuple(_read(text[start.start() :]))
    return calls if calls or is_marked or _looks_like_call(text) else None


def _looks_like_call(text: str) -> bool:
    return '"name"' in text and any(f'"{key}"' in text for key in _ARGUMENTS)


def _read(text: str) -> Iterator[Call]:
    """Yield the calls that the JSON at the start of a text describes, one or several."""
    decoder = json.JSONDecoder()
    place = len(text) - len(text.lstrip())
    while place < len(text):
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            return
        for it in value if isinstance(value, list) else [value]:
            call = as_call(it) if _has_arguments(it) else None
            if call:
                yield call
        place += len(text[place:]) - len(text[place:].lstrip(" \t\r\n;,"))


def _has_arguments(value: object) -> bool:
    """Return whether an object has arguments, without which it may be any JSON with a name."""
    if not isinstance(value, dict):
        return False
    inner = value.get("function")
    return any(key in (inner if isinstance(inner, dict) else value) for key in _ARGUMENTS)


def as_call(value: object) -> Call | None:
    """Return the call that an object describes, in the forms of OpenAI, Hermes, Llama and Glaive.

    Arguments may be an object, or its JSON as text; None if it is no call.
    """
    if not isinstance(value, dict):
        return None
    inner = value.get("function")
    if isinstance(inner, dict):
        return as_call(inner)
    name = value.get("name")
    if not isinstance(name, str) or not name:
        return None
    found: object = next((value[key] for key in _ARGUMENTS if value.get(key) is not None), {})
    if isinstance(found, str):
        try:
            found = json.loads(found) if found.strip() else {}
        except (ValueError, RecursionError):
            return None
    return Call(name, found) if isinstance(found, dict) else None


def introduction(tools: str) -> str:
    """Return the text that tells of tools, for templates that have no place for them.

    `tools` is a JSON list of definitions.
    """
    lines = (json.dumps(bare_tool(it), ensure_ascii=False) for it in json.loads(tools))
    return _INTRODUCTION.format(tools="\n".join(lines))


def bare_tool(tool: dict[str, object]) -> dict[str, object]:
    """Return a definition without OpenAI's wrapper."""
    inner = tool.get("function")
    return inner if isinstance(inner, dict) else tool


def result_text(text: str) -> str:
    """Return the result of a tool as a turn of the user, for templates without turns of tools."""
    return f"<tool_response>\n{text}\n</tool_response>"
