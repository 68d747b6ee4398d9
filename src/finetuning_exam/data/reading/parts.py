"""The text of a turn: a string, or parts that each hold a text.

Parts are those of OpenAI (`{"type": "text", "text": …}`), of Gemini (`{"text": …}` in `parts`),
and of tools that name their text `value` or `content`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from finetuning_exam.data.findings import Fault
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.cells import is_nothing
from finetuning_exam.data.reading.fields import Record, as_text, quoted
from finetuning_exam.data.reading.json_values import json_type
from finetuning_exam.data.reading.packed_text import value_of_text
from finetuning_exam.data.reading.training_fields import refuse_media

TEXT_KEYS = ("content", "value", "text", "parts")
"""Fields of a turn that may hold its text; the first that is there is read."""
_TEXT_TYPES = ("text", "input_text", "output_text")
_IN_PART = ("text", "value", "content")
_CALLS = ("functionCall", "functionResponse", "function_call", "function_response")
_SILENT = ("type", "role", "cache_control", "annotations")
"""Fields of a part that say nothing about its text."""


def text_key(turn: Record) -> str:
    """Return the field of a turn that holds its text; `content` if it has none."""
    for key in TEXT_KEYS:
        if key in turn:
            return key
    return TEXT_KEYS[0]


def read_content(value: object, what: str) -> str:
    """Return a text, or the joined texts of its parts; `what` names the field in messages.

    Raises:
        Fault: it is something else, or a part holds anything but text.
    """
    if isinstance(value, str):
        return as_text(value, what)
    if isinstance(value, Mapping) and value:
        value = [value]
    if not isinstance(value, list):
        return as_text(value, what)
    return "".join(
        _part(part, f"part {number} of {what}") for number, part in enumerate(value, start=1)
    )


def with_system_text(value: Record, names: Sequence[str]) -> Record:
    """Return a record whose system fields are texts, where they hold parts or `{"parts": […]}`.

    A table may hold the latter as text.

    Raises:
        Fault: a part of such a field holds anything but text.
    """
    packed = {
        name: it
        for name in names
        if isinstance(it := _unpacked(value.get(name)), Mapping | list) and it
    }
    if not packed:
        return value
    texts = {}
    for name, it in packed.items():
        inner = it[text_key(it)] if isinstance(it, Mapping) and {*TEXT_KEYS} & it.keys() else it
        texts[name] = read_content(inner, f"field {name!r}")
    return {**value, **texts}


def _unpacked(value: object) -> object:
    """Return the object with `parts` that a text describes, else the value itself."""
    if not isinstance(value, str) or not value.lstrip().startswith("{") or "parts" not in value:
        return value
    try:
        found = value_of_text(value)
    except Fault:
        return value
    return found if isinstance(found, Mapping) and "parts" in found else value


def _part(part: object, where: str) -> str:
    if isinstance(part, str):
        return as_text(part, where)
    if not isinstance(part, Mapping):
        raise Fault(Kind.WRONG_TYPE, f"{where} is {json_type(part)}; expected an object")
    kind = part.get("type")
    filled = [key for key in _IN_PART if part.get(key) is not None]
    if (kind is not None or not filled) and kind not in _TEXT_TYPES:
        _refuse_calls(part, where)
        name = f"type {quoted(kind)}" if isinstance(kind, str) else "no type"
        raise Fault(Kind.UNSUPPORTED, f"{where} has {name}; only text is supported")
    refuse_media(part, where)
    if kind is None:
        _refuse_calls(part, where)
        for key, it in part.items():
            if key not in (*_IN_PART, *_SILENT) and it is not False and not is_nothing(it):
                detail = f"{where} has {quoted(key)}; only text is supported"
                raise Fault(Kind.UNSUPPORTED, detail)
    if len(filled) > 1 and any(part[key] != part[filled[0]] for key in filled):
        detail = f"fields {filled[0]!r} and {filled[1]!r} of {where} have the same meaning"
        raise Fault(Kind.DUPLICATE_KEY, detail)
    text = part[filled[0]] if filled else None
    if isinstance(text, Mapping) and "value" in text:  # as OpenAI's assistants write it
        text = text["value"]
    return as_text(text, where)


def _refuse_calls(part: Record, where: str) -> None:
    for key in _CALLS:
        if not is_nothing(part.get(key)):
            raise Fault(Kind.BAD_TOOLS, f"{where} has {key!r}; calls belong in 'tool_calls'")
