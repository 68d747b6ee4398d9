"""Read JSON values more strictly than Python's json does; a `Fault` says what is wrong.

NaN, which data frames write for nothing, is null.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from datetime import date, datetime
from decimal import Decimal

from finetuning_exam.data.findings import Fault
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.files import undecodable
from finetuning_exam.data.reading.json_reasons import extra_text, reason_of

MAX_DEPTH = 100
"""The deepest nesting of lists and objects, independent of Python's own limits."""

SPACE = re.compile(r"[ \t\n\r]*")
_SHOWN_CHARACTERS = 60
_TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"
# Possessive, so that text without its closing mark takes linear time.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|["\[\]{}]', re.DOTALL)


class SyntaxFault(Fault):
    """Text that is not JSON from the index `position` on; what follows cannot be read."""

    def __init__(self, what: str, position: int, kind: Kind = Kind.NOT_JSON) -> None:
        super().__init__(kind, what)
        self.position = position


def parse_object(line: bytes) -> dict[str, object]:
    """Return the one object on a line.

    Raises:
        Fault: the line is anything else, a `SyntaxFault` if it is not JSON; no other exception
            is raised.
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Fault(Kind.NOT_UTF8, undecodable(line[error.start], error.start + 1)) from None
    start = _after_space(text, 0)
    try:
        value, end = read_value(text, start)
    except SyntaxFault as fault:
        detail = not_json(fault.detail, fault.position + 1)
        raise SyntaxFault(detail, fault.position, fault.kind) from None
    rest = _after_space(text, end)
    if rest < len(text):
        raise _extra(text, end, rest)
    return as_object(value)


def read_value(text: str, start: int) -> tuple[object, int]:
    """Return the JSON value at an index, and the index after it.

    Raises:
        SyntaxFault: the value is incomplete, so its end is not known.
        Fault: a complete value with a duplicate field, an infinite number, a number with too many
            digits, or too deep nesting. `end_of_value` finds its end.
    """
    try:
        value, end = _STRICT.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise _syntax_fault(error) from None
    except RecursionError:
        raise Fault(Kind.TOO_DEEP, _TOO_DEEP) from None
    except Fault:
        raise
    except ValueError:  # Python's own limit against integers that take quadratic time to read
        raise Fault(Kind.NOT_JSON, "a number has too many digits") from None
    if text.count("[", start, end) + text.count("{", start, end) > MAX_DEPTH and _is_deep(value):
        raise Fault(Kind.TOO_DEEP, _TOO_DEEP)
    return value, end


def read_leniently(text: str, start: int) -> tuple[object, int]:
    """Return the value at an index and the index after it; duplicate fields and NaN are accepted.

    Raises:
        SyntaxFault: the value is incomplete, or nested too deeply to be read.
    """
    try:
        return _LENIENT.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise _syntax_fault(error) from None
    except RecursionError:
        raise SyntaxFault(_TOO_DEEP, start, Kind.TOO_DEEP) from None


def end_of_value(text: str, start: int) -> int:
    """Return the index after the value at `start`, however deeply it is nested.

    Raises:
        SyntaxFault: the value is incomplete.
    """
    try:
        return read_leniently(text, start)[1]
    except SyntaxFault as fault:
        end = end_of_brackets(text, start) if fault.kind is Kind.TOO_DEEP else None
        if end is None:
            raise
        return end


def end_of_brackets(text: str, start: int) -> int | None:
    """Return the index after the bracket that closes the one at `start`, or None."""
    depth = 0
    for token in _TOKEN.finditer(text, start):
        mark = token[0]
        if mark == '"':  # an unterminated string
            return None
        depth += (mark in "[{") - (mark in "]}")
        if depth <= 0:
            return token.end()
    return None


def as_object(value: object) -> dict[str, object]:
    """Return the value if it is an object.

    Raises:
        Fault: it is anything else.
    """
    if isinstance(value, dict):
        return value
    first = value[0] if isinstance(value, list) and value else None
    if isinstance(first, dict) and {"role", "from"} & first.keys():
        detail = 'expected an object such as {"messages": [ … ]}, got a list of turns'
    else:
        detail = f"expected an object, got {json_type(value)}"
    raise Fault(Kind.NOT_AN_OBJECT, detail)


def json_type(value: object) -> str:
    """Return the JSON type of a value with its article, or what a table may hold instead."""
    names = {
        type(None): "null",
        bool: "a boolean",
        int: "a number",
        float: "a number",
        Decimal: "a number",
        list: "a list",
        tuple: "a list",
        str: "a string",
        bytes: "binary",
        date: "a date",
        datetime: "a date",
    }
    return next((names[kind] for kind in type(value).__mro__ if kind in names), "an object")


def not_json(what: str, column: int) -> str:
    """Return the detail of a `NOT_JSON` finding; a `; ` in `what` ends what is at the column."""
    fault, semicolon, advice = what.partition("; ")
    return f"not valid JSON ({fault} at column {column}{semicolon}{advice})"


def _syntax_fault(error: json.JSONDecodeError) -> SyntaxFault:
    reason = reason_of(error.msg, error.doc, error.pos)
    kind = Kind.PYTHON_NOTATION if reason.is_python else Kind.NOT_JSON
    return SyntaxFault(reason.what, reason.position, kind)


def _after_space(text: str, start: int) -> int:
    found = SPACE.match(text, start)
    return found.end() if found else start


def _extra(text: str, end: int, rest: int) -> Fault:
    """Return the fault of a line on which text follows a complete value."""
    if text[rest] not in "{[":
        return Fault(Kind.NOT_JSON, not_json(extra_text(text, rest), rest + 1))
    detail = f"several objects on one line (the second starts at column {rest + 1})"
    if "\r" in text[end:rest]:
        detail += "; a bare carriage return (\\r) does not end a line"
    return Fault(Kind.SEVERAL_OBJECTS, detail)


def _is_deep(value: object) -> bool:
    """Return whether lists and objects are nested more than `MAX_DEPTH` deep."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key in counts if counts[key] > 1)
        raise Fault(Kind.DUPLICATE_KEY, f"duplicate field {_shortened(twice)!r}")
    return fields


def _constant(name: str) -> None:
    if name != "NaN":
        raise Fault(Kind.NOT_FINITE, f"{name} is not valid JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise Fault(Kind.NOT_FINITE, f"the number {_shortened(digits)} is too large")
    return number


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


_STRICT = json.JSONDecoder(
    object_pairs_hook=_unique_keys, parse_constant=_constant, parse_float=_finite
)
_LENIENT = json.JSONDecoder(parse_constant=str, parse_int=str, parse_float=str)
