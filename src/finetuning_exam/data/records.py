"""The typed form of a record: beyond the reader there are no dicts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from finetuning_exam.data.findings import place

Role = Literal["system", "user", "assistant", "tool"]
"""Who speaks in a turn; `tool` is the result of a call."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation.

    `weight` is the factor of an assistant turn's loss in training; with 0 the turn is only read.
    Calls of tools are part of the text; see `tool_text`.
    """

    role: Role
    text: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Example:
    """A parsed record: the question, the expected answer, and where the record stands.

    `instruction` and `answer` are a conversation's last question and answer; `earlier` holds the
    turns before them, a system turn first. A plain text has no instruction, only an answer.
    `instruction` is the result of a tool where `asked_by` says so. `tools` defines the tools that
    may be called, as a JSON list; "" without any. `weight` is that of the last answer.
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
    asked_by: Literal["user", "tool"] = "user"
    tools: str = ""
    weight: float = 1.0

    @property
    def where(self) -> str:
        """`path:line` or `path:line:column`, as errors and reports name a record."""
        return place(self.path, self.line, self.column)

    @property
    def weights(self) -> tuple[float, ...]:
        """The weight of each answer, in order."""
        earlier = (turn.weight for turn in self.earlier if turn.role == "assistant")
        return (*earlier, self.weight)

    @property
    def trained_answers(self) -> tuple[int, ...]:
        """The indices in `earlier` of the answers whose weight is not 0.

        A greeting before the first question answers nothing, and is none of them.
        """
        roles = [turn.role for turn in self.earlier]
        asked = roles.index("user") if "user" in roles else len(roles)
        answers = (at for at, role in enumerate(roles) if role == "assistant" and at > asked)
        return tuple(at for at in answers if self.earlier[at].weight)

    @property
    def has_greeting(self) -> bool:
        """True if an assistant turn stands before the first question."""
        spoken = [turn.role for turn in self.earlier if turn.role != "system"]
        return spoken[:1] == ["assistant"]

    def up_to_answer(self, index: int) -> Example:
        """Return the conversation that ends with the answer at an index of `earlier`."""
        asked, answer = self.earlier[index - 1], self.earlier[index]
        return replace(
            self,
            earlier=self.earlier[: index - 1],
            instruction=asked.text,
            input="",
            asked_by="tool" if asked.role == "tool" else "user",
            answer=answer.text,
            weight=answer.weight,
        )

    @property
    def is_plain_text(self) -> bool:
        """True if there is no question, only a text to learn."""
        return not self.instruction and not self.earlier
