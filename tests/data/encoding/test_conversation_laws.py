"""Laws of conversations with all that they may hold: trained and served alike, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace

import pytest
from drawn_conversations import Said, conversations
from encoders import CHATML, DEEPSEEK, QWEN, MakeTokenizer
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from finetuning_exam.data.encoding.encoder import Encoder, make_encoder
from finetuning_exam.data.encoding.rows import encode_all
from finetuning_exam.data.encoding.saved_template import saved_template
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.records import Example, Turn

Key = tuple[str, int, int]
"""A template, whether system texts are folded, and whether answers begin with thoughts."""
EncoderOf = Callable[[Key], Encoder]
TOOLS: list[dict[str, object]] = [
    {"name": it, "parameters": {}} for it in ("search", "weather", "f")
]
REFUSES = "{% if messages[0].role == 'system' %}{{ raise_exception('No') }}{% endif %}" + CHATML
ALTERNATES = (
    "{% for message in messages %}{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}{% endfor %}" + CHATML
)
TEMPLATES = {
    "chat": CHATML,
    "no system turns": REFUSES,
    "user first": ALTERNATES,
    "thoughts in the last answer": QWEN,
    "no thoughts in the history": DEEPSEEK,
    "plain": None,
}
ENCODERS = [(name, folds, thinks) for name in TEMPLATES for folds in (0, 1) for thinks in (0, 1)]
REFUSALS = {Kind.SYSTEM_REFUSED, Kind.GREETING_FIRST, Kind.THOUGHT, Kind.SPECIAL_TOKEN}


@pytest.fixture(scope="module")
def encoder_of(make_tokenizer: MakeTokenizer) -> EncoderOf:
    """Give the encoder of a template, with system texts folded or not, with thoughts or without."""
    made: dict[Key, Encoder] = {}
    for name, folds, thinks in ENCODERS:
        template = TEMPLATES[name]
        tokenizer = make_tokenizer(chat_template=template) if template else make_tokenizer()
        encoder = make_encoder(
            tokenizer, "chat" if template else "plain", loss_on="answers", is_thinking=bool(thinks)
        )
        made[name, folds, thinks] = replace(encoder, folds_system=bool(folds))
    return lambda key: made[key]


def _example(said: Sequence[Said]) -> Example:
    *earlier, asked, answer = (it.turn for it in said)
    return Example(
        asked.text,
        answer.text,
        1,
        "d.jsonl",
        earlier=tuple(earlier),
        asked_by="tool" if asked.role == "tool" else "user",
        tools=json.dumps(TOOLS),
        weight=answer.weight,
    )


@given(conversations(), st.sampled_from(ENCODERS))
def test_a_conversation_is_trained_as_it_is_asked_or_refused(
    encoder_of: EncoderOf, said: tuple[Said, ...], key: Key
) -> None:
    """The last row begins with the prompt of inference, and trains no text of user or tool."""
    encoder = encoder_of(key)
    example = _example(said)
    found = encode_all(encoder, [example], 100_000)
    assert bool(found.rows) != bool(found.findings)
    assert {it.kind for it in found.findings} <= REFUSALS
    if not found.rows:
        return
    last = found.rows[-1]
    assert last.ids[: last.prompt_length] == encoder.prompt_ids(replace(example, answer=""))
    n_trained = sum(turn.weight != 0 for turn in example.earlier if turn.role == "assistant") + 1
    rewrites = encoder.shape is not None and encoder.shape.rewrites_history
    assert len(found.rows) == (len(example.trained_answers) + 1 if rewrites else 1)
    stretches = [sum(_begins(row.labels)) for row in found.rows]
    assert rewrites or sum(stretches) == n_trained


def _begins(labels: tuple[int, ...]) -> list[bool]:
    """Return whether a trained stretch begins at each position."""
    return [label >= 0 and before < 0 for before, label in zip((-1, *labels), labels, strict=False)]


@given(conversations(), st.sampled_from([it for it in ENCODERS if not it[2]]))
def test_a_conversation_is_served_as_it_is_trained(
    encoder_of: EncoderOf, said: tuple[Said, ...], key: Key
) -> None:
    """The saved template gives OpenAI's messages the ids of the run, tools and system text too."""
    encoder = encoder_of(key)
    said = tuple(replace(it, thought="") for it in said)
    example = replace(_example(said), answer="")
    if encode_all(encoder, [example], 100_000).findings:
        return
    assert isinstance(encoder.tokenizer, PreTrainedTokenizerFast)
    server = copy(encoder.tokenizer)
    server.chat_template = saved_template(encoder, has_tools=True)
    messages = [_message(it) for it in said[:-1]]
    ids = server.apply_chat_template(
        messages, tools=TOOLS, add_generation_prompt=True, return_dict=False
    )
    assert tuple(ids) == encoder.prompt_ids(example)


def _message(said: Said) -> dict[str, object]:
    message: dict[str, object] = {"role": said.role, "content": said.text}
    calls = [{"type": "function", "function": it._asdict()} for it in said.calls]
    return {**message, "tool_calls": calls} if calls else message


def test_the_laws_would_notice() -> None:
    """A system turn, a greeting, a call, its result and a thought are all drawn as turns."""
    said = Said("assistant", "Hi", calls=(), thought="Hm.")
    assert said.turn == Turn("assistant", "<think>\nHm.\n</think>\n\nHi")
