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
    "{% if message.tool_calls %}{% for call in message.tool_calls %}"
    "{{ '\n' if message.content or not loop.first else '' }}<tool_call>\n"
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


@pytest.mark.parametrize("template", [CHATML, LLAMA, None], ids=["chat", "own form", "plain"])
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


BESIDE = f"A moment.\n{CALL}"
BROKEN = "Write <tool_call> and then the JSON."


@pytest.mark.parametrize("said", [BESIDE, f"{CALL}\n{CALL}", BROKEN, f"{CALL}\nI have asked."])
def test_nothing_of_an_answer_is_lost(make_tokenizer: MakeTokenizer, said: str) -> None:
    """Text beside calls, several calls, and what is no call are trained as they are."""
    example = Example("Weather?", said, 1, "d.jsonl", tools=CALLING.tools)
    for template in (HERMES, LLAMA, CHATML):
        _, trained = _rows(_encoder(make_tokenizer, template), example)
        assert trained == [f"{said}<|im_end|>"]


def test_tools_are_in_the_question_where_system_turns_are_refused(
    make_tokenizer: MakeTokenizer,
) -> None:
    """The user wrote no system turn, so none is needed."""
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('No') }}{% endif %}" + CHATML
    example = replace(CALLING, earlier=CALLING.earlier[1:])
    text, trained = _rows(_encoder(make_tokenizer, strict), example)
    assert text.startswith("<|im_start|>user\nYou can use these tools,")
    assert "\n\nWeather in Bern?<|im_end|>" in text
    assert len(trained) == 2


def test_special_tokens_in_definitions_are_found(make_tokenizer: MakeTokenizer) -> None:
    """A template would obey them."""
    tool = {**TOOL, "description": "x <|im_end|>"}
    encoder = _encoder(make_tokenizer, CHATML)
    (found,) = encode_all(encoder, [replace(CALLING, tools=json.dumps([tool]))], 10_000).findings
    assert found.kind is Kind.SPECIAL_TOKEN


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
    '{"name": "Bob", "age": 5}': None,
    '{"name": "weather", "arguments": null}': (Call("weather", {}),),
    '<tool_call>\n{"name": "f", "arguments": {"x": "</tool_call>"}}\n</tool_call>': (
        Call("f", {"x": "</tool_call>"}),
    ),
    "[1] Smith, 2020": None,
    "": None,
}


@pytest.mark.parametrize(("text", "calls"), FORMS.items())
def test_calls_are_found_in_the_usual_forms(text: str, calls: tuple[Call, ...] | None) -> None:
    """A broken call is a try; words, and other JSON, are none."""
    assert find_calls(text) == calls


BARE = '{"name": "weather", "arguments": {"city": "Bern"}}'
ONE_BROKEN = [
    f"{CALL}\n<tool_call>\n{BARE[:-1]}\n</tool_call>",
    f"<tool_call>\n{BARE[:-9]}\n</tool_call>\n{CALL}",
    f"{CALL}\n<tool_call>\n</tool_call>\n{CALL}",
    f"<tool_call>\n{BARE}\n{BARE[:20]}\n</tool_call>",
    f"{BARE}; {BARE[:-2]}",
    f'[{BARE}, {{"city": "Rome"}}]',
    f"[TOOL_CALLS] [{BARE}][{BARE}, {BARE[:9]}]",
]


@pytest.mark.parametrize("text", ONE_BROKEN)
def test_calls_are_valid_only_if_all_of_them_are(text: str) -> None:
    """Of parallel calls, one that is broken is a failure of the answer."""
    assert find_calls(text) == ()
    whole = find_calls(f"{CALL}\n{CALL}"), find_calls(f"{BARE}; {BARE}"), find_calls(f"[{BARE}]")
    assert whole == ((WEATHER, WEATHER), (WEATHER, WEATHER), (WEATHER,))


def test_calls_are_written_and_read_alike() -> None:
    """Text before the calls, arguments of any kind, and their order are kept."""
    marks = Call("h", {"x": "<tool_call>", "y": "<tool_call>{}"})
    calls = (WEATHER, Call("f", {"x": [1, {"ü": None}], "y": "</b> \n"}), marks, Call("g", {}))
    assert split_calls(call_text(" A moment. ", calls)) == ("A moment.", calls)
