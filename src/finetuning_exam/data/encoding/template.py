"""The text that a model sees, rendered the same for training, exam and compare."""

from __future__ import annotations

from dataclasses import dataclass

from finetuning_exam.data.encoding.chat import chat_parts
from finetuning_exam.data.encoding.chat_shape import ChatShape
from finetuning_exam.data.encoding.chat_template import ChatTokenizer
from finetuning_exam.data.encoding.system_text import folded
from finetuning_exam.data.encoding.tools import spelled_out, uses_tools
from finetuning_exam.data.records import Example
from finetuning_exam.errors import ModelError
from finetuning_exam.settings import Template


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of an example's text: given, or answered by the assistant."""

    text: str
    is_answer: bool


Rendered = tuple[Segment, ...]
"""An example as text, given and answered in turn; the last segment is the last answer."""


def prompt_func(example: Example) -> str:
    """Return the prompt half of `formatting_func`: all that the model is given at inference.

    A conversation's earlier answers are included, without the end tokens that encoding adds.
    """
    return "".join(segment.text for segment in render(example)[:-1])


def formatting_func(example: Example) -> str:
    """Return the whole text of an example in the plain template, without the end tokens."""
    return prompt_func(example) + example.answer


def choose_template(wanted: Template, tokenizer: ChatTokenizer) -> Template:
    """Resolve `auto`: `chat` for a tokenizer with a chat template, else `plain`.

    Raises:
        ModelError: `chat` is wanted and there is no chat template.
    """
    has_chat = bool(tokenizer.chat_template)
    if wanted == "auto":
        return "chat" if has_chat else "plain"
    if wanted == "chat" and not has_chat:
        raise ModelError("The tokenizer has no chat template.", "Use --template plain.")
    return wanted


def render(
    example: Example, shape: ChatShape | None = None, *, folds_system: bool = False
) -> Rendered:
    """Render an example in a chat template, or in the plain one; a plain text is left as it is.

    Tools are spelled out where the template does not take them. If it `folds_system`, a system text
    is part of the first question.

    Raises:
        ModelError: the chat template cannot be used; see `chat_parts`.
    """
    if uses_tools(example) and not (shape and shape.takes_tools):
        is_refused = shape is not None and not shape.takes_system
        example = spelled_out(example, in_question=is_refused)
    if folds_system:
        example = folded(example)
    if shape is None or example.is_plain_text:
        return _plain(example)
    parts = chat_parts(example, shape)
    return tuple(Segment(text, is_answer=index % 2 == 1) for index, text in enumerate(parts))


def _plain(example: Example) -> Rendered:
    last = Segment(example.answer, is_answer=True)
    if example.is_plain_text:
        return (last,)
    section = f"### Input:\n{example.input}\n\n" if example.input else ""
    asked = f"### Instruction:\n{example.instruction}\n\n{section}### Response:\n"
    if not example.earlier:
        return (Segment(asked, is_answer=False), last)
    segments: list[Segment] = []
    given = ""
    for turn in example.earlier:
        if turn.role == "assistant":
            segments += [
                Segment(f"{given}### Response:\n", is_answer=False),
                Segment(turn.text, is_answer=True),
            ]
            given = "\n\n"
        else:
            heading = "System" if turn.role == "system" else "Instruction"
            given += f"### {heading}:\n{turn.text}\n\n"
    return (*segments, Segment(given + asked, is_answer=False), last)
