"""Specification of ids and labels: the supervised tokens, and the end of an answer."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby

import pytest
from encoders import (
    END,
    ENDLESS_KINDS,
    EXAMPLES,
    LOOKALIKE,
    LOSSES,
    SAID,
    TALK,
    TURN,
    TURN_END,
    WORDS,
    Encoders,
    MakeTokenizer,
    decode_ids,
    few,
    supervised_ids,
    supervised_spans,
    token_of,
)
from hypothesis import example as with_example
from hypothesis import given
from hypothesis import strategies as st

from finetuning_exam.data.encoding.encoder import Encoder, make_encoder
from finetuning_exam.data.encoding.labels import IGNORED, LossOn
from finetuning_exam.data.encoding.template import prompt_func, render
from finetuning_exam.data.records import Example
from finetuning_exam.errors import ModelError


@few
@given(record=EXAMPLES, loss_on=st.sampled_from(LOSSES))
def test_every_position_has_a_label(
    encoders: Encoders, kind: str, record: Example, loss_on: LossOn
) -> None:
    """Ids and labels have equal length, the first is ignored, and a label is its own id."""
    row = encoders[kind, loss_on].encode(record)
    assert len(row.ids) == len(row.labels)
    assert row.labels[0] == IGNORED
    assert all(label in (IGNORED, token) for label, token in zip(row.labels, row.ids, strict=True))
    assert row.n_supervised == len(supervised_ids(row.labels)) > 0
    texts = [
        it.text for it in record.earlier if it.role == "assistant" and loss_on != "last_answer"
    ]
    assert row.answer_bytes == len("".join((*texts, record.answer)).encode("utf-8"))


@few
@given(record=EXAMPLES)
def test_the_prompt_at_inference_is_the_masked_prefix_in_training(
    encoders: Encoders, kind: str, record: Example
) -> None:
    """`prompt_ids` returns the first ids of the training row, with a known answer or without."""
    encoder = encoders[kind, "last_answer"]
    row = encoder.encode(record)
    asked = replace(record, answer="", path="argument")
    assert encoder.prompt_ids(record) == row.ids[: row.prompt_length]
    assert encoder.prompt_ids(asked) == row.ids[: row.prompt_length]
    assert 0 < row.prompt_length < len(row.ids)


@few
@given(record=EXAMPLES)
def test_nothing_but_the_answer_is_supervised(
    encoders: Encoders, kind: str, record: Example
) -> None:
    """With loss on the last answer everything before it is ignored, earlier answers included."""
    row = encoders[kind, "last_answer"].encode(record)
    assert set(row.labels[: row.prompt_length]) == {IGNORED}
    assert row.labels[row.prompt_length :] == row.ids[row.prompt_length :]


@few
@given(record=EXAMPLES)
def test_the_prompt_is_supervised_when_asked_for(
    encoders: Encoders, kind: str, record: Example
) -> None:
    """With loss on everything each token but the first is supervised; ids are the same."""
    row = encoders[kind, "everything"].encode(record)
    assert row.ids == encoders[kind, "last_answer"].encode(record).ids
    assert row.labels == (IGNORED, *row.ids[1:])


@few
@given(record=EXAMPLES)
def test_the_last_label_ends_the_answer(encoders: Encoders, kind: str, record: Example) -> None:
    """The last label of every row is a stop id."""
    encoder = encoders[kind, "last_answer"]
    assert encoder.encode(record).labels[-1] in encoder.stop_ids


def test_the_ids_that_end_an_answer_are_found_once(
    encoders: Encoders, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To know them no record is encoded again."""
    encoder = encoders[kind, "last_answer"]
    monkeypatch.setattr(Encoder, "encode_batch", lambda *_: pytest.fail("encoded again"))
    assert encoder.eos_token_id in encoder.stop_ids


@few
@given(record=EXAMPLES)
@with_example(record=LOOKALIKE)
def test_plain_supervised_tokens_are_exactly_the_answer(
    encoders: Encoders, plain_kind: str, record: Example
) -> None:
    """In the plain template the supervised tokens are the answer's text and the end token."""
    encoder = encoders[plain_kind, "last_answer"]
    supervised = supervised_ids(encoder.encode(record).labels)
    assert decode_ids(encoder, supervised[:-1]) == record.answer
    assert supervised[-1] == encoder.eos_token_id


@few
@given(record=EXAMPLES)
def test_chat_supervised_tokens_are_exactly_the_answer(encoders: Encoders, record: Example) -> None:
    """In a chat template they are the answer's text and the end of the turn."""
    encoder = encoders["chat", "last_answer"]
    supervised = supervised_ids(encoder.encode(record).labels)
    assert decode_ids(encoder, supervised) == f"{record.answer}{TURN_END}"
    assert decode_ids(encoder, supervised[-1:]) == TURN_END


@few
@given(record=EXAMPLES)
@with_example(record=TALK)
@with_example(record=replace(TALK, answer="assistant", earlier=TALK.earlier[:1]))
@with_example(record=replace(TALK, answer="end", earlier=TALK.earlier[:3]))
def test_each_answer_is_supervised_with_exactly_one_end(
    encoders: Encoders, kind: str, record: Example
) -> None:
    """In any template the supervised ids of each answer are its text and one special token, the
    last; only before the last answer may a template omit the end.
    """
    encoder = encoders[kind, "answers"]
    row = encoder.encode(record)
    stretches = groupby(row.labels, key=lambda label: label != IGNORED)
    trained = [tuple(stretch) for is_trained, stretch in stretches if is_trained]
    texts = [*(it.text for it in record.earlier if it.role == "assistant"), record.answer]
    for ids, answer in zip(trained, texts, strict=True):
        n_ends = int(ids is trained[-1] or kind not in ENDLESS_KINDS)
        text, ends = ids[: len(ids) - n_ends], ids[len(ids) - n_ends :]
        assert decode_ids(encoder, text).strip() == answer.strip()
        assert not encoder.special_ids.intersection(text)
        assert encoder.special_ids.issuperset(ends)
    assert trained[-1][-1] in encoder.stop_ids
    assert len(encoder.stop_ids) == len({trained[-1][-1], encoder.eos_token_id})


def test_a_header_missing_from_the_generation_prompt_is_prompt(encoders: Encoders) -> None:
    """If a template ignores the generation prompt, the marker of the answer's role is part of the
    prompt.
    """
    encoder = encoders["chat, marks only", "last_answer"]
    asked = Example("Hi", "", 1, "argument")
    assert decode_ids(encoder, encoder.prompt_ids(asked)) == f"{TURN}user\nHi\n{TURN}assistant\n"
    row = encoder.encode(replace(asked, answer="assistant"))
    assert supervised_spans(encoder, row.labels) == [f"assistant\n{END}"]


def test_text_after_the_end_of_a_turn_is_not_trained(encoders: Encoders) -> None:
    """The next turn's header, or the end of the text, is not learned."""
    for kind in ("chat, header always", "chat, end behind the end"):
        encoder = encoders[kind, "answers"]
        assert [token_of(encoder, it) for it in encoder.stop_ids] == [END, TURN_END]
        answers = ["It lists files.", "It is long.", "It shows hidden ones."]
        row = encoder.encode(TALK)
        assert supervised_spans(encoder, row.labels) == [
            f"{answer}{TURN_END}" for answer in answers
        ]


@few
@given(record=EXAMPLES)
@with_example(record=LOOKALIKE)
def test_plain_prompt_tokens_are_exactly_the_prompt(
    encoders: Encoders, plain_kind: str, record: Example
) -> None:
    """The masked tokens are the text of `prompt_func`, after the tokenizer's start token; each
    earlier answer is followed by the end token.
    """
    encoder = encoders[plain_kind, "last_answer"]
    prompt = encoder.prompt_ids(record)[len(encoder.start_ids) :]
    given = "".join(
        segment.text + (END if segment.is_answer else "") for segment in render(record)[:-1]
    )
    assert decode_ids(encoder, prompt) == given
    assert record.earlier or given == prompt_func(record)


@few
@given(text=WORDS.filter(len))
def test_a_plain_text_is_supervised_but_for_its_first_token(
    encoders: Encoders, plain_kind: str, text: str
) -> None:
    """`encode_text` adds the tokenizer's start token, and neither a template nor an end token."""
    encoder = encoders[plain_kind, "last_answer"]
    row = encoder.encode_text(text)
    assert decode_ids(encoder, row.ids[len(encoder.start_ids) :]) == text
    assert row.labels == (IGNORED, *row.ids[1:])
    assert (row.prompt_length, row.answer_bytes) == (0, len(text.encode("utf-8")))


def test_the_first_supervised_token_starts_at_the_answer(encoders: Encoders) -> None:
    """No token spans the boundary, even if the whole text would be tokenized across it."""
    encoder = encoders["plain", "last_answer"]
    record = Example("What does ls do?", "\n\n\nIt lists the files.", 1, "d.jsonl")
    row = encoder.encode(record)
    whole = encoder.tokenizer.encode(prompt_func(record) + record.answer, add_special_tokens=False)
    assert list(row.ids[:-1]) != whole, "this example no longer merges across the border"
    assert decode_ids(encoder, row.ids[row.prompt_length : -1]) == record.answer


def test_stop_ids_hold_the_end_of_text_and_the_end_of_a_turn(encoders: Encoders) -> None:
    """A chat model stops at the end of its turn and at the end of text; a plain one at the end of
    text.
    """
    chat, plain = encoders["chat", "last_answer"], encoders["plain", "last_answer"]
    assert [token_of(chat, identifier) for identifier in chat.stop_ids] == [END, TURN_END]
    assert [token_of(plain, identifier) for identifier in plain.stop_ids] == [END]


def test_a_chat_template_without_an_end_gets_the_end_token(encoders: Encoders) -> None:
    """If no special token ends a turn, the end-of-text token is appended and trained."""
    encoder = encoders["chat without an end", "last_answer"]
    row = encoder.encode(Example("Hi", "Ho", 1, "d.jsonl"))
    assert decode_ids(encoder, row.ids) == f"user: Hi\nassistant: Ho\n{END}"
    assert decode_ids(encoder, supervised_ids(row.labels)) == f"Ho\n{END}"


def test_a_tokenizer_without_an_end_token_is_refused(make_tokenizer: MakeTokenizer) -> None:
    """Without an end-of-text token answers could not end; the error names the missing setting."""
    with pytest.raises(ModelError) as caught:
        make_encoder(make_tokenizer(end=None), "plain")
    assert str(caught.value) == (
        "The tokenizer has no end-of-text token, so answers could not end. "
        "Set eos_token in its tokenizer_config.json."
    )


@few
@given(text=SAID)
def test_a_plain_text_is_supervised_with_its_end(encoders: Encoders, kind: str, text: str) -> None:
    """A plain text is encoded with the end token and without a template; all but its first token is
    supervised, or all of it after a start token.
    """
    record = Example("", text, 1, "d.jsonl")
    for loss_on in LOSSES:
        encoder = encoders[kind, loss_on]
        row = encoder.encode(record)
        n_start = len(encoder.start_ids)
        assert row.ids[:n_start] == encoder.start_ids
        assert decode_ids(encoder, row.ids[n_start:-1]) == text
        assert row.ids[-1] == encoder.eos_token_id
        assert row.labels == (IGNORED, *row.ids[1:])
        assert (row.prompt_length, row.answer_bytes) == (0, len(text.encode("utf-8")))
        assert encoder.prompt_ids(record) == ()
