"""Specification of the notes about unused fields."""

from __future__ import annotations

import json

import pytest
from read_files import ALPACA, AUTO, CHAT, read_content, texts_of, write_content

from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.read import read_records

pytestmark = pytest.mark.usefixtures("folder")


def test_an_unused_field_is_reported_once() -> None:
    """It is reported at the first valid record that has it, with their number; a faulty record's
    fields do not count.
    """
    content = (
        b'{"instruction": "a", "id": 1, "z": 1}\n'
        + ALPACA
        + b'{"instruction": "a", "output": "b", "id": 2}\n'
        + b'{"instruction": "a", "output": "b", "id": 3, "tag": "t", "group": "g"}\n'
    )
    notes = [it for it in read_content(content).findings if it.kind is Kind.UNUSED_FIELD]
    assert texts_of(tuple(notes)) == ["d.jsonl:3: field 'id' is not used (in 2 of 3 records)."]


def test_an_unused_field_of_a_turn_is_reported_once() -> None:
    """Nothing in a turn besides its text is lost silently; null is ignored."""
    odd = CHAT.replace(b'"f"', b'"f", "name": "bob", "weight": 1, "x": null')
    instances = b'{"instruction": "a", "instances": [{"input": "", "output": "b", "note": 1}]}\n'
    assert texts_of(read_content(CHAT + odd * 2).findings) == [
        "d.jsonl:2: field 'messages[].name' is not used (in 2 of 3 records)."
    ]
    assert texts_of(read_content(instances * 2).findings) == [
        "d.jsonl:1: field 'instances[].note' is not used (in 2 of 2 records)."
    ]


def test_each_file_has_its_own_unused_fields() -> None:
    """Unused fields are reported for each file, since each has its own layout."""
    paths = [
        write_content(b'{"instruction": "a", "output": "b", "answer": "c"}\n', "one"),
        write_content(b'{"question": "a", "answer": "b", "output": "c"}\n', "two"),
    ]
    assert texts_of(read_records(paths, AUTO).findings) == [
        "one:1: field 'answer' is not used (in 1 of 1 records).",
        "two:1: field 'output' is not used (in 1 of 1 records).",
    ]


def test_the_name_of_an_unused_field_is_shortened() -> None:
    """A name of a million characters does not make a line of a million characters."""
    content = json.dumps({"instruction": "a", "output": "b", "x" * 1_000_000: 1}).encode()
    (message,) = texts_of(read_content(content).findings)
    assert len(message) < 200
