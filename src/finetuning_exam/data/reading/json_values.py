"""One JSON value out of text, stricter than Python's json, or a `Fault` that says what is wrong."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import NoReturn, TypeGuard

from finetuning_exam.data.findings import Fault, Kind
from finetuning_exam.data.reading.files import undecodable

MAX_DEPTH = 100
"""Lists and objects may stand in each other this deep, whatever the Python and its stack."""

SPACE = re.compile(r"[ \t\n\r]*")
_SHOWN_CHARACTERS = 60
# Possessive, so that text without its closing mark takes linear time.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|["\[\]{}]', re.DOTALL)


class SyntaxFault(Fault):
    """Text that is no JSON, from the index `position` on: what comes after cannot be read."""

    def __init__(self, what: str, position: int, kind: Kind = Kind.NOT_JSON) -> None:
        super().__init__(kind, what)
        self.position = position


def parse_object(line: bytes) -> dict[str, object]:
    """The one object on a line.

    Raises:
        Fault: whatever keeps the line from being one object; no other exception.
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Fault(Kind.NOT_UTF8, undecodable(line[error.start], error.start + 1)) from None
    start = _after_space(text, 0)
    try:
        value, end = read_value(text, start)
    except SyntaxFault as fault:
        raise Fault(fault.kind, not_json(fault.detail, fault.position + 1)) from None
    rest = _after_space(text, end)
    if rest < len(text):
        raise _extra(text, end, rest)
    return as_object(value)


def read_value(text: str, start: int) -> tuple[object, int]:
    """The JSON value at an index, and the index after it.

    Raises:
        SyntaxFault: there is no whole value, so that its end is not known.
        Fault: a whole value with a field given twice, NaN or an infinite number, a number with
            too many digits, or nested too deeply. `end_of_value` finds its end.
    """
    try:
        value, end = _STRICT.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise SyntaxFault(error.msg.removesuffix(" at"), error.pos) from None
    except RecursionError:
        raise Fault(Kind.TOO_DEEP, "nested too deeply") from None
    except Fault:
        raise
    except ValueError:  # Python's own limit against integers that take quadratic time to read
        raise Fault(Kind.NOT_JSON, "a number has too many digits") from None
    if text.count("[", start, end) + text.count("{", start, end) > MAX_DEPTH and _is_deep(value):
        raise Fault(Kind.TOO_DEEP, "nested too deeply")
    return value, end


def read_leniently(text: str, start: int) -> tuple[object, int]:
    """The value at an index and the index after it; fields given twice, NaN and such let through.

    Raises:
        SyntaxFault: there is no whole value, or it is nested too deeply to be read.
    """
    try:
        return _LENIENT.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise SyntaxFault(error.msg.removesuffix(" at"), error.pos) from None
    except RecursionError:
        raise SyntaxFault("nested too deeply", start, Kind.TOO_DEEP) from None


def end_of_value(text: str, start: int) -> int:
    """The index after the value at `start`, however it is nested.

    Raises:
        SyntaxFault: the value is not whole.
    """
    try:
        return read_leniently(text, start)[1]
    except SyntaxFault as fault:
        end = end_of_brackets(text, start) if fault.kind is Kind.TOO_DEEP else None
        if end is None:
            raise
        return end


def end_of_brackets(text: str, start: int) -> int | None:
    """The index after the bracket that closes the one at `start`; None where there is none."""
    depth = 0
    for token in _TOKEN.finditer(text, start):
        mark = token[0]
        if mark == '"':  # text that never ends
            return None
        depth += (mark in "[{") - (mark in "]}")
        if depth <= 0:
            return token.end()
    return None


def as_object(value: object) -> dict[str, object]:
    """A value that is an object.

    Raises:
        Fault: it is anything else.
    """
    if _is_turns(value):
        detail = 'a list of turns where an object belongs: {"messages": [ … ]}'
        raise Fault(Kind.NOT_AN_OBJECT, detail)
    if not _is_object(value):
        raise Fault(Kind.NOT_AN_OBJECT, f"{json_type(value)} where an object belongs")
    return value


def json_type(value: object) -> str:
    """What a value is called in JSON, with its article."""
    names = {
        type(None): "null",
        bool: "a boolean",
        int: "a number",
        float: "a number",
        list: "a list",
        str: "a string",
    }
    return names.get(type(value), "an object")


def not_json(what: str, column: int) -> str:
    """The detail of a `NOT_JSON` finding."""
    return f"not valid JSON ({what} at column {column})"


def _after_space(text: str, start: int) -> int:
    found = SPACE.match(text, start)
    return found.end() if found else start


def _extra(text: str, end: int, rest: int) -> Fault:
    """What to say of text that follows a whole value on its line."""
    if text[rest] not in "{[":
        return Fault(Kind.NOT_JSON, not_json("Extra data", rest + 1))
    detail = f"several objects on one line (the second at column {rest + 1})"
    if "\r" in text[end:rest]:
        detail += "; a carriage return (\\r) alone ends no line"
    return Fault(Kind.SEVERAL_OBJECTS, detail)


def _is_object(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)


def _is_turns(value: object) -> bool:
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and bool({"role", "from"} & first.keys())


def _is_deep(value: object) -> bool:
    """Whether more than `MAX_DEPTH` lists and objects stand in each other."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else _items(item))
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key in counts if counts[key] > 1)
        raise Fault(Kind.DUPLICATE_KEY, f"the field {_shown(twice)!r} occurs twice")
    return fields


def _no_constant(name: str) -> NoReturn:
    raise Fault(Kind.NOT_FINITE, f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise Fault(Kind.NOT_FINITE, f"the number {_shown(digits)} is too large")
    return number


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


_STRICT = json.JSONDecoder(
    object_pairs_hook=_unique_keys, parse_constant=_no_constant, parse_float=_finite
)
_LENIENT = json.JSONDecoder(parse_constant=str, parse_int=str, parse_float=str)
