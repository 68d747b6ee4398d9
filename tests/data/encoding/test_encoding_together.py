"""Specification of batch tokenization: the same rows as one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from encoders import EXAMPLES, LOOKALIKE, TALK, Encoders, MakeTokenizer, decode_ids, few
from hypothesis import example as with_example
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from finetuning_exam.data.encoding.encoder import make_encoder
from finetuning_exam.data.encoding.rows import encode_all
from finetuning_exam.data.records import Example


@few
@given(records=st.lists(EXAMPLES, max_size=5))
@with_example(records=[LOOKALIKE, TALK, LOOKALIKE])
def test_rows_together_are_the_rows_alone(
    encoders: Encoders, kind: str, records: list[Example]
) -> None:
    """Tokenizing many texts at once gives the ids of the tokenizer's own `encode`, text by text."""
    encoder = encoders[kind, "answers"]
    assert encoder.backend is not None
    one_by_one = replace(encoder, backend=None)
    assert encoder.encode_batch(records) == [one_by_one.encode(record) for record in records]


def test_rows_are_encoded_in_order_over_several_batches(
    encoders: Encoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each row belongs to its own example, however many are tokenized together."""
    monkeypatch.setattr("finetuning_exam.data.encoding.rows._CHUNK", 3)
    encoder = encoders["plain", "answers"]
    records = [Example(f"q{i}", f"a{i}", i, "d.jsonl") for i in range(10)]
    found = encode_all(encoder, records, 1000)
    assert found.examples == tuple(records)
    assert found.rows == tuple(encoder.encode(record) for record in records)
    assert found.findings == ()


def test_a_saved_truncation_cuts_nothing(make_tokenizer: MakeTokenizer) -> None:
    """A tokenizer whose file configures truncation and padding gives whole texts, unpadded."""
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.backend_tokenizer.enable_padding(length=50)
    encoder = make_encoder(tokenizer, "plain")
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.backend_tokenizer.enable_padding(length=50)
    row = encoder.encode(Example("Say it", "one two three four five", 1, "d.jsonl"))
    assert decode_ids(encoder, row.ids[row.prompt_length : -1]) == "one two three four five"


def test_a_tokenizer_that_differs_from_its_backend_is_used_text_by_text(
    make_tokenizer: MakeTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the Rust backend gives other ids than the tokenizer, the tokenizer is used."""
    tokenizer = make_tokenizer()
    own = type(tokenizer).encode

    def encode(self: PreTrainedTokenizerFast, text: str, **options: bool) -> list[int]:
        ids: list[int] = own(self, text.upper(), **options)
        return ids

    monkeypatch.setattr(type(tokenizer), "encode", encode)
    encoder = make_encoder(tokenizer, "plain")
    assert encoder.backend is None
    row = encoder.encode(Example("Say it", "loud", 1, "d.jsonl"))
    assert decode_ids(encoder, row.ids[row.prompt_length : -1]) == "LOUD"


def test_ids_are_shared_between_rows(encoders: Encoders) -> None:
    """One int object represents all occurrences of an id, so that many rows take little memory."""
    rows = encoders["plain", "answers"].encode_batch([Example("Ähm", "Öhm Öhm", 1, "d.jsonl")] * 2)
    objects = {id(token) for row in rows for token in (*row.ids, *row.labels)}
    assert len(objects) == len({token for row in rows for token in (*row.ids, *row.labels)})
