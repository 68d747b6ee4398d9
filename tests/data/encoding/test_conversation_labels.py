"""Specification of the ids and labels of conversations."""

from __future__ import annotations

from encoders import (
    END,
    END_BEHIND_END,
    EXAMPLES,
    LOSSES,
    START,
    TALK,
    TURN,
    TURN_END,
    Encoders,
    MakeTokenizer,
    decode_ids,
    few,
    supervised_spans,
)
from hypothesis import given
from transformers import AddedToken

from finetuning_exam.data.encoding.encoder import make_encoder
from finetuning_exam.data.encoding.labels import IGNORED
from finetuning_exam.data.encoding.template import render
from finetuning_exam.data.records import Example, Turn


def test_whitespace_that_an_end_token_includes_stays_with_it(make_tokenizer: MakeTokenizer) -> None:
    """A conversation has the ids of the template's text even if a token includes the whitespace
    after it.
    """
    tokenizer = make_tokenizer(chat_template=END_BEHIND_END)
    tokenizer.add_tokens([AddedToken(TURN_END, special=True, rstrip=True)], special_tokens=True)
    encoder = make_encoder(tokenizer, "chat", loss_on="answers")
    segments = render(TALK, encoder.shape)
    whole = tokenizer.encode("".join(it.text for it in segments), add_special_tokens=False)
    assert list(encoder.encode(TALK).ids) == whole
    assert segments[1].text == f"It lists files.{TURN_END}\n"


def test_a_chat_row_is_the_template_s_text(encoders: Encoders) -> None:
    """A row's text is the template's text, without what follows the end of the turn."""
    encoder = encoders["chat, start twice", "last_answer"]
    record = Example("Hi", "Ho", 1, "d.jsonl")
    rendered = render(record, encoder.shape)
    text = decode_ids(encoder, encoder.encode(record).ids)
    assert text == f"{START}{TURN}user\nHi{TURN_END}\n{TURN}assistant\nHo{TURN_END}"
    assert "".join(segment.text for segment in rendered) == text + "\n"


def test_every_answer_of_a_conversation_is_trained_with_its_end(encoders: Encoders) -> None:
    """With loss on answers each assistant turn is supervised with its end token, and nothing in
    between is.
    """
    answers = ["It lists files.", "It is long.", "It shows hidden ones."]
    for name, end in (("plain", END), ("plain, start written", END), ("chat", TURN_END)):
        encoder = encoders[name, "answers"]
        row = encoder.encode(TALK)
        assert supervised_spans(encoder, row.labels) == [f"{answer}{end}" for answer in answers]
        assert row.answer_bytes == len("".join(answers))
        assert row.ids == encoders[name, "last_answer"].encode(TALK).ids
    last = encoders["chat", "last_answer"].encode(TALK)
    assert supervised_spans(encoders["chat", "last_answer"], last.labels) == [
        f"{answers[-1]}{TURN_END}"
    ]
    assert last.answer_bytes == len(answers[-1])


@few
@given(record=EXAMPLES)
def test_the_prompt_length_is_where_the_last_answer_starts(
    encoders: Encoders, kind: str, record: Example
) -> None:
    """`prompt_length` is the start of the last answer, whichever part is supervised."""
    lengths = {encoders[kind, loss_on].encode(record).prompt_length for loss_on in LOSSES}
    row = encoders[kind, "last_answer"].encode(record)
    assert lengths == {next(i for i, label in enumerate(row.labels) if label != IGNORED)}


def test_a_chat_conversation_is_the_template_s_text(encoders: Encoders) -> None:
    """The ids of a conversation are those of the template's text, with one start token."""
    encoder = encoders["chat, start twice", "answers"]
    text = decode_ids(encoder, encoder.encode(TALK).ids)
    segments = render(TALK, encoder.shape)
    assert text + "\n" == "".join(segment.text for segment in segments)
    assert text.count(START) == 1


def test_an_earlier_answer_without_an_end_of_turn_is_trained_whole(encoders: Encoders) -> None:
    """If no special token ends a turn the template's text is unchanged; only the last answer gets
    the end token.
    """
    encoder = encoders["chat without an end", "answers"]
    row = encoder.encode(
        Example("c", "d", 1, "p", earlier=(Turn("user", "a"), Turn("assistant", "b")))
    )
    assert decode_ids(encoder, row.ids) == f"user: a\nassistant: b\nuser: c\nassistant: d\n{END}"
    assert supervised_spans(encoder, row.labels) == ["b\n", f"d\n{END}"]
