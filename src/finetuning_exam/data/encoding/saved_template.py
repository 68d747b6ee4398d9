"""The chat template that is saved with an adapter: it renders a question as training did.

Whoever serves the adapter asks the saved tokenizer for the prompt. So a run with the plain template
saves that one as a chat template, and a run whose prompts end with a header that the model's
template writes only on demand (such as the empty thought of models that can think) saves the
template with the demand in it. Tools and system texts are rendered as in training; see
`served_turns`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

from finetuning_exam.data.encoding.chat import question
from finetuning_exam.data.encoding.chat_template import ChatTemplate, joined
from finetuning_exam.data.encoding.encoder import Encoder
from finetuning_exam.data.encoding.served_turns import served_turns
from finetuning_exam.data.encoding.tokens import encode_texts
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.data.tool_text import Call, call_text
from finetuning_exam.errors import ModelError

_SWITCHES = ("enable_thinking", "thinking")
"""Variables with which templates let their user turn thinking off."""
_PLAIN = """\
{%- for message in messages -%}
{%- if message.content is string -%}
{%- set text = message.content -%}
{%- else -%}
{%- set text = message.content | map(attribute='text') | join -%}
{%- endif -%}
{%- if message.role == 'assistant' -%}
{{- '### Response:\\n' + text + eos_token -}}
{%- if not loop.last or add_generation_prompt -%}{{- '\\n\\n' -}}{%- endif -%}
{%- elif message.role == 'system' -%}
{{- '### System:\\n' + text + '\\n\\n' -}}
{%- else -%}
{{- '### Instruction:\\n' + text + '\\n\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '### Response:\\n' -}}{%- endif -%}
"""
_TALK = Example(
    "Question two",
    "",
    0,
    "",
    earlier=(Turn("user", "Question one"), Turn("assistant", "Answer one")),
)
_ASKED = Example("Question one", "", 0, "")
_SYSTEMATIC = replace(_TALK, earlier=(Turn("system", "Be brief."), *_TALK.earlier))
_CALL = call_text("A moment.", [Call("search", {"query": "tree", "most": 2})])
_CALLING = Example(
    "Nothing found.",
    "",
    0,
    "",
    earlier=(*_TALK.earlier, Turn("user", "Question two"), Turn("assistant", _CALL)),
    asked_by="tool",
    tools='[{"name": "search", "description": "Searches.", "parameters": {"type": "object"}}]',
)
_WITH_TOOLS = (_CALLING, replace(_CALLING, earlier=(_SYSTEMATIC.earlier[0], *_CALLING.earlier)))


def saved_template(encoder: Encoder, *, has_tools: bool = False) -> str | None:
    """Return the chat template to save with an adapter; None if none renders the run's prompts.

    It spells tools out as training did if the run `has_tools`. A template that writes today's date
    still does so: only the prompts of a run have a fixed one.
    """
    asked = [_ASKED, *filter(lambda it: _takes(encoder, it), (_TALK, _SYSTEMATIC))]
    if has_tools:
        asked += [it for it in _WITH_TOOLS if _takes(encoder, it)]
    shape = encoder.shape
    turns = served_turns(
        spells_tools=has_tools and not (shape and shape.takes_tools),
        folds_system=encoder.folds_system,
        in_question=shape is not None and not shape.takes_system,
    )
    candidates = (joined(turns, it) for it in _candidates(encoder))
    return next((it for it in candidates if _renders_as_trained(encoder, it, asked)), None)


def _candidates(encoder: Encoder) -> Iterator[str]:
    if encoder.shape is None:
        yield ("{{- bos_token -}}\n" if encoder.start_ids else "") + _PLAIN
        return
    template = str(encoder.tokenizer.chat_template)
    yield template
    for name in _SWITCHES:
        yield f"{{%- set {name} = false -%}}\n{template}"
    header = json.dumps(encoder.shape.header, ensure_ascii=False)
    yield f"{template}{{%- if add_generation_prompt -%}}{{{{- {header} -}}}}{{%- endif -%}}"


def _renders_as_trained(encoder: Encoder, template: str, asked: Sequence[Example]) -> bool:
    """Return whether a chat template gives the ids of the run's prompts."""
    date = encoder.shape.template.date if encoder.shape else None
    chat = ChatTemplate(encoder.tokenizer, date, template)
    try:
        texts = [chat.render(_turns(it), asks=True, tools=it.tools or None) for it in asked]
    except ModelError:
        return False
    found = encode_texts(encoder.tokenizer, encoder.backend, texts, split_special_tokens=False)
    return [tuple(ids) for ids in found] == [encoder.prompt_ids(it) for it in asked]


def _takes(encoder: Encoder, example: Example) -> bool:
    """Return whether the run's own template renders an example."""
    try:
        encoder.prompt_ids(example)
    except ModelError:
        return False
    return True


def _turns(example: Example) -> list[Turn]:
    return [*example.earlier, Turn(example.asked_by, question(example))]
