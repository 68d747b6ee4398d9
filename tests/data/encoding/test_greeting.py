"""Conversations that begin with the assistant: kept where the template takes them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from encoders import CHATML, DEEPSEEK, LLAMA_LIKE, NO_END, QWEN, START, MakeTokenizer

from finetuning_exam.data.encoding.encoder import Encoder, make_encoder
from finetuning_exam.data.encoding.labels import LossOn
from finetuning_exam.data.encoding.rows import encode_all, form_findings
from finetuning_exam.data.encoding.tools import each_answer
from finetuning_exam.data.encoding.truncate import without_oldest
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.data.tool_text import Call, call_text

HELLO = Turn("assistant", "Hello! How can I help?")
SYSTEM = Turn("system", "Be brief.")
ASKED = Example("What is a tree?", "A plant.", 1, "d.jsonl", earlier=(HELLO,))
LED = replace(ASKED, line=2, earlier=(SYSTEM, HELLO))
TALK = replace(
    ASKED,
    line=3,
    earlier=(HELLO, Turn("user", "What is a dog?"), Turn("assistant", "An animal.")),
)
GREETED = {"one question": ASKED, "after a system turn": LED, "a conversation": TALK}
OWN_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nHello! I help.<|im_end|>\n"
    "{% endif %}" + CHATML
)
"""Reads the first message, and writes a system turn of its own with similar words."""
IN_LOOP = CHATML.replace(
    "<|im_start|>{{ message.role }}\n",
    "{% if loop.first and message.role != 'system' %}<|im_start|>system\nHelp.<|im_end|>\n"
    "{% endif %}<|im_start|>{{ message.role }}\n",
    1,
)
TAKING: dict[str, str | None] = {
    "chat": CHATML,
    "start token": LLAMA_LIKE,
    "own system turn": OWN_SYSTEM,
    "own system turn in the loop": IN_LOOP,
    "no end token": NO_END,
    "plain": None,
}
ALTERNATES = (
    "{% for message in messages if message.role != 'system' %}"
    "{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}{% endfor %}"
)
REFUSING = {
    "raises": ALTERNATES + CHATML,
    "drops": CHATML.replace(
        "{{ message.content }}",
        "{% if not (loop.first and message.role == 'assistant') %}{{ message.content }}{% endif %}",
    ),
}


def _encoder(make: MakeTokenizer, template: str | None, loss_on: LossOn = "answers") -> Encoder:
    if template is None:
        return make_encoder(make(), "plain", loss_on=loss_on)
    start = {"start": START, "writes_start": True} if template is LLAMA_LIKE else {}
    return make_encoder(make(chat_template=template, **start), "chat", loss_on=loss_on)


def _stretches(encoder: Encoder, example: Example) -> list[str]:
    """Return the text of each trained stretch of the only row."""
    (row,) = encode_all(encoder, [example], 1000).rows
    found: list[list[int]] = [[]]
    for token, label in zip(row.ids, row.labels, strict=True):
        if label >= 0:
            found[-1].append(token)
        elif found[-1]:
            found.append([])
    return [encoder.tokenizer.decode(it) for it in found if it]


@pytest.mark.parametrize("template", TAKING.values(), ids=TAKING)
@pytest.mark.parametrize("example", GREETED.values(), ids=GREETED)
def test_a_greeting_is_context_and_a_trained_answer(
    make_tokenizer: MakeTokenizer, template: str | None, example: Example
) -> None:
    """It is trained like every answer; the prompt is the one that inference sees."""
    encoder = _encoder(make_tokenizer, template)
    texts = [turn.text for turn in example.earlier if turn.role == "assistant"]
    trained = _stretches(encoder, example)
    assert [said.startswith(it) for said, it in zip(trained, texts, strict=False)] == [True] * len(
        texts
    )
    assert trained[-1].startswith("A plant.")
    assert len(trained) == len(texts) + 1
    (row,) = encode_all(encoder, [example], 1000).rows
    assert row.ids[: row.prompt_length] == encoder.prompt_ids(replace(example, answer=""))
    if template is None:
        return
    messages: list[dict[str, object]] = [
        {"role": it.role, "content": it.text}
        for it in (*example.earlier, Turn("user", example.instruction))
    ]
    served = encoder.tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )
    assert encoder.tokenizer.decode(list(encoder.prompt_ids(example))) == served


@pytest.mark.parametrize("template", [CHATML, OWN_SYSTEM, None])
def test_a_greeting_of_weight_0_is_only_read(
    make_tokenizer: MakeTokenizer, template: str | None
) -> None:
    """As every answer of weight 0."""
    silent = replace(ASKED, earlier=(replace(HELLO, weight=0),))
    (said,) = _stretches(_encoder(make_tokenizer, template), silent)
    assert said.startswith("A plant.")


@pytest.mark.parametrize("template", REFUSING.values(), ids=REFUSING)
def test_a_greeting_that_a_template_does_not_take_is_told_by_line(
    make_tokenizer: MakeTokenizer, template: str
) -> None:
    """Other records are kept, and the hint names the way to write them without it."""
    encoder = _encoder(make_tokenizer, template)
    sound = Example("Why?", "So.", 9, "d.jsonl")
    rows = encode_all(encoder, [sound, ASKED, TALK], 1000)
    assert rows.examples == (sound,)
    assert [(it.kind, it.line) for it in rows.findings] == [
        (Kind.GREETING_FIRST, 1),
        (Kind.GREETING_FIRST, 3),
    ]
    assert "--fix NEW.jsonl" in Kind.GREETING_FIRST.hint
    assert form_findings(encoder, [sound, ASKED], "answers") == ()


@pytest.mark.parametrize("template", [QWEN, DEEPSEEK])
@pytest.mark.parametrize("is_thinking", [False, True])
def test_a_greeting_is_only_read_where_each_answer_has_its_row(
    make_tokenizer: MakeTokenizer, template: str, is_thinking: bool
) -> None:
    """It answers nothing, so it has no row; a note says so."""
    tokenizer = make_tokenizer(chat_template=template)
    encoder = make_encoder(tokenizer, "chat", loss_on="answers", is_thinking=is_thinking)
    assert encoder.shape is not None
    rows = encode_all(encoder, [TALK], 1000)
    assert rows.findings == ()
    assert len(rows.rows) == (2 if encoder.shape.rewrites_history else 1)
    if encoder.shape.rewrites_history:
        (first, *_) = [
            it for it in form_findings(encoder, [TALK], "answers") if it.kind is Kind.GREETING
        ]
        assert first.detail == (
            "1 of 1 records have one; it is only read, since each answer has a row of its own"
        )
        assert all(
            HELLO.text in tokenizer.decode(row.ids[: row.prompt_length]) for row in rows.rows
        )


def test_a_note_says_that_a_greeting_is_trained(make_tokenizer: MakeTokenizer) -> None:
    """At the first of the records that have one."""
    plain = Example("Why?", "So.", 9, "d.jsonl")
    (found,) = form_findings(_encoder(make_tokenizer, CHATML), [plain, TALK, ASKED], "answers")
    detail = "2 of 3 records have one; it is trained"
    assert (found.kind, found.detail, found.line) == (Kind.GREETING, detail, 3)


def test_a_greeting_is_no_answer_that_is_asked_for() -> None:
    """Neither the exam of calls nor a row of its own asks for it."""
    call = Turn("assistant", call_text("", [Call("search", {"query": "oak"})]))
    calling = replace(
        ASKED,
        asked_by="tool",
        tools='[{"name": "search"}]',
        earlier=(SYSTEM, HELLO, Turn("user", "What is an oak?"), call),
    )
    assert [it.answer for it in each_answer([calling])] == [call.text, "A plant."]
    assert (ASKED.trained_answers, LED.trained_answers, TALK.trained_answers) == ((), (), (2,))
    assert [it.has_greeting for it in (ASKED, LED, TALK)] == [True] * 3


def test_a_greeting_leaves_with_the_oldest_exchange() -> None:
    """A row that is too long keeps its last exchanges."""
    assert without_oldest(TALK, 1).earlier == ()
    longer = replace(TALK, earlier=(SYSTEM, *TALK.earlier, *TALK.earlier[1:]))
    assert without_oldest(longer, 1).earlier == (SYSTEM, *TALK.earlier[1:])
