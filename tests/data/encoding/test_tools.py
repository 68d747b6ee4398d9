"""Tools and calls: as a template renders them, or in words that every template takes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from encoders import CHATML, MakeTokenizer

from finetuning_exam.data.encoding.encoder import Encoder, make_encoder
from finetuning_exam.data.encoding.rows import encode_all, form_findings
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.data.tool_text import Call, call_text, find_calls, split_calls

TOOL = {"name": "weather", "description": "Tells it.", "parameters": {"type": "object"}}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>'
CALLING = Example(
    "Sun.",
    "It is sunny.",
    1,
    "d.jsonl",
    earlier=(
        Turn("system", "Be brief."),
        Turn("user", "Weather in Bern?"),
        Turn("assistant", CALL),
    ),
    asked_by="tool",
    tools=json.dumps([TOOL]),
)
HERMES = (
    "{% if tools %}<|im_start|>system\n{{ messages[0].content }}\n"
    "{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<|im_end|>\n{% endif %}"
    "{% for message in messages %}{% if not (tools and message.role == 'system') %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}"
    "{% if message.tool_calls %}{% for call in message.tool_calls %}<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}'
    "\n</tool_call>{% endfor %}{% endif %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Renders calls as most templates do."""
LLAMA = HERMES.replace(
    "<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}'
    "\n</tool_call>",
    '{"name": "{{ call.function.name }}", "parameters": {{ call.function.arguments | tojson }}}',
)
"""Renders calls in a form of its own."""


def _rows(encoder: Encoder, example: Example) -> tuple[str, list[str]]:
    """Return the whole text of a row, and its trained stretches."""
    (row,) = encode_all(encoder, [example], 10_000).rows
    decode = encoder.tokenizer.decode
    trained: list[list[int]] = [[]]
    for token, label in zip(row.ids, row.labels, strict=True):
        if label >= 0:
            trained[-1].append(token)
        elif trained[-1]:
            trained.append([])
    return decode(list(row.ids)), [decode(it) for it in trained if it]


def _encoder(make: MakeTokenizer, template: str | None) -> Encoder:
    tokenizer = make(chat_template=template) if template else make()
    return make_encoder(tokenizer, "chat" if template else "plain", loss_on="answers")


def test_calls_and_answers_are_trained_and_results_are_not(make_tokenizer: MakeTokenizer) -> None:
    """A template with tools gets definitions, calls and results as such."""
    encoder = _encoder(make_tokenizer, HERMES)
    assert encoder.shape is not None
    assert encoder.shape.takes_tools
    text, trained = _rows(encoder, CALLING)
    assert trained == [f"{CALL}<|im_end|>", "It is sunny.<|im_end|>"]
    assert '{"type": "function", "function": {"name": "weather"' in text
    assert "<|im_start|>tool\nSun.<|im_end|>" in text


def test_calls_in_a_form_of_the_template_are_trained_in_that_form(
    make_tokenizer: MakeTokenizer,
) -> None:
    """What is trained is what inference with this template expects."""
    text, trained = _rows(_encoder(make_tokenizer, LLAMA), CALLING)
    called = '{"name": "weather", "parameters": {"city": "Bern"}}'
    assert trained == [f"{called}<|im_end|>", "It is sunny.<|im_end|>"]
    assert "<tool_call>" not in text


@pytest.mark.parametrize("template", [CHATML, None], ids=["chat", "plain"])
def test_tools_are_spelled_out_for_other_templates(
    make_tokenizer: MakeTokenizer, template: str | None
) -> None:
    """Definitions are in the system turn, results in turns of the user; a note says so."""
    encoder = _encoder(make_tokenizer, template)
    text, trained = _rows(encoder, CALLING)
    end = "<|im_end|>" if template else encoder.end_text
    assert trained == [f"{CALL}{end}", f"It is sunny.{end}"]
    assert "Be brief.\n\nYou can use these tools, each described by a line of JSON:\n" in text
    assert f"\n{json.dumps(TOOL)}\n" in text
    assert "<tool_response>\nSun.\n</tool_response>" in text
    (found,) = form_findings(encoder, [CALLING], "answers")
    assert (found.kind, found.detail) == (Kind.TOOLS_SPELLED_OUT, "1 of 1 records use tools")


def test_results_of_several_calls_are_one_turn_of_the_user(make_tokenizer: MakeTokenizer) -> None:
    """So that user and assistant alternate."""
    two = replace(CALLING, earlier=(*CALLING.earlier, Turn("tool", "Rain.")))
    text, _ = _rows(_encoder(make_tokenizer, CHATML), two)
    results = "<tool_response>\nRain.\n</tool_response>\n<tool_response>\nSun.\n</tool_response>"
    assert f"<|im_start|>user\n{results}<|im_end|>" in text


def test_without_tools_nothing_changes(make_tokenizer: MakeTokenizer) -> None:
    """A template with tools renders other conversations as before."""
    plain = Example("Hi?", "Ho.", 1, "d.jsonl")
    for template in (HERMES, CHATML):
        text, _ = _rows(_encoder(make_tokenizer, template), plain)
        assert text == "<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\nHo.<|im_end|>"


WEATHER = Call("weather", {"city": "Bern"})
FORMS = {
    CALL: (WEATHER,),
    f"Let me see.\n{CALL}": (WEATHER,),
    f"{CALL}\n{CALL}": (WEATHER, WEATHER),
    CALL.removesuffix("\n</tool_call>"): (WEATHER,),
    '{"name": "weather", "arguments": {"city": "Bern"}}': (WEATHER,),
    '{"name": "weather", "parameters": {"city": "Bern"}}': (WEATHER,),
    '[{"name": "weather", "arguments": "{\\"city\\": \\"Bern\\"}"}]': (WEATHER,),
    '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Bern"}}]': (WEATHER,),
    '<|python_tag|>{"name": "weather", "parameters": {"city": "Bern"}}': (WEATHER,),
    '<tool_call>\n{"name": "weather", "argum\n</tool_call>': (),
    '{"name": "weather", "arguments": {"city"': (),
    "[TOOL_CALLS] weather": (),
    "It is sunny.": None,
    'In JSON: {"name": "x", "arguments": {}}': None,
    '{"city": "Bern"}': None,
    "[1] Smith, 2020": None,
    "": None,
}


@pytest.mark.parametrize(("text", "calls"), FORMS.items())
def test_calls_are_found_in_the_usual_forms(text: str, calls: tuple[Call, ...] | None) -> None:
    """A broken call is a try; words, and other JSON, are none."""
    assert find_calls(text) == calls


def test_calls_are_written_and_read_alike() -> None:
    """Text before the calls, arguments of any kind, and their order are kept."""
    calls = (WEATHER, Call("f", {"x": [1, {"ü": None}], "y": "</b> \n"}), Call("g", {}))
    assert split_calls(call_text(" A moment. ", calls)) == ("A moment.", calls)
