"""Thoughts are trained as inference shows them, by templates of models that think."""

from __future__ import annotations

from dataclasses import replace

import pytest
from encoders import CHATML, DEEPSEEK, QWEN, MakeTokenizer

from finetuning_exam.data.encoding.encoder import Encoder, make_encoder
from finetuning_exam.data.encoding.rows import encode_all, form_findings
from finetuning_exam.data.findings import Finding
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.data.thoughts import choose_thinking, said, split_thought

OPENED = QWEN.replace(
    "<|im_start|>assistant\n{% if enable_thinking",
    "<|im_start|>assistant\n<think>\n{% if enable_thinking",
)
"""Opens a thought in the prompt that the whole conversation has there too."""
HISTORIES = {
    "thought in the last answer": QWEN,
    "own system turn": "<|im_start|>system\nHelp.<|im_end|>\n" + QWEN,
    "after the last question": QWEN.replace(
        "{% for message in messages %}",
        "{% set asked = namespace(at=-1) %}{% for message in messages %}"
        "{% if message.role == 'user' %}{% set asked.at = loop.index0 %}{% endif %}{% endfor %}"
        "{% for message in messages %}",
        1,
    ).replace("{% if loop.last %}", "{% if loop.index0 > asked.at %}"),
}
"""Templates that drop thoughts from the history, and show a thought, if only an empty one, last."""
THOUGHT = "<think>\nHm.\n</think>\n\nA plant."
PLAIN = Example("What is a tree?", "A plant.", 1, "d.jsonl")
THINKS = replace(PLAIN, answer=THOUGHT)
TALK = Example(
    "And a dog?",
    "<think>\nFour legs.\n</think>\n\nAn animal.",
    2,
    "d.jsonl",
    earlier=(Turn("user", "What is a tree?"), Turn("assistant", THOUGHT)),
)


def _encoder(make: MakeTokenizer, template: str, *, is_thinking: bool) -> Encoder:
    tokenizer = make(chat_template=template)
    return make_encoder(tokenizer, "chat", loss_on="answers", is_thinking=is_thinking)


def _texts(encoder: Encoder, *examples: Example) -> list[tuple[str, str]]:
    """Return what is given and what is trained in each row."""
    rows = encode_all(encoder, examples, 1000).rows
    decode = encoder.tokenizer.decode
    return [
        (decode(list(it.ids[: it.prompt_length])), decode(list(it.ids[it.prompt_length :])))
        for it in rows
    ]


def _shown(encoder: Encoder, turns: list[Turn], **variables: object) -> str:
    """Return what inference shows before the next answer."""
    messages: list[dict[str, object]] = [{"role": it.role, "content": it.text} for it in turns]
    return encoder.tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, **variables
    )


@pytest.mark.parametrize("template", HISTORIES.values(), ids=HISTORIES)
def test_every_answer_is_trained_after_the_history_that_inference_shows(
    make_tokenizer: MakeTokenizer, template: str
) -> None:
    """A conversation has a row for each answer, with its thought, and none in the history."""
    encoder = _encoder(make_tokenizer, template, is_thinking=True)
    first, last = _texts(encoder, TALK)
    shown = _shown(encoder, list(TALK.earlier[:1]))
    assert first == (shown, f"{THOUGHT}<|im_end|>")
    asked = [*TALK.earlier, Turn("user", TALK.instruction)]
    assert last == (_shown(encoder, asked), f"{TALK.answer}<|im_end|>")
    assert "Hm." not in last[0]


@pytest.mark.parametrize("template", HISTORIES.values(), ids=HISTORIES)
def test_without_thoughts_the_empty_one_is_given(
    make_tokenizer: MakeTokenizer, template: str
) -> None:
    """As `enable_thinking=False` gives it at inference."""
    talk = replace(TALK, answer="An animal.", earlier=(TALK.earlier[0], Turn("assistant", "A.")))
    encoder = _encoder(make_tokenizer, template, is_thinking=False)
    first, last = _texts(encoder, talk)
    shown = _shown(encoder, list(talk.earlier[:1]), enable_thinking=False)
    assert first == (shown, "A.<|im_end|>")
    asked = [*talk.earlier, Turn("user", talk.instruction)]
    assert last == (_shown(encoder, asked, enable_thinking=False), "An animal.<|im_end|>")


def test_beside_thoughts_an_answer_without_one_trains_an_empty_one(
    make_tokenizer: MakeTokenizer,
) -> None:
    """The model learns when not to think."""
    encoder = _encoder(make_tokenizer, QWEN, is_thinking=True)
    shown = _shown(encoder, [Turn("user", PLAIN.instruction)])
    assert _texts(encoder, PLAIN) == [(shown, "<think>\n\n</think>\n\nA plant.<|im_end|>")]


@pytest.mark.parametrize("example", [THINKS, PLAIN], ids=["thought", "no thought"])
def test_a_thought_that_the_prompt_opens_is_trained_from_there(
    make_tokenizer: MakeTokenizer, example: Example
) -> None:
    """What is given is the generation prompt; the rest of the thought is the answer's."""
    encoder = _encoder(make_tokenizer, DEEPSEEK, is_thinking=True)
    ((given, answer),) = _texts(encoder, example)
    assert given == _shown(encoder, [Turn("user", PLAIN.instruction)])
    assert given.endswith("<think>\n")
    thought = "Hm." if example is THINKS else ""
    assert answer == f"{thought}\n</think>\n\nA plant.<|im_end|>"


def test_a_thought_in_a_run_without_is_refused_by_line(make_tokenizer: MakeTokenizer) -> None:
    """It is never dropped in silence."""
    encoder = _encoder(make_tokenizer, QWEN, is_thinking=False)
    (found,) = encode_all(encoder, [PLAIN, THINKS], 1000).findings
    assert isinstance(found, Finding)
    assert (found.kind, found.line) == (Kind.THOUGHT, 1)


@pytest.mark.parametrize(
    "talk",
    [
        replace(TALK, answer="An animal."),
        replace(TALK, earlier=(TALK.earlier[0], Turn("assistant", "A plant."))),
        TALK,
    ],
    ids=["first", "last", "both"],
)
def test_a_conversation_is_refused_as_a_whole(make_tokenizer: MakeTokenizer, talk: Example) -> None:
    """A thought in any of its answers leaves out the rows of the others, with one error."""
    encoder = _encoder(make_tokenizer, QWEN, is_thinking=False)
    found = encode_all(encoder, [talk, PLAIN], 1000)
    assert found.examples == (PLAIN,)
    assert [(it.kind, it.line) for it in found.findings] == [(Kind.THOUGHT, talk.line)]


def test_masked_answers_have_no_row(make_tokenizer: MakeTokenizer) -> None:
    """An answer of weight 0 is only read, in the history of the others."""
    masked = replace(TALK, earlier=(TALK.earlier[0], replace(TALK.earlier[1], weight=0)))
    encoder = _encoder(make_tokenizer, QWEN, is_thinking=True)
    assert _texts(encoder, masked) == _texts(encoder, TALK)[1:]


def test_a_note_says_that_answers_are_trained_apart(make_tokenizer: MakeTokenizer) -> None:
    """Only where there are several, and only the answers are trained."""
    encoder = _encoder(make_tokenizer, QWEN, is_thinking=True)
    (found,) = form_findings(encoder, [PLAIN, TALK], "answers")
    detail = "1 of 2 records have several answers"
    assert (found.kind, found.detail, found.line) == (Kind.TEMPLATE_HISTORY, detail, 2)
    assert form_findings(encoder, [PLAIN], "answers") == ()
    assert form_findings(encoder, [TALK], "everything") == ()


def test_thinking_is_chosen_by_the_data() -> None:
    """One thought, in any answer, is enough; a flag has the last word."""
    assert choose_thinking("auto", [PLAIN, TALK])
    assert choose_thinking("auto", [replace(TALK, answer="A.")])
    assert not choose_thinking("auto", [PLAIN])
    assert not choose_thinking(False, [TALK])
    assert choose_thinking(True, [PLAIN])


@pytest.mark.parametrize(
    ("text", "thought", "rest"),
    [
        (THOUGHT, "Hm.", "A plant."),
        ("<think></think>A.", "", "A."),
        ("A plant.", None, "A plant."),
        ("Say <think>x</think>.", None, "Say <think>x</think>."),
        ("<think>cut", None, "<think>cut"),
    ],
)
def test_a_thought_is_split_off(text: str, thought: str | None, rest: str) -> None:
    """Only at the beginning, and only if it ends."""
    assert split_thought(text) == (thought, rest)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        (THOUGHT, "A plant."),
        ("Hm.\n</think>\n\nA plant.", "A plant."),
        ("<think>\nand so on", ""),
        ("A plant.", "A plant."),
    ],
)
def test_what_follows_a_thought_is_judged(text: str, rest: str) -> None:
    """A thought that never ends has no answer."""
    assert said(text) == rest


def test_a_thought_that_the_whole_opens_too(make_tokenizer: MakeTokenizer) -> None:
    """The thought is trained from where the prompt leaves it."""
    thinking = _encoder(make_tokenizer, OPENED, is_thinking=True)
    ((given, answer),) = _texts(thinking, THINKS)
    assert given.endswith("<|im_start|>assistant\n<think>\n")
    assert answer == "Hm.\n</think>\n\nA plant.<|im_end|>"
    ((given, answer),) = _texts(_encoder(make_tokenizer, OPENED, is_thinking=False), PLAIN)
    assert given.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert answer == "A plant.<|im_end|>"


@pytest.mark.parametrize("said", ["end", "<", "im_end", ">", "Hm.", "think"])
@pytest.mark.parametrize("template", [QWEN, DEEPSEEK, CHATML])
def test_an_answer_may_be_a_word_of_the_template(
    make_tokenizer: MakeTokenizer, template: str, said: str
) -> None:
    """What the template writes around a thought and an answer is not taken for them."""
    encoder = _encoder(make_tokenizer, template, is_thinking=True)
    ((given, answer),) = _texts(encoder, replace(PLAIN, answer=f"<think>\nHm.\n</think>\n\n{said}"))
    assert answer.endswith(f"Hm.\n</think>\n\n{said}<|im_end|>")
    assert given == _shown(encoder, [Turn("user", PLAIN.instruction)])


def test_a_thought_that_does_not_end_is_refused(make_tokenizer: MakeTokenizer) -> None:
    """It would be trained behind an empty one."""
    encoder = _encoder(make_tokenizer, QWEN, is_thinking=True)
    cut = replace(PLAIN, answer="<think>I wonder if")
    (found,) = encode_all(encoder, [cut], 1000).findings
    assert found.detail == "the answer has a thought that does not end"


def test_weights_of_answers_that_are_rewritten_are_not_lost(make_tokenizer: MakeTokenizer) -> None:
    """Trained as a whole, a conversation has one weight only."""
    tokenizer = make_tokenizer(chat_template=QWEN)
    encoder = make_encoder(tokenizer, "chat", loss_on="everything", is_thinking=True)
    assert encode_all(encoder, [TALK], 1000).findings == ()
    (found,) = encode_all(encoder, [replace(TALK, weight=2)], 1000).findings
    assert found.kind is Kind.TURNS_REFUSED
