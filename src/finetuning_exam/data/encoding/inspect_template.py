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
from finetuning_exam.data.thoughts import OPENING, with_thought
from finetuning_exam.data.tool_text import Call, call_text
from finetuning_exam.errors import ModelError

_SYSTEM = Turn("system", "System7qZvWx")
_QUESTION = Turn("user", "Question7qZvWx")
"""A conversation of words that occur in no template."""
_TOOL, _DESCRIPTION = "tool7qZvWx", "Tells7qZvWx"
_TALK = Example(_QUESTION.text, PLACEHOLDER.text, 0, "", earlier=(_QUESTION, PLACEHOLDER))
_CALLING = Example(
    '{"result": "7qZvWx"}\n"',
    PLACEHOLDER.text,
    0,
    "",
    earlier=(
        _QUESTION,
        Turn("assistant", call_text("Said7qZvWx", [Call(_TOOL, {"key": "\u00fc'7"})] * 2)),
    ),
    asked_by="tool",
    tools=json.dumps(
        [
            {
                "name": _TOOL,
                "description": _DESCRIPTION,
                "parameters": {"type": "object", "properties": {}},
            }
        ]
    ),
)
_SYSTEMATIC = Example(_QUESTION.text, PLACEHOLDER.text, 0, "", earlier=(_SYSTEM,))
_GREETED = Example(
    _QUESTION.text, PLACEHOLDER.text, 0, "", earlier=(Turn("assistant", "Greeting7qZvWx"),)
)
_THINK = re.compile("</?think>")
"""Marks of thoughts, which are part of an answer and not marks around turns."""
_TWO_DATES = (datetime(1999, 1, 1, 1, 1), datetime(2024, 12, 22, 22, 22))
_MARK = re.compile(r"<\|[^|<>\s]{1,40}\|>|</?(?:start|end)_of_\w{1,20}>|<(?:bos|eos|s)>|</s>")


def inspect_template(
    template: ChatTemplate, tokens: re.Pattern[str] | None, *, is_thinking: bool = False
) -> ChatShape:
    """Inspect a chat template once, with words that can only come from the conversation.

    `tokens` matches the tokenizer's added tokens. A template that rejects or drops system turns, or
    a greeting before the first question, is accepted as long as there are none.

    Raises:
        ModelError: the template cannot be used for a single question; see `chat_parts`.
    """
    prompt = template.render([_QUESTION], asks=True)
    whole = template.render([_QUESTION, PLACEHOLDER], asks=False)
    if _QUESTION.text not in prompt:
        raise not_shown(_QUESTION)
    found = OPENING.search(prompt)
    opening = found[0] if found else ""
    bare = prompt.removesuffix(opening)
    if not whole.startswith(bare):
        raise no_prefix()
    header, shown, ending = whole[len(bare) :].partition(PLACEHOLDER.text)
    if not shown:
        raise not_shown(PLACEHOLDER)
    around = _THINK.sub(" ", prompt + ending)
    if whole.startswith(prompt):
        header = whole[len(prompt) :].partition(PLACEHOLDER.text)[0]
    elif opening:
        header = "\n</think>\n\n"
    shape = ChatShape(
        template,
        # Whitespace alone is not a header: it starts the answer, and its first token.
        header if header.strip() else "",
        ending,
        tokens,
        frozenset(tokens.findall(around)) if tokens else frozenset(),
        _missing_marks(tokens.sub(" ", around) if tokens else around),
        _writes_date(template),
        opening,
        is_thinking,
    )
    shape = replace(shape, rewrites_history=_rewrites_history(shape))
    shape = replace(
        shape,
        takes_system=_can_render(_SYSTEMATIC, shape),
        takes_greeting=_can_render(_GREETED, shape),
    )
    return replace(shape, takes_tools=_takes_tools(replace(shape, takes_tools=True)))


def _takes_tools(shape: ChatShape) -> bool:
    """Return whether the template shows definitions, calls and results as they are.

    Calls must stand in the form of `tool_text`, beside what the answer says and several at once,
    within the history and as the last answer; a result may be JSON. Otherwise the exam could not
    read them, or something would be lost.
    """
    called = Example(_QUESTION.text, _CALLING.earlier[1].text, 0, "", tools=_CALLING.tools)
    return all(_can_render(it, shape) for it in (_CALLING, called))


def _rewrites_history(shape: ChatShape) -> bool:
    """Return whether a second exchange changes the first, and the template takes the two apart."""
    talk = _TALK
    if shape.is_thinking:
        thinks = with_thought("T7qZvWx", PLACEHOLDER.text)
        talk = replace(talk, answer=thinks, earlier=(_QUESTION, Turn("assistant", thinks)))
    return not _can_render(talk, shape) and _can_render(talk, replace(shape, rewrites_history=True))


def _can_render(example: Example, shape: ChatShape) -> bool:
    try:
        parts = chat_parts(example, shape)
    except ModelError:
        return False
    return not example.tools or f'"description": "{_DESCRIPTION}"' in "".join(parts)


def _missing_marks(text: str) -> tuple[str, ...]:
    """Return what looks like a mark in the text of a template without its tokens."""
    return tuple(dict.fromkeys(_MARK.findall(text)))


def _writes_date(template: ChatTemplate) -> bool:
    """Return whether the prompt is another one at another date."""
    one, other = (
        replace(template, date=date).render([_QUESTION], asks=True) for date in _TWO_DATES
    )
    return one != other
