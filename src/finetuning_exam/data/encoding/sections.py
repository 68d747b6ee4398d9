"""The ids of a text in parts, given and answered in turn: those of the whole text.

A tokenizer may give other ids to a text in pieces than to the whole: it may put a blank before each
text it is given, or join the last character of one piece and the first of the next in one token.
So a text is tokenized as a whole, and its prompts beside it: where the ids of a prompt are the
first ids of the whole, the rest of them are those of the answer. Where a token spans prompt and
answer, the prompt keeps the ids that it has at inference, and the answer is tokenized apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from finetuning_exam.data.encoding.tokens import Tokenizer, encode_texts

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

_ANCHORS = ("\n", "a", "1")
"""Texts to tokenize a piece behind, so that the piece does not begin a text."""


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of a row that is tokenized as one text; the last of its parts is an answer.

    `lead` is the text of the special token before it, or "".
    """

    lead: str
    parts: tuple[str, ...]

    @property
    def prompt(self) -> str:
        """The text up to the last answer."""
        return "".join(self.parts[:-1])

    @property
    def whole(self) -> str:
        """The text of all parts."""
        return "".join(self.parts)

    def inner_prompts(self) -> Iterator[str]:
        """Yield the text up to each end of a part within the prompt, the shortest first."""
        text = ""
        for part in self.parts[:-2]:
            text += part
            yield text


class Ids:
    """The ids of texts after a lead, which are remembered.

    `special` matches special tokens that are ordinary text in the data; None where a template
    wants them obeyed.
    """

    def __init__(
        self, tokenizer: Tokenizer, backend: Backend | None, special: re.Pattern[str] | None
    ) -> None:
        self._tokenizer = tokenizer
        self._backend = backend
        self._special = special
        self._known: dict[str, tuple[int, ...]] = {}

    def learn(self, sections: Iterable[Section]) -> None:
        """Tokenize all texts of sections together, except those with special tokens."""
        texts = dict.fromkeys(
            section.lead + text
            for section in sections
            if not self._has_special(section.whole)
            for text in (section.lead, *section.inner_prompts(), section.prompt, section.whole)
        )
        self._known |= zip(texts, self._encode(list(texts)), strict=True)

    def of(self, text: str, lead: str = "") -> tuple[int, ...]:
        """Return the ids of a text that stands after a lead, without the lead's own."""
        if self._has_special(text):
            return self._encode([text], split_special_tokens=True)[0]
        return self._remembered(lead + text)[len(self._remembered(lead)) :]

    def _remembered(self, text: str) -> tuple[int, ...]:
        if text not in self._known:
            self._known[text] = self._encode([text])[0]
        return self._known[text]

    def _has_special(self, text: str) -> bool:
        return self._special is not None and self._special.search(text) is not None

    def _encode(
        self, texts: list[str], *, split_special_tokens: bool = False
    ) -> list[tuple[int, ...]]:
        found = encode_texts(
            self._tokenizer, self._backend, texts, split_special_tokens=split_special_tokens
        )
        return [tuple(ids) for ids in found]


def section_ids(section: Section, ids: Ids) -> list[tuple[int, ...]]:
    """Return the ids of each part; joined they are those of the whole text, unless a token would
    span the prompt and the last answer.

    The ids of a part depend on the parts before it, never on those after it.
    """
    given = _prompt_ids(section, ids)
    prompt = ids.of(section.prompt, section.lead)
    whole = ids.of(section.whole, section.lead)
    if whole[: len(prompt)] == prompt:
        return [*given, whole[len(prompt) :]]
    return [*given, _within(section.parts[-1], ids)]


def _prompt_ids(section: Section, ids: Ids) -> list[tuple[int, ...]]:
    """Return the ids of each part before the last answer; joined they are those of the prompt.

    A token that spans an answer and what is given belongs to the answer.
    """
    prompt = ids.of(section.prompt, section.lead)
    ends = [0]
    for number, text in enumerate(section.inner_prompts()):
        start = ids.of(text, section.lead)
        if prompt[: len(start)] == start:
            end = len(start)
        else:  # without what follows, the last characters would be other tokens
            rest = _within(section.prompt[len(text) :], ids)
            end = len(prompt) - _n_common(reversed(prompt), reversed(rest))
            if prompt[end:] != rest and number % 2 == 0:  # a token spans it and the next answer
                end = _n_common(prompt, start)
        ends.append(max(end, ends[-1]))
    return [prompt[start:end] for start, end in zip(ends, [*ends[1:], len(prompt)], strict=True)]


def _within(text: str, ids: Ids) -> tuple[int, ...]:
    """Return the ids of a text that stands within another and shares no token with it."""
    for anchor in _ANCHORS if text else ():
        before, both = ids.of(anchor), ids.of(anchor + text)
        if both[: len(before)] == before:
            return both[len(before) :]
    return ids.of(text)


def _n_common(one: Iterable[int], other: Iterable[int]) -> int:
    """Return the number of ids with which both begin."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
