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
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from finetuning_exam.data.thoughts import said

MARK = "<tool_call>"
_OBJECT = re.compile(r"[\[{]")
_CALLS = re.compile(r"[\s;,]*(\{|\[\s*\{)")
"""The beginning of an object, or of a list of objects, behind what may separate them."""
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
    calls = tuple(call for call in _marked(text) if call)
    return text.partition(MARK)[0].strip(), calls


def has_broken_call(text: str) -> bool:
    """Return whether an answer marks a call that cannot be read."""
    return not all(_marked(text))


def find_calls(text: str) -> tuple[Call, ...] | None:
    """Return the calls in an answer in any usual form, or None if it does not try to call.

    Read are the form of `call_text`, and JSON alone or after a mark such as `[TOOL_CALLS]`: an
    object, or a list of objects, with a name and arguments. An answer that tries, but in which any
    call is broken, has no calls: ().
    """
    if MARK in text:
        return _if_whole(tuple(_marked(text)))
    start = _OBJECT.search(text)
    before = text[: start.start()] if start else text
    is_marked = "TOOL_CALLS" in text or "<|python_tag|>" in text or "functools" in before
    while start and is_marked and text.startswith("[TOOL_CALLS", start.start()):
        start = _OBJECT.search(text, start.end())
    if not start or (before.strip() and not is_marked):
        return () if is_marked else None
    found, _ = _read(text, start.start())
    is_try = is_marked or any(found) or _looks_like_call(text)
    return _if_whole(found) if is_try else None


def _looks_like_call(text: str) -> bool:
    return '"name"' in text and any(f'"{key}"' in text for key in _ARGUMENTS)


def _if_whole(found: Sequence[Call | None]) -> tuple[Call, ...]:
    """Return calls, or none of them if one is broken."""
    calls = tuple(call for call in found if call)
    return calls if len(calls) == len(found) else ()


def _marked(text: str) -> Iterator[Call | None]:
    """Yield the calls behind each mark of a text, and None for what is none."""
    place = text.find(MARK)
    while place >= 0:
        found, end = _read(text, place + len(MARK))
        yield from found or (None,)
        place = text.find(MARK, end)


def _read(text: str, start: int) -> tuple[list[Call | None], int]:
    """Return the calls that the JSON at an index describes, one or several, and where it ends.

    None stands for an object that is no call, and for JSON that is broken.
    """
    decoder = json.JSONDecoder()
    found: list[Call | None] = []
    end = start
    while opening := _CALLS.match(text, end):
        try:
            value, end = decoder.raw_decode(text, opening.end() - len(opening[1]))
        except (ValueError, RecursionError):
            return [*found, None], end
        values = value if isinstance(value, list) else [value]
        found += [as_call(it) if _has_arguments(it) else None for it in values]
    return found, end


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
