"""Specification of the chat template that is saved with an adapter."""

from __future__ import annotations

from copy import copy
from datetime import datetime

import pytest
from encoders import CHATML, HEADER_ALWAYS, KINDS, Encoders, MakeTokenizer
from families import FAMILIES, family
from transformers import PreTrainedTokenizerFast

from finetuning_exam.data.encoding.encoder import Encoder, make_encoder
from finetuning_exam.data.encoding.saved_template import saved_template
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.settings import Template

ASKED = Example("What does ls do?", "", 1, "d.jsonl")
TALK = Example(
    "And -a?",
    "",
    2,
    "d.jsonl",
    earlier=(Turn("user", "What does ls do?"), Turn("assistant", "It lists files.")),
)
THINKING = CHATML.replace(
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if SWITCH is defined and SWITCH is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
).replace(
    "{{ message.content }}",
    "{% if message.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ message.content }}",
)
SYSTEM_LINE = "{{ '<|im_start|>system\nToday is ' + strftime_now('%d %b %Y') + '<|im_end|>\n' }}"


def _served(encoder: Encoder, example: Example, **variables: object) -> tuple[int, ...]:
    """Return the ids of the prompt that a server makes with the saved tokenizer."""
    assert isinstance(encoder.tokenizer, PreTrainedTokenizerFast)
    tokenizer = copy(encoder.tokenizer)
    tokenizer.chat_template = saved_template(encoder)
    turns = [*example.earlier, Turn("user", example.instruction)]
    ids = tokenizer.apply_chat_template(
        [{"role": turn.role, "content": turn.text} for turn in turns],
        add_generation_prompt=True,
        return_dict=False,
        **variables,
    )
    return tuple(ids)


@pytest.mark.parametrize("template", ["plain", "chat"])
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("example", [ASKED, TALK], ids=["one question", "a conversation"])
def test_a_server_sends_the_ids_of_training(
    name: str, template: Template, example: Example
) -> None:
    """For every family of tokenizers and both templates."""
    encoder = make_encoder(family(name), template)
    assert _served(encoder, example) == encoder.prompt_ids(example)


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_sends_the_ids_of_training_in_any_template(encoders: Encoders, kind: str) -> None:
    """For every kind of template, with and without a token at the start and the end."""
    encoder = encoders[kind, "answers"]
    assert _served(encoder, ASKED) == encoder.prompt_ids(ASKED)


def test_the_plain_template_has_a_system_turn_and_parts(make_tokenizer: MakeTokenizer) -> None:
    """The saved plain template renders a system turn, and content that is a list of parts."""
    encoder = make_encoder(make_tokenizer(), "plain")
    template = saved_template(encoder)
    tokenizer = make_tokenizer(chat_template=template)
    parts = [{"type": "text", "text": "What does "}, {"type": "text", "text": "ls do?"}]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == (
        "### System:\nBe brief.\n\n### Instruction:\nWhat does ls do?\n\n### Response:\n"
    )


@pytest.mark.parametrize("switch", ["enable_thinking", "thinking"])
def test_a_thought_that_is_given_in_training_is_given_later(
    make_tokenizer: MakeTokenizer, switch: str
) -> None:
    """A template that writes the empty thought on demand is saved with the demand in it; the user
    of the saved tokenizer need not know of it, and cannot turn it off.
    """
    tokenizer = make_tokenizer(chat_template=THINKING.replace("SWITCH", switch))
    encoder = make_encoder(tokenizer, "chat")
    assert encoder.shape is not None
    assert encoder.shape.header == "<think>\n\n</think>\n\n"
    assert _served(encoder, ASKED) == encoder.prompt_ids(ASKED)
    assert _served(encoder, ASKED, **{switch: True}) == encoder.prompt_ids(ASKED)


def test_a_header_without_a_switch_is_added(make_tokenizer: MakeTokenizer) -> None:
    """A header that no variable of the template turns on is written at its end."""
    tokenizer = make_tokenizer(chat_template=THINKING.replace("SWITCH", "quiet"))
    encoder = make_encoder(tokenizer, "chat")
    template = saved_template(encoder)
    assert template is not None
    assert template.startswith(str(tokenizer.chat_template))
    assert _served(encoder, ASKED) == encoder.prompt_ids(ASKED)


@pytest.mark.parametrize("template", [CHATML, HEADER_ALWAYS])
def test_a_template_that_needs_nothing_is_saved_as_it_is(
    make_tokenizer: MakeTokenizer, template: str
) -> None:
    """A template whose generation prompt is complete stays what it is."""
    assert saved_template(make_encoder(make_tokenizer(chat_template=template), "chat")) == template


def test_a_date_stays_todays_in_the_saved_template(make_tokenizer: MakeTokenizer) -> None:
    """A run fixes the date of its own prompts; the saved template writes the date of its use."""
    template = SYSTEM_LINE + CHATML
    date = datetime(2024, 2, 29)
    encoder = make_encoder(make_tokenizer(chat_template=template), "chat", date=date)
    assert saved_template(encoder) == template
