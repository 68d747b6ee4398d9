"""Specification of the chat template that is saved with an adapter."""

from __future__ import annotations

import json
from copy import copy
from dataclasses import replace
from datetime import datetime

import pytest
from encoders import CHATML, HEADER_ALWAYS, KINDS, Encoders, MakeTokenizer
from families import FAMILIES, family
from transformers import PreTrainedTokenizerFast

from finetuning_exam.data.encoding.encoder import Encoder, make_encoder
from finetuning_exam.data.encoding.saved_template import saved_template
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.data.tool_text import Call, call_text
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


TOOLS: list[dict[str, object]] = [
    {"name": "weather", "description": "Tells it <at once> & \u201cwell\u201d.", "parameters": {}},
    {"name": "time", "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}}},
]
BERN, ROME = (
    Call("weather", {"city": "Bern", "days": [1, 2]}),
    Call("time", {"zone": "Z\u00fcrich"}),
)
SYSTEM = Turn("system", "Be brief.")
CALLING = Example(
    "Sun <b>.",
    "",
    1,
    "d.jsonl",
    earlier=(Turn("user", "Weather?"), Turn("assistant", call_text("A moment. ", [BERN]))),
    asked_by="tool",
    tools=json.dumps(TOOLS),
)
PARALLEL = replace(
    CALLING,
    earlier=(
        SYSTEM,
        *TALK.earlier,
        Turn("user", "And now?"),
        Turn("assistant", call_text("", [BERN, ROME])),
        Turn("tool", '{"sun": true}'),
    ),
)
ANSWERED = replace(
    CALLING,
    asked_by="user",
    instruction="Thanks. And tomorrow?",
    earlier=(*CALLING.earlier, Turn("tool", "Rain."), Turn("assistant", "Take a hat.")),
)
OFFERED = replace(ASKED, tools=CALLING.tools)
WITH_TOOLS = {
    "a result": CALLING,
    "parallel calls after a system turn": PARALLEL,
    "a later question": ANSWERED,
    "tools at hand": OFFERED,
    "no tools": TALK,
}
REFUSES = "{% if messages[0].role == 'system' %}{{ raise_exception('No') }}{% endif %}" + CHATML
DATED = SYSTEM_LINE + CHATML


def _messages(example: Example, *, as_text: bool) -> list[dict[str, object]]:
    """Return a conversation as a client of OpenAI's API sends it; arguments `as_text`, or not."""
    asked = Turn(example.asked_by, example.instruction)
    calls = {turn.text: called for turn, called in CALLS if turn in example.earlier}
    return [
        _with_calls(calls[turn.text], as_text=as_text)
        if turn.text in calls
        else {"role": turn.role, "content": turn.text}
        for turn in (*example.earlier, asked)
    ]


CALLS = [
    (CALLING.earlier[1], ("A moment. ", [BERN])),
    (PARALLEL.earlier[-2], (None, [BERN, ROME])),
]


def _with_calls(said: tuple[str | None, list[Call]], *, as_text: bool) -> dict[str, object]:
    content, calls = said
    made = [
        {"name": it.name, "arguments": json.dumps(it.arguments, ensure_ascii=False)}
        if as_text
        else it._asdict()
        for it in calls
    ]
    wrapped = [{"id": "1", "type": "function", "function": it} for it in made]
    return {"role": "assistant", "content": content, "tool_calls": wrapped}


@pytest.mark.parametrize("folds", [False, True])
@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("template", [CHATML, HEADER_ALWAYS, REFUSES, DATED, None])
@pytest.mark.parametrize("example", WITH_TOOLS.values(), ids=WITH_TOOLS)
def test_tools_are_served_as_they_were_spelled_out(
    make_tokenizer: MakeTokenizer,
    example: Example,
    template: str | None,
    wrapped: bool,
    as_text: bool,
    folds: bool,
) -> None:
    """A server that gives the saved template messages, calls and `tools` sends training's ids."""
    tokenizer = make_tokenizer(chat_template=template) if template else make_tokenizer()
    encoder = make_encoder(tokenizer, "chat" if template else "plain", date=datetime.now())
    encoder = replace(encoder, folds_system=folds)
    if template is REFUSES and not folds:
        example = replace(example, earlier=tuple(it for it in example.earlier if it != SYSTEM))
    server = copy(tokenizer)
    server.chat_template = saved_template(encoder, has_tools=True)
    tools = [{"type": "function", "function": it} for it in TOOLS] if wrapped else TOOLS
    ids = server.apply_chat_template(
        _messages(example, as_text=as_text),
        tools=tools if example.tools else None,
        add_generation_prompt=True,
        return_dict=False,
    )
    assert tuple(ids) == encoder.prompt_ids(example)


@pytest.mark.parametrize("template", [CHATML, REFUSES, DATED, None])
@pytest.mark.parametrize("content", ["Be brief.", [{"type": "text", "text": "Be brief."}]])
def test_a_folded_system_text_is_served_as_in_training(
    make_tokenizer: MakeTokenizer, template: str | None, content: object
) -> None:
    """Also as parts, and also in a template that would have a place for it."""
    tokenizer = make_tokenizer(chat_template=template) if template else make_tokenizer()
    encoder = make_encoder(tokenizer, "chat" if template else "plain", date=datetime.now())
    encoder = replace(encoder, folds_system=True)
    server = copy(tokenizer)
    server.chat_template = saved_template(encoder)
    for example in (ASKED, TALK):
        asked = [{"role": it.role, "content": it.text} for it in example.earlier]
        messages = [
            {"role": "system", "content": content},
            *asked,
            {"role": "user", "content": example.instruction},
        ]
        ids = server.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        trained = replace(example, earlier=(SYSTEM, *example.earlier))
        assert tuple(ids) == encoder.prompt_ids(trained)


def test_a_run_without_tools_saves_no_tools(make_tokenizer: MakeTokenizer) -> None:
    """A template is changed only for what a run trained."""
    encoder = make_encoder(make_tokenizer(chat_template=CHATML), "chat")
    assert saved_template(encoder, has_tools=False) == CHATML
    assert saved_template(encoder, has_tools=True) != CHATML
