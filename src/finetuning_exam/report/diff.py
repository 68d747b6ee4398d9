"""Compare two texts word by word."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a text; `is_new` if the reference does not have it."""

    text: str
    is_new: bool


def compare_words(text: str, reference: str) -> tuple[Span, ...]:
    """Split a text into new and known pieces, word by word; the joined pieces are the text."""
    words = re.findall(r"\S+\s*|^\s+", text)
    bare = [word.strip() for word in words]
    matcher = SequenceMatcher(None, bare, reference.split(), autojunk=False)
    spans: list[Span] = []
    done = 0
    for start, _, length in matcher.get_matching_blocks():
        new, same = words[done:start], words[start : start + length]
        if new:
            piece = "".join(new)
            spans.append(Span(piece.rstrip(), True))
            spans.append(Span(piece[len(piece.rstrip()) :], False))
        spans.append(Span("".join(same), False))
        done = start + length
    return tuple(span for span in spans if span.text)
