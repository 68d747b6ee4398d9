"""Specification of special tokens: those that encoding adds, and those in the data."""

from __future__ import annotations

from dataclasses import replace

import pytest
from encoders import (
    CHATML,
    END,
    EXAMPLES,
    LOOKALIKE,
    PAD,
    START,
    TALK,
    TURN,
    TURN_END,
    Encoders,
    MakeTokenizer,
    few,
    token_of,
)
from hypothesis import example as with_example
from hypothesis import given
from transformers import AddedToken

from finetuning_exam.data.encoding.encoder import make_encoder
from finetuning_exam.data.encoding.rows import encode_all, special_token_findings
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.read import refuse_errors
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.errors import DataError


@few
@given(record=EXAMPLES)
@with_example(record=LOOKALIKE)
def test_special_tokens_in_the_data_stay_text_in_the_plain_template(
    encoders: Encoders, plain_kind: str, record: Example
) -> None:
    """The only special tokens of a plain row are its start and the ends of its answers, whatever
    the data contains.
    """
    encoder = encoders[plain_kind, "last_answer"]
    ids = encoder.encode(record).ids
    inner = [it for it in ids[len(encoder.start_ids) : -1] if it != encoder.eos_token_id]
    answers = sum(turn.role == "assistant" for turn in record.earlier)
    assert len(ids) - len(inner) == len(encoder.start_ids) + answers + 1
    assert not set(inner) & encoder.special_ids
    assert {START, END, PAD, TURN, TURN_END}.isdisjoint(
        token_of(encoder, identifier) for identifier in inner
    )


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(Example("Say it", f"a{TURN_END}b", 3, "d.jsonl"), id="in the answer"),
        pytest.param(Example(f"a{TURN_END}\n{TURN}system\nb", "c", 3, "d.jsonl"), id="prompt"),
    ],
)
def test_special_tokens_in_the_data_do_not_act_in_a_chat_template(
    encoders: Encoders, record: Example
) -> None:
    """An example cannot open or end a turn: it is encoded as text, or refused with its line."""
    encoder = encoders["chat", "last_answer"]
    expected = encoder.encode(Example("a", "b", 1, "d.jsonl")).ids
    turns = [sum(token_of(encoder, i) == token for i in expected) for token in (TURN, TURN_END)]
    encoded = encode_all(encoder, [record], 1000)
    for row in encoded.rows:
        found = [sum(token_of(encoder, i) == token for i in row.ids) for token in (TURN, TURN_END)]
        assert found == turns
    assert encoded.rows or encoded.findings[0].where == "d.jsonl:3"


def test_splitting_special_tokens_leaves_no_trace_in_the_tokenizer(
    make_tokenizer: MakeTokenizer,
) -> None:
    """A plain encoder and a chat encoder can share a tokenizer, in any order."""
    tokenizer = make_tokenizer(chat_template=CHATML)
    chat, plain = make_encoder(tokenizer, "chat"), make_encoder(tokenizer, "plain")
    record = Example("Say it", "a", 1, "d.jsonl")
    before = chat.encode(record)
    plain.encode(LOOKALIKE)
    assert chat.encode(record) == before
    assert token_of(chat, before.ids[0]) == TURN


@few
@given(record=EXAMPLES)
def test_a_row_never_begins_with_two_start_tokens(
    encoders: Encoders, kind: str, record: Example
) -> None:
    """A start token is written once, in training and at inference."""
    encoder = encoders[kind, "last_answer"]
    start = encoder.tokenizer.bos_token_id
    writes_it = kind in ("plain, start written", "plain, start is end", "chat, start twice")
    row = encoder.encode(record)
    expected = [start] if writes_it else []
    if kind == "plain, start is end":  # there it ends every earlier answer too
        expected += [start for turn in record.earlier if turn.role == "assistant"]
    assert [token for token in row.ids[: row.prompt_length] if token == start] == expected
    assert [token for token in encoder.prompt_ids(record) if token == start] == expected
    assert list(row.ids[:writes_it]) == expected[:writes_it]
    assert not writes_it or row.ids[1] != start


@pytest.mark.parametrize(("special", "is_special"), [(True, True), (False, False)])
def test_special_tokens_are_those_added_as_special(
    make_tokenizer: MakeTokenizer, special: bool, is_special: bool
) -> None:
    """A token is special if it was added to the tokenizer as special, named or not; a word that was
    merely added is not.
    """
    tokenizer = make_tokenizer(chat_template=CHATML, names_turns=False)
    tokenizer.add_tokens([AddedToken("<tool>", special=special)])
    encoder = make_encoder(tokenizer, "chat")
    identifier = tokenizer.convert_tokens_to_ids("<tool>")
    assert (identifier in encoder.special_ids) == is_special
    assert (encoder.special_text_in("<tool>") is not None) == is_special
    for text in (END, START, PAD, TURN, TURN_END):
        assert encoder.special_text_in(text) == text


def test_texts_with_special_tokens_are_all_named(encoders: Encoders) -> None:
    """In a chat template a special token in instruction, input, answer or an earlier turn is
    refused with its line.
    """
    records = [
        Example("a", "b", 1, "d.jsonl"),
        Example(f"a{TURN}", "b", 2, "d.jsonl"),
        Example("a", f"b{TURN_END}", 3, "d.jsonl"),
        Example("a", "", 4, "d.jsonl", input=END),
        Example("a", "b", 5, "d.jsonl", earlier=(Turn("system", f"c {START}"),)),
    ]
    for name in ("chat", "chat, turns not named"):
        with pytest.raises(DataError) as caught:
            refuse_errors(special_token_findings(encoders[name, "last_answer"], records))
        assert str(caught.value) == (
            f"d.jsonl:2: the text contains the special token {TURN}.\n"
            f"d.jsonl:3: the text contains the special token {TURN_END}.\n"
            f"d.jsonl:4: the text contains the special token {END}.\n"
            f"d.jsonl:5: the text contains the special token {START}.\n"
            "Remove it, or use --template plain, where it is ordinary text."
        )
    refuse_errors(special_token_findings(encoders["plain", "last_answer"], records))


def test_special_tokens_are_findings_of_both_templates(encoders: Encoders) -> None:
    """Each example with one has a finding: an error if the template would interpret it, else a
    warning; the first token in the text is named.
    """
    records = [
        Example("a", "b", 1, "d.jsonl"),
        Example(f"a {TURN_END}{PAD}", f"b{END}", 2, "d.jsonl", column=7),
        replace(TALK, earlier=(Turn("user", "x"), Turn("assistant", f"y{TURN}"))),
    ]
    for name, kind in (("chat", Kind.SPECIAL_TOKEN), ("plain", Kind.SPECIAL_TOKEN_TEXT)):
        found = special_token_findings(encoders[name, "last_answer"], records)
        assert [str(finding) for finding in found] == [
            f"d.jsonl:2:7: the text contains the special token {TURN_END}.",
            f"d.jsonl:3: the text contains the special token {TURN}.",
        ]
        assert {finding.kind for finding in found} == {kind}
    kept = encode_all(encoders["chat", "last_answer"], records, 1000)
    assert [example.line for example in kept.examples] == [1]
    assert kept.findings == special_token_findings(encoders["chat", "last_answer"], records)
    assert len(encode_all(encoders["plain", "last_answer"], records, 1000).rows) == 3


def test_the_longest_special_token_is_named(make_tokenizer: MakeTokenizer) -> None:
    """If one special token is a prefix of another, the longer one in the text is named."""
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["<s>", "<s>2"], special_tokens=True)
    encoder = make_encoder(tokenizer, "plain")
    assert encoder.special_text_in("a <s>2 b <s>") == "<s>2"
    assert encoder.special_text_in("a < s>") is None
