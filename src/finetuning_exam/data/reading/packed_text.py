"""Values that are stored as their text: as JSON, or in Python's notation (`[{'role': 'user'}]`)."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Mapping

from finetuning_exam.data.findings import Fault
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.json_values import MAX_DEPTH, SyntaxFault, not_json, read_value

_PYTHON = re.compile(
    r"[\[{(,:]\s*b?'[^']*'\s*['\",:\]})]|[\[(]\s*\"[^\"]*\"\s+['\"]|[:,\[(]\s*(None|True|False)\s*[,\]})]|\barray\(|\bdtype="
)
_SINGLE_QUOTE = re.compile(r"\s*[\[({][\s\[({]*'")
_LONGEST_LOOKED_AT = 10_000
_LONGEST_LITERAL = 1 << 20
_STRING = r"'(?:[^'\\]++|\\.)*+'|\"(?:[^\"\\]++|\\.)*+\""
_LITERAL = re.compile(
    rf"(?:[\s,:\[\]{{}}()]|(?:{_STRING})(?=\s*[,:\]}})])"
    r"|(?:-?\d[\d.]*+(?:[eE][+-]?\d+)?|None|True|False|nan)(?=\s*[,\]})]))*+",
    re.DOTALL,
)
"""Python's literals, of which each is followed by a mark and not by another one."""
_PYTHONS_OWN = re.compile(r"""(?:"(?:[^"\\]++|\\.)*+"|[^"'(])*+['(]""", re.DOTALL)
"""A tuple, or a string in single quotes, outside of the strings that JSON has too."""
_NAN_OR_TEXT = re.compile(rf"{_STRING}|nan", re.DOTALL)
_BRACKET_OR_TEXT = re.compile(rf"{_STRING}|[\[\]{{}}()]", re.DOTALL)


def value_of_json(text: str) -> object:
    """Return the list or object that a text describes; a text in a text is unpacked twice.

    Raises:
        Fault: it is not JSON, or something else than a list or an object.
    """
    value: object = text
    for _ in range(2):
        if isinstance(value, str):
            value = _value(value.strip())
    if not isinstance(value, list | dict):
        raise Fault(Kind.WRONG_TYPE, "the text is neither a list nor an object")
    return value


def _value(text: str) -> object:
    try:
        value, end = read_value(text, 0)
    except SyntaxFault as fault:
        raise Fault(fault.kind, not_json(fault.detail, fault.position + 1)) from None
    if text[end:].strip():
        raise Fault(Kind.NOT_JSON, not_json("unexpected text after the value", end + 1))
    return value


def is_json(text: str) -> bool:
    """Return whether a text is a JSON list or object."""
    try:
        value_of_json(text)
    except Fault:
        return False
    return True


def is_python(text: str) -> bool:
    """Return whether a text seems to be the repr of a Python list, tuple or dict."""
    start = text.lstrip()[:_LONGEST_LOOKED_AT]
    if start[:1] not in ("[", "{", "(", "a"):
        return False
    is_own = _PYTHON.search(start) is not None
    return is_own or (_PYTHONS_OWN.match(start) is not None and is_literal(text))


def value_of_python(text: str) -> object:
    """Return the list or object whose Python notation a text is; tuples become lists.

    Only literals are read, and nothing is executed. Two texts side by side (`'a' 'b'`), which
    Python would join but arrays write between their items, are refused.

    Raises:
        Fault: it is not such a literal, or larger than 1 MiB or deeper than 100 levels.
    """
    start = text.strip()
    not_literal = Fault(Kind.PYTHON_NOTATION, "not a list or an object of Python's literals")
    if len(start) > _LONGEST_LITERAL or start[:1] not in ("[", "{", "("):
        raise not_literal
    if _LITERAL.fullmatch(start) is None or _is_deep(start):
        raise not_literal
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes in strings
            return _as_json(ast.literal_eval(_without_nan(start)))
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        raise not_literal from None


def _without_nan(text: str) -> str:
    """Return Python's notation with None for NaN, which is how data frames write nothing."""
    if "nan" not in text:
        return text
    return _NAN_OR_TEXT.sub(lambda found: "None" if found[0] == "nan" else found[0], text)


def value_of_text(text: str) -> object:
    """Return the list or object that a text describes, in JSON or in Python's notation.

    Raises:
        Fault: it is neither.
    """
    if not _SINGLE_QUOTE.match(text):  # which JSON lacks; its faults take long to describe
        try:
            return value_of_json(text)
        except Fault as fault:
            if not is_python(text):
                raise fault from None
    return value_of_python(text)


def is_literal(text: object) -> bool:
    """Return whether `ast.literal_eval` restores the value of a text."""
    try:
        value_of_python(str(text))
    except Fault:
        return False
    return True


def _is_deep(text: str) -> bool:
    """Return whether brackets are nested too deeply; brackets in texts may count, too."""
    if text.count("[") + text.count("{") + text.count("(") <= MAX_DEPTH:
        return False
    depth = deepest = 0
    for token in _BRACKET_OR_TEXT.finditer(text):
        mark = token[0]
        depth += (mark in "[{(") - (mark in "]})")
        deepest = max(deepest, depth)
    return deepest > MAX_DEPTH


def _as_json(value: object) -> object:
    """Return a literal with its tuples as lists.

    Raises:
        ValueError: it has something that JSON lacks (bytes, a set), or a name that is not a text.
    """
    if isinstance(value, list | tuple):
        return [_as_json(it) for it in value]
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("a key is not a text")
        return {key: _as_json(it) for key, it in value.items()}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError("not a value of JSON")


def are_turns(value: object) -> bool:
    """Return whether a value is a list of objects with a role, or with a question and answer."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(it, Mapping)
            and bool({"role", "from"} & it.keys() or {"human", "assistant"} <= it.keys())
            for it in value
        )
    )


def fault_of_text(text: str, what: str) -> Fault:
    """Return the fault of a text that stands where a list belongs; `what` names it."""
    stripped = text.strip()
    if not stripped:
        return Fault(Kind.BAD_TURNS, f"{what} is empty")
    if is_python(stripped) and not is_json(stripped):
        return Fault(Kind.PYTHON_NOTATION, f"{what} is Python's notation as text; expected a list")
    if stripped[0] not in "[{":
        return Fault(Kind.WRONG_TYPE, f"{what} is a string; expected a list")
    try:
        value_of_json(stripped)
    except Fault as fault:
        return Fault(Kind.NOT_JSON, f"{what} is text and {fault.detail}")
    return Fault(Kind.WRONG_TYPE, f"{what} is JSON as text; expected a list")
