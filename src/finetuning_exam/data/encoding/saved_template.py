"""The chat template that is saved with an adapter: it renders a question as training did.

Whoever serves the adapter asks the saved tokenizer for the prompt. So a run with the plain template
saves that one as a chat template, and a run whose prompts end with a header that the model's
template writes only on demand (such as the empty thought of models that can think) saves the
template with the demand in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from finetuning_exam.data.encoding.chat import question
from finetuning_exam.data.encoding.chat_template import ChatTemplate
from finetuning_exam.data.encoding.encoder import Encoder
from finetuning_exam.data.encoding.tokens import encode_texts
from finetuning_exam.data.records import Example, Turn
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


def saved_template(encoder: Encoder) -> str | None:
    """Return the chat template to save with an adapter; None if none renders the run's prompts.

    A template that writes today's date still does so: only the prompts of a run have a fixed one.
    """
    return next((it for it in _candidates(encoder) if _renders_as_trained(encoder, it)), None)


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


def _renders_as_trained(encoder: Encoder, template: str) -> bool:
    """Return whether a chat template gives the ids of the run's prompts, for one or two turns."""
    date = encoder.shape.template.date if encoder.shape else None
    chat = ChatTemplate(encoder.tokenizer, date, template)
    asked = [_ASKED, *([_TALK] if _takes(encoder, _TALK) else [])]
    try:
        texts = [chat.render(_turns(it), asks=True) for it in asked]
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
    return [*example.earlier, Turn("user", question(example))]
