"""Inspect a chat template once, with conversations of words that occur in no template."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime

from finetuning_exam.data.encoding.chat import PLACEHOLDER, chat_parts, no_prefix, not_shown
from finetuning_exam.data.encoding.chat_shape import ChatShape
from finetuning_exam.data.encoding.chat_template import ChatTemplate
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.data.thoughts import OPENING
from finetuning_exam.data.tool_text import Call, call_text
from finetuning_exam.errors import ModelError

_SYSTEM = Turn("system", "System7qZvWx")
_QUESTION = Turn("user", "Question7qZvWx")
_ANSWER = PLACEHOLDER
"""A conversation of words that occur in no template."""
_TOOL = "tool7qZvWx"
_TALK = Example(_QUESTION.text, _ANSWER.text, 0, "", earlier=(_QUESTION, _ANSWER))
_CALLING = Example(
    "Result7qZvWx",
    _ANSWER.text,
    0,
    "",
    earlier=(_QUESTION, Turn("assistant", call_text("", [Call(_TOOL, {"key7qZvWx": 1})]))),
    asked_by="tool",
    tools=json.dumps(
        [{"name": _TOOL, "description": "", "parameters": {"type": "object", "properties": {}}}]
    ),
)
_TWO_DATES = (datetime(1999, 1, 1, 1, 1), datetime(2024, 12, 22, 22, 22))
_MARK = re.compile(r"<\|[^|<>\s]{1,40}\|>|</?(?:start|end)_of_\w{1,20}>|<(?:bos|eos|s)>|</s>")


def inspect_template(
    template: ChatTemplate, tokens: re.Pattern[str] | None, *, is_thinking: bool = False
) -> ChatShape:
    """Inspect a chat template once, with words that can only come from the conversation.

    `tokens` matches the tokenizer's added tokens. A template that rejects or drops system turns is
    accepted as long as there are none.

    Raises:
        ModelError: the template cannot be used for a single question; see `chat_parts`.
    """
    prompt = template.render([_QUESTION], asks=True)
    whole = template.render([_QUESTION, _ANSWER], asks=False)
    if _QUESTION.text not in prompt:
        raise not_shown(_QUESTION)
    found = OPENING.search(prompt)
    opening = found[0] if found and not whole.startswith(prompt) else ""
    bare = prompt.removesuffix(opening)
    if not whole.startswith(bare):
        raise no_prefix()
    header, shown, ending = whole[len(bare) :].partition(_ANSWER.text)
    if not shown:
        raise not_shown(_ANSWER)
    around = prompt + ending
    shape = ChatShape(
        template,
        # Whitespace alone is not a header: it starts the answer, and its first token.
        "\n</think>\n\n" if opening else header if header.strip() else "",
        ending,
        tokens,
        frozenset(tokens.findall(around)) if tokens else frozenset(),
        _missing_marks(tokens.sub(" ", around) if tokens else around),
        _shows_system(template),
        _writes_date(template),
        opening,
        is_thinking,
    )
    shape = replace(shape, rewrites_history=_rewrites_history(shape))
    return replace(shape, takes_tools=_can_render(_CALLING, replace(shape, takes_tools=True)))


def _rewrites_history(shape: ChatShape) -> bool:
    """Return whether a second exchange changes the first, and the template takes the two apart."""
    talk = replace(_TALK, answer=f"<think>\nT7qZvWx\n</think>\n\n{_ANSWER.text}")
    talk = replace(talk, earlier=(_QUESTION, Turn("assistant", talk.answer)))
    talk = talk if shape.is_thinking else _TALK
    return not _can_render(talk, shape) and _can_render(talk, replace(shape, rewrites_history=True))


def _can_render(example: Example, shape: ChatShape) -> bool:
    try:
        parts = chat_parts(example, shape)
    except ModelError:
        return False
    return not example.tools or _TOOL in "".join(parts)


def _missing_marks(text: str) -> tuple[str, ...]:
    """Return what looks like a mark in the text of a template without its tokens."""
    return tuple(dict.fromkeys(_MARK.findall(text)))


def _shows_system(template: ChatTemplate) -> bool:
    """Return whether a system turn is in the prompt, or is rejected with an error."""
    try:
        text = template.render([_SYSTEM, _QUESTION], asks=True)
    except ModelError:  # rendering an example with a system turn says why
        return True
    return _SYSTEM.text in text


def _writes_date(template: ChatTemplate) -> bool:
    """Return whether the prompt is another one at another date."""
    one, other = (
        replace(template, date=date).render([_QUESTION], asks=True) for date in _TWO_DATES
    )
    return one != other
