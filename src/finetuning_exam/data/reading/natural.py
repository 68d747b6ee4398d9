"""Tell natural text from what else a field of strings may hold: ids, numbers, JSON and the like."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import Literal

from finetuning_exam.data.reading.packed_text import is_json, is_python

Content = Literal[
    "text",
    "single words",
    "JSON as text",
    "Python's notation as text",
    "identifiers",
    "numbers",
    "dates",
    "addresses or paths",
]
NATURAL: tuple[Content, ...] = ("text", "single words")
SAMPLE = 1000
"""The number of values that are looked at."""
METADATA = frozenset(
    {"id", "ids", "uid", "uuid", "guid", "idx", "index", "key", "hash", "url", "uri", "link"}
    | {"source", "origin", "split", "subset", "fold", "lang", "language", "locale", "license"}
    | {"date", "time", "timestamp", "author", "model", "file", "filename", "path", "dataset"}
    | {"version", "tag", "group", "system", "system_prompt", "history", "weight"}
)
"""Names of fields that describe a record and are never suggested as its text."""

_LONGEST_LOOKED_AT = 200
_NUMBER = re.compile(r"[-+]?[$€£]?\d[\d.,_ ]*([eE][-+]?\d+)?\s?%?|true|false|nan", re.IGNORECASE)
_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ]\S+( ?\S+)?)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}( \S+)?"
)
_ADDRESS = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*://\S+|www\.\S+|\S+@\S+\.\w+|(~|\.{0,2}|[A-Za-z]:|[\w.-]+)([/\\][\w.-]+)+"
    r"|[\w-]+\.[A-Za-z][A-Za-z0-9]{1,4}",
    re.ASCII,
)
_ID = re.compile(r"[\x21-\x7e]*\d[\x21-\x7e]*|[0-9a-fA-F]{16,}|[A-Za-z]+([_:#/][A-Za-z]*)+")
"""A token of ASCII with a digit, a long hexadecimal number, or joined names."""
_LETTER = re.compile(r"[^\W\d_]")
_SPACED = re.compile(r"\S\s+\S")


def content_of(values: Iterable[object]) -> Content | None:
    """Return what most of the values hold; None if they are not strings, or all empty.

    A value counts as text if it has several words, or letters of a script without spaces; a
    field of words is a text if more than a quarter of them do.
    """
    counts: Counter[Content] = Counter()
    for value in islice((it for it in values if it is not None), SAMPLE):
        if not isinstance(value, str):
            return None
        if text := value.strip():
            counts[_content(text)] += 1
    if not counts:
        return None
    words = counts["text"] + counts["single words"]
    if 2 * words > counts.total():
        return "text" if 4 * counts["text"] > words else "single words"
    return next(content for content, _ in counts.most_common() if content not in NATURAL)


def _is_unspaced(char: str) -> bool:
    """Return whether a character is of a script without spaces (Thai to Hangul)."""
    return "\u0e00" <= char <= "\u0fff" or "\u3040" <= char <= "\ud7a3"


def _content(text: str) -> Content:
    if text[0] in "[{(" and text[-1] in "]})":
        if is_json(text):
            return "JSON as text"
        if is_python(text):
            return "Python's notation as text"
    text = text[:_LONGEST_LOOKED_AT]
    if _NUMBER.fullmatch(text):
        return "numbers"
    if _DATE.fullmatch(text):
        return "dates"
    if _SPACED.search(text):
        return "text" if _LETTER.search(text) else "numbers"
    if not text.isascii() and any(_is_unspaced(char) for char in text):
        return "text"
    if _ADDRESS.fullmatch(text):
        return "addresses or paths"
    if _ID.fullmatch(text):
        return "identifiers"
    return "single words" if _LETTER.search(text) else "identifiers"
