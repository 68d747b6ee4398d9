"""Specification of reading JSON lines as raw records, with a finding for each fault."""

from __future__ import annotations

import gzip
import hashlib
import json

import pyarrow
import pytest
from raw_records import GOOD, places_of, read_raw, texts_of

from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.json_values import MAX_DEPTH

pytestmark = pytest.mark.usefixtures("folder")

ACCEPTED = {
    "plain": b'{"a": 1}\n{"a": 2}\n',
    "no last newline": b'{"a": 1}\n{"a": 2}',
    "CRLF": b'{"a": 1}\r\n{"a": 2}\r\n',
    "byte-order mark": b'\xef\xbb\xbf{"a": 1}\n{"a": 2}\n',
    "white space": b' \t{"a": 1} \n\t{"a" :2}\t\n',
}


@pytest.mark.parametrize("content", ACCEPTED.values(), ids=ACCEPTED)
def test_json_lines_are_read(content: bytes) -> None:
    """Line endings and whitespace do not change the records."""
    read = read_raw(content)
    assert read.container == "JSON lines"
    assert read.sha256 == hashlib.sha256(content).hexdigest()
    assert places_of(read) == [(1, 0, {"a": 1}), (2, 0, {"a": 2})]
    assert read.findings == ()


def test_blank_lines_are_counted_and_text_may_hold_line_separators() -> None:
    """A record has its true line number, and U+2028 or U+0085 in text does not end a line."""
    read = read_raw('\n \n{"a": "x\u2028y\u0085"}\n\r\n{}'.encode())
    assert places_of(read) == [(3, 0, {"a": "x\u2028y\u0085"}), (5, 0, {})]


DEEP = b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH
FAULTS = {
    b"\xff": (Kind.NOT_UTF8, "not valid UTF-8 (0xff at byte 1)"),
    b'{"a": "x\xe9"}': (Kind.NOT_UTF8, "not valid UTF-8 (0xe9 at byte 9)"),
    b'{"a": "\xed\xa0\x80"}': (Kind.NOT_UTF8, "not valid UTF-8 (0xed at byte 8)"),
    b"\x00": (Kind.NOT_JSON, "not valid JSON (expected a value at column 1)"),
    b'{"a": "\x00"}': (Kind.NOT_JSON, "not valid JSON (unescaped control character at column 8)"),
    b'{"a": 1': (Kind.NOT_JSON, "not valid JSON (missing '}' at column 8)"),
    b'{"a": "': (Kind.NOT_JSON, "not valid JSON (unterminated string starting at column 7)"),
    b'{"a": 1} x': (Kind.NOT_JSON, "not valid JSON (unexpected text after the value at column 10)"),
    b'{"a": ' + b"9" * 9999 + b"}": (Kind.NOT_JSON, "a number has too many digits"),
    GOOD + GOOD: (
        Kind.SEVERAL_OBJECTS,
        "several objects on one line (the second starts at column 11)",
    ),
    GOOD + b"\r" + GOOD: (
        Kind.SEVERAL_OBJECTS,
        "several objects on one line (the second starts at column 12); "
        "a bare carriage return (\\r) does not end a line",
    ),
    b'{"a": Infinity}': (Kind.NOT_FINITE, "Infinity is not valid JSON"),
    b'{"a": [-Infinity]}': (Kind.NOT_FINITE, "-Infinity is not valid JSON"),
    b'{"a": 1e999}': (Kind.NOT_FINITE, "the number 1e999 is too large"),
    b"[" * 100_000: (Kind.TOO_DEEP, "nested more than 100 levels deep"),
    b'{"a":' * 10_000 + b"1" + b"}" * 10_000: (Kind.TOO_DEEP, "nested more than 100 levels deep"),
    b'{"a":' + DEEP + b"}": (Kind.TOO_DEEP, "nested more than 100 levels deep"),
    b"[1]": (Kind.NOT_AN_OBJECT, "expected an object, got a list"),
    b'"a"': (Kind.NOT_AN_OBJECT, "expected an object, got a string"),
    b"3": (Kind.NOT_AN_OBJECT, "expected an object, got a number"),
    b"null": (Kind.NOT_AN_OBJECT, "expected an object, got null"),
    b"true": (Kind.NOT_AN_OBJECT, "expected an object, got a boolean"),
    b'{"a": 1, "b": 2, "a": 3}': (Kind.DUPLICATE_KEY, "duplicate field 'a'"),
    b'{"a": [{"y": 1, "y": 2}]}': (Kind.DUPLICATE_KEY, "duplicate field 'y'"),
}


@pytest.mark.parametrize("line", FAULTS, ids=range(len(FAULTS)))
def test_a_faulty_line_is_a_finding_and_the_others_are_read(line: bytes) -> None:
    """The finding has the kind, the place and the fault; the lines around it are records."""
    read = read_raw(GOOD + b"\n" + line + b"\n" + GOOD)
    assert places_of(read) == [(1, 0, {"a": "b"}), (3, 0, {"a": "b"})]
    kind, detail = FAULTS[line]
    assert [(it.kind, it.column) for it in read.findings] == [(kind, 0)]
    assert texts_of(read) == [f"d.jsonl:2: {detail}."]


@pytest.mark.parametrize("line", FAULTS, ids=range(len(FAULTS)))
def test_a_faulty_first_line_does_not_change_the_kind_of_file(line: bytes) -> None:
    """A fault in the first line does not make JSON lines anything else."""
    read = read_raw(line + b"\n" + GOOD)
    if not line.startswith(b"[["):  # such an array might go on in the next line
        assert places_of(read) == [(2, 0, {"a": "b"})]
    assert [(it.kind, it.line) for it in read.findings] == [(FAULTS[line][0], 1)]


def test_nesting_is_limited_by_depth_not_by_size() -> None:
    """A hundred nested objects are read, and so is a flat list of a thousand."""
    wide = json.dumps({"a": [[]] * 1000}).encode()
    assert len(read_raw(DEEP + b"\n" + wide).records) == 2


def test_a_long_line_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line beyond the limit is reported and skipped; at the limit it is read."""
    monkeypatch.setattr("finetuning_exam.data.reading.files.MAX_LINE_BYTES", len(GOOD))
    read = read_raw(GOOD + b"\n" + GOOD + b" \n" + GOOD)
    assert [line for line, _, _ in places_of(read)] == [1, 3]
    assert [it.kind for it in read.findings] == [Kind.TOO_LONG_LINE]
    assert texts_of(read) == ["d.jsonl:2: the line is longer than 16 MiB."]


def test_lines_that_end_in_carriage_returns_are_named_once() -> None:
    """A file with classic Mac OS line endings is one finding that says so."""
    read = read_raw(b"\r".join([GOOD] * 50))
    assert texts_of(read) == [
        "d.jsonl:1: several objects on one line (the second starts at column 12); "
        "a bare carriage return (\\r) does not end a line."
    ]


@pytest.mark.parametrize(("name", "pack"), [("gzip", gzip.compress), ("zstd", None)])
def test_a_truncated_file_keeps_its_records(name: str, pack: object) -> None:
    """The records before a truncation of compressed data are read; its line is reported."""
    zstd = pyarrow.Codec("zstd")
    content = GOOD + b"\n" + GOOD + b"\n" + b'{"a": "' + b"x" * 100
    packed = pack(content) if callable(pack) else zstd.compress(content, asbytes=True)
    again = pack(GOOD) if callable(pack) else zstd.compress(GOOD, asbytes=True)
    read = read_raw(packed + again[: len(again) // 2])
    assert len(read.records) == 2
    assert [(it.kind, it.line) for it in read.findings] == [(Kind.CUT_FILE, 3)]
    assert texts_of(read) == [
        f"d.jsonl:3: the {name} data is truncated here; the rest of the file was not read."
    ]
