"""The properties of a chat template that hold for every conversation; see `inspect_template`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from finetuning_exam.data.encoding.chat_template import ChatTemplate


@dataclass(frozen=True, slots=True)
class ChatShape:
    """The properties of a chat template that hold for every conversation; see `chat_shape`."""

    template: ChatTemplate
    header: str
    """Text that precedes an answer but is missing from the template's generation prompt."""
    ending: str
    """All that the template writes after the last answer."""
    tokens: re.Pattern[str] | None
    """The tokenizer's added tokens; the first one that is written after an answer ends it."""
    marks: frozenset[str]
    """The added tokens that the template writes around turns."""
    missing_marks: tuple[str, ...]
    """Text that looks like a mark of the template, but is not a token of the tokenizer."""
    writes_date: bool
    opening: str = ""
    """What the generation prompt writes of a thought: `<think>` and white space, or nothing."""
    is_thinking: bool = False
    """True if answers begin with a thought; otherwise prompts end with an empty one, if any."""
    takes_tools: bool = False
    """True if the template itself renders definitions, calls and results of tools."""
    takes_system: bool = True
    """False if the template rejects or drops system turns."""
    takes_greeting: bool = True
    """False if the template takes no assistant turn before the first question."""
    rewrites_history: bool = False
    """True if an answer looks different once others follow it, so that each needs its own row."""

    @property
    def ends_with_token(self) -> bool:
        """True if the template writes a token after an answer, which ends it."""
        return self.tokens is not None and self.tokens.search(self.ending) is not None

    @property
    def stop_text(self) -> str:
        """The text that ends an answer where no token does; "" if there is none either."""
        return "" if self.ends_with_token else self.ending.strip()

    def ended(self, parts: Sequence[str]) -> tuple[str, ...]:
        """Return the parts of a conversation with each answer ending right after its last token.

        The whitespace after that is part of the next prompt, and dropped after the last answer.
        """
        if not self.ends_with_token:
            return tuple(parts)
        ended: list[str] = []
        between = ""
        for given, answer in zip(parts[::2], parts[1::2], strict=True):
            end = max((found.end() for found in self._ends(answer)), default=len(answer))
            ended += [between + given, answer[:end]]
            between = answer[end:]
        return tuple(ended)

    def _ends(self, answer: str) -> Iterator[re.Match[str]]:
        return self.tokens.finditer(answer) if self.tokens else iter(())
