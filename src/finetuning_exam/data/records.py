"""The typed form of a record: beyond the reader there are no dicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from finetuning_exam.data.findings import place


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class Example:
    """A parsed record: the question, the expected answer, and where the record stands.

    `instruction` and `answer` are a conversation's last question and answer; `earlier` holds the
    turns before them, a system turn first. A plain text has no instruction, only an answer.
    """

    instruction: str
    answer: str
    line: int
    path: str
    input: str = ""
    tag: str = ""
    group: str = ""
    earlier: tuple[Turn, ...] = ()
    column: int = 0
    """Where the record starts in its line, from 1; 0 if it is alone on its line."""

    @property
    def where(self) -> str:
        """`path:line` or `path:line:column`, as errors and reports name a record."""
        return place(self.path, self.line, self.column)

    @property
    def is_plain_text(self) -> bool:
        """True if there is no question, only a text to learn."""
        return not self.instruction and not self.earlier
