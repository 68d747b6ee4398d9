"""Specification of what is told of fields that nothing reads."""

from __future__ import annotations

import json

import pytest
from read_files import ALPACA, AUTO, CHAT, read_content, texts_of, write_content

from finetuning_exam.data.findings import Kind
from finetuning_exam.data.reading.read import read_records

pytestmark = pytest.mark.usefixtures("folder")


def test_a_field_nobody_reads_is_told_once() -> None:
    """It stands at the first sound record that has it, with how many have it; a faulty record's
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


def test_a_field_of_a_turn_that_nobody_reads_is_told_once() -> None:
    """Nothing that stands beside a turn's text is lost in silence; null says nothing."""
    odd = CHAT.replace(b'"f"', b'"f", "name": "bob", "weight": 1, "x": null')
    instances = b'{"instruction": "a", "instances": [{"input": "", "output": "b", "note": 1}]}\n'
    assert texts_of(read_content(CHAT + odd * 2).findings) == [
        "d.jsonl:2: field 'messages[].name' is not used (in 2 of 3 records)."
    ]
    assert texts_of(read_content(instances * 2).findings) == [
        "d.jsonl:1: field 'instances[].note' is not used (in 2 of 2 records)."
    ]


def test_each_file_has_its_own_unused_fields() -> None:
    """What is not used is said of each file, since each has a layout of its own."""
    paths = [
        write_content(b'{"instruction": "a", "output": "b", "answer": "c"}\n', "one"),
        write_content(b'{"question": "a", "answer": "b", "output": "c"}\n', "two"),
    ]
    assert texts_of(read_records(paths, AUTO).findings) == [
        "one:1: field 'answer' is not used (in 1 of 1 records).",
        "two:1: field 'output' is not used (in 1 of 1 records).",
    ]


def test_the_name_of_an_unused_field_is_shown_in_part() -> None:
    """A name of a million characters is no line of a million characters."""
    content = json.dumps({"instruction": "a", "output": "b", "x" * 1_000_000: 1}).encode()
    (said,) = texts_of(read_content(content).findings)
    assert len(said) < 200
