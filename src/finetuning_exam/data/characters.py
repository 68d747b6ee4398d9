"""Unintended characters: control and invisible ones, and text lost or decoded wrongly."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from finetuning_exam.data.findings import Finding
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.records import Example

_PATTERNS = (
    # C0 and C1 controls, but not tab and line feed
    (Kind.CONTROL_CHARACTER, re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")),
    (Kind.CARRIAGE_RETURN, re.compile("\r")),
    # Embeddings, overrides and isolates; the plain marks (U+200E, U+200F) belong to such text
    (Kind.BIDI_CONTROL, re.compile("[\u202a-\u202e\u2066-\u2069]")),
    # Not the joiners, which Persian and emoji need, and not the tags of a flag (U+1F3F4 …)
    (
        Kind.INVISIBLE_CHARACTER,
        re.compile(
            "[\u00ad\u180e\u200b\u2060-\u2064\ufeff]"
            "|(?<![\U0001f3f4\U000e0020-\U000e007e])[\U000e0000-\U000e007f]"
        ),
    ),
    (Kind.REPLACEMENT_CHARACTER, re.compile("\ufffd")),
)
_PLAIN = re.compile("[\t\n -~]*")
"""Text without any of them: printable ASCII and ordinary whitespace."""
_NEXT = (
    "[\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013\u2014"
    "\u2018-\u201a\u201c-\u201e\u2020-\u2022\u2026\u2030\u2039\u203a\u20ac\u2122]"
)
_WRONGLY_DECODED = re.compile(f"[ÂÃÐÑ]{_NEXT}|[â-é]{_NEXT}{{2}}|ð{_NEXT}{{3}}")
"""A UTF-8 lead byte and its continuation bytes, all decoded as Windows-1252."""


def character_findings(example: Example) -> Iterator[Finding]:
    """Yield at most one finding per kind and text of an example, at its first such character."""
    for name, text in named_texts(example):
        if _PLAIN.fullmatch(text):
            continue
        for kind, pattern in _PATTERNS:
            if found := pattern.search(text):
                detail = f"{name} contains {_name(found[0])} at character {found.start() + 1}"
                yield Finding(kind, detail, example.path, example.line, example.column)
        if mojibake := _mojibake(text):
            wrong, right = mojibake
            detail = f"{name} contains {wrong!r}, which should be {right!r}"
            yield Finding(Kind.MOJIBAKE, detail, example.path, example.line, example.column)


def named_texts(example: Example) -> Iterator[tuple[str, str]]:
    """Yield each text of an example with the name that findings call it by."""
    names = {
        "system": "the system turn",
        "user": "an earlier question",
        "assistant": "an earlier answer",
        "tool": "the result of a tool",
    }
    yield from ((names[turn.role], turn.text) for turn in example.earlier)
    yield names["tool"] if example.asked_by == "tool" else "the prompt", example.instruction
    yield "the input", example.input
    yield "the text" if example.is_plain_text else "the answer", example.answer


def _mojibake(text: str) -> tuple[str, str] | None:
    """Return a piece of UTF-8 that was decoded as Windows-1252, and the same decoded correctly."""
    for found in _WRONGLY_DECODED.finditer(text):
        try:
            octets = b"".join(
                char.encode("latin-1" if char < "\u0100" else "cp1252") for char in found[0]
            )
            return found[0], octets.decode("utf-8")
        except UnicodeError:
            continue
    return None


def _name(character: str) -> str:
    """Return a character's code point, with its Unicode name if it has one."""
    name = unicodedata.name(character, "")
    return f"U+{ord(character):04X}" + (f" ({name.lower()})" if name else "")
