"""Why a text is not JSON, in the terms of the text and not of the parser."""

from __future__ import annotations

import re
from typing import NamedTuple

EXPECTED_VALUE, EXPECTED_COMMA = "expected a value", "expected ','"
_DESCRIPTIONS = {
    "Expecting value": EXPECTED_VALUE,
    "Expecting ',' delimiter": EXPECTED_COMMA,
    "Expecting ':' delimiter": "expected ':'",
    "Expecting property name enclosed in double quotes": "expected a field name in double quotes",
    "Unterminated string starting at": "unterminated string starting",
    "Invalid control character at": "unescaped control character",
    "Invalid \\escape": "invalid escape; a backslash itself is written \\\\",
    "Invalid \\uXXXX escape": "invalid escape; \\u needs four hexadecimal digits",
}
"""Messages of Python's json, and what they mean."""
_IN_STRINGS = ("Unterminated", "Invalid")
_SPACES = " \t\n\r"
_SPACE = re.compile(r"[ \t\n\r]*+")
_PYTHON = re.compile(r"b?'|(?:None|True|False)\b|\(|[A-Za-z_][\w.]*\(|b\"")
_WORD = re.compile(r"[^\W\d]\w*")
_COMMENT = re.compile(r"//|/\*|#")
_TYPOGRAPHIC = "“”„‟«»‘’‚‛"
_BRACKETS = {"{": "}", "[": "]"}
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


class Reason(NamedTuple):
    """What is wrong at an index of the text; after `; ` follows advice."""

    what: str
    position: int
    is_python: bool = False
    """True for Python's notation: single quotes, None, a tuple."""


def reason_of(message: str, text: str, position: int) -> Reason:
    """Return the reason for a message that Python's json has about a text."""
    start = next((key for key in _DESCRIPTIONS if message.startswith(key)), None)
    usual = _DESCRIPTIONS[start] if start else "unexpected character"
    if message.startswith(_IN_STRINGS):
        return Reason(usual, position)
    if (comma := _trailing_comma(text, position)) is not None:
        return Reason("comma before a closing bracket", comma)
    at = _after_space(text, position)
    if at >= len(text):
        bracket = _unclosed(text)
        is_cut = bracket is not None and not text.rstrip(_SPACES).endswith(":")
        return Reason(f"missing {bracket!r}" if is_cut else usual, position)
    if at == _after_space(text, 0):  # not even the beginning resembles JSON
        return Reason(usual, position)
    expects_comma = message.startswith("Expecting ','")
    if not expects_comma and _PYTHON.match(text, at):
        return Reason(_in_python(text, at), at, is_python=True)
    if (other := _other_reason(text, at)) is not None:
        return Reason(other, at)
    if message == "Expecting value" and (word := _WORD.match(text, at)):
        return Reason(f"{EXPECTED_VALUE}, got {_shortened(word[0])}", at)
    if expects_comma:
        return Reason(comma_expected(text, at), at)
    return Reason(usual, position)


def comma_expected(text: str, position: int) -> str:
    """Describe what stands where a comma or a closing bracket belongs."""
    if (other := _other_reason(text, position)) is not None:
        return other
    if position >= len(text) and (bracket := _unclosed(text)) is not None:
        return f"missing {bracket!r}"
    if text[position - 1 : position] == '"' and text[position : position + 1].isalnum():
        return f'{EXPECTED_COMMA}; a quotation mark inside a text is written \\"'
    return EXPECTED_COMMA


def extra_text(text: str, position: int) -> str:
    """Describe what follows a complete value on its line."""
    if text[position] == ",":
        return "comma after the value"
    return _other_reason(text, position) or "unexpected text after the value"


def _other_reason(text: str, at: int) -> str | None:
    char = text[at : at + 1]
    if char == "\ufeff":
        return "byte-order mark (U+FEFF) of a file joined without a line break"
    if char and char in _TYPOGRAPHIC:
        return f'typographic quotation mark {char}; JSON has only "'
    if _COMMENT.match(text, at):
        return "comment; JSON has none"
    return None


def _in_python(text: str, at: int) -> str:
    match text[at]:
        case "'":
            return 'single quotes; JSON has only "'
        case "N" | "T" | "F" if (word := _WORD.match(text, at)) and word.end() - at <= 5:
            return f"Python's {word[0]}; JSON has null, true and false"
        case "(":
            return "tuple; JSON has only lists"
    return "Python's notation"


def _trailing_comma(text: str, position: int) -> int | None:
    """Return the index of a comma that precedes a closing bracket, both around an index."""
    at = _after_space(text, position)
    if text[at : at + 1] == ",":
        after = _after_space(text, at + 1)
        return at if text[after : after + 1] in ("]", "}") else None
    if text[at : at + 1] not in ("]", "}"):
        return None
    before = at - 1
    while before >= 0 and text[before] in _SPACES:
        before -= 1
    return before if before >= 0 and text[before] == "," else None


def _unclosed(text: str) -> str | None:
    """Return the closing bracket that the text lacks at its end."""
    closing: list[str] = []
    for token in _STRING_OR_BRACKET.finditer(text):
        mark = token[0]
        if mark in _BRACKETS:
            closing.append(_BRACKETS[mark])
        elif closing and mark == closing[-1]:
            closing.pop()
    return closing[-1] if closing else None


def _after_space(text: str, start: int) -> int:
    found = _SPACE.match(text, start)
    return found.end() if found else start


def _shortened(word: str) -> str:
    return word if len(word) <= 40 else f"{word[:40]}…"
