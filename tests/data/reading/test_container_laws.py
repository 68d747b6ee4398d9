"""Laws of reading raw records: no bytes break the reader."""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
from pathlib import Path

import pyarrow
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from raw_records import GOOD, read_raw

from finetuning_exam.data.findings import errors
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.containers import read_file
from finetuning_exam.errors import DataError, UsageError

pytestmark = pytest.mark.usefixtures("folder")

same_folder = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _check_laws(content: bytes, name: str) -> None:
    """Check that only user errors are raised, and that every line of JSON lines is accounted for
    and read correctly.
    """
    Path(name).write_bytes(content)
    try:
        read = read_file(name)
    except (UsageError, DataError) as error:
        complaint: str | None = str(error)
    else:
        complaint = None
    if complaint is not None:
        assert complaint.startswith(name)
        return
    assert read.sha256 == hashlib.sha256(content).hexdigest()
    assert read.records or read.findings
    if read.container != "JSON lines" or content[:2] == b"\x1f\x8b" or content[:1] == b"\x28":
        return
    lines = content.removeprefix(MARK).split(b"\n")
    filled = [number for number, line in enumerate(lines, start=1) if line.strip(b" \t\r")]
    found = [row.line for row in read.records] + [it.line for it in errors(read.findings)]
    noted = {it.line for it in read.findings if it.kind is Kind.JOINED_FILES}
    assert sorted(found) == [
        number for number in filled if lines[number - 1].strip(b" \t\r") != MARK
    ]
    assert noted == {number for number in filled if lines[number - 1].startswith(MARK)}
    for row in read.records:
        text = lines[row.line - 1].removeprefix(MARK).decode()
        assert row.value == json.loads(text, parse_constant=lambda _: None)


MARK = b"\xef\xbb\xbf"
VALID = [
    MARK + b'{"a": "b"}\n' + MARK + b'{"a": "c"}\n',
    MARK + b"a,b\r\nx,y\r\n" + MARK + b"a,b\r\nz,w\r\n",
    b",a,Unnamed: 0\n0,x,0\n1,y,1\n",
    b";;a\n0;1.0;x\n1;2;y\n",
    b"{'a': None, 'b': (1, True)}\n{\"a\": 1,}\n{\"a\": [1, 2}\n",
    b'[{"a": 1,},\n{"b": nan} // x\n]\n',
    b'{"a": "b", "c": [1, null]}\n\n{"a": "\\u00e9\xc3\xa9"}\r\n{"a": {"b": {}}}',
    b'[\n{"a": "b"},\n{"a": "\xc3\xa9"}, {"c": [{}]}\n]\n',
    b'{"data": [{"a": 1},\n{"a": 2}]}',
    b'{\n "a": 1\n}\n{\n "a": 2\n}\n',
    b'a,b\r\n"x\ny",2\r\n"q""r",\xc3\xa9\r\n',
]
VALID += [gzip.compress(content, mtime=0) for content in VALID[:2]]
VALID += [pyarrow.Codec("zstd").compress(content, asbytes=True) for content in VALID[:2]]
NAMES = ["d.jsonl", "d.csv", "d.tsv.gz", "d.txt"]
PIECES = [*b"{}[]\",:\n\r\t \\\0\xff'#/N", 0xC3, 0x1F, 0x28]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return a valid file with bytes replaced, inserted, removed, repeated, or cut off."""
    content = bytearray(draw(st.sampled_from(VALID)))
    byte = st.sampled_from(PIECES) | st.integers(0, 255)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, min(len(content), start + 8)))
        new = draw(st.lists(byte, max_size=3).map(bytes) | st.just(bytes(content[start:end]) * 2))
        content[start:end] = new
    return bytes(content[: draw(st.integers(0, len(content)) | st.just(len(content)))])


@same_folder
@given(st.binary() | mutated(), st.sampled_from(NAMES))
@example(b"[[[[", "d.jsonl")
@example(b'{"data": [{}, ', "d.jsonl")
def test_no_file_can_break_the_reader(content: bytes, name: str) -> None:
    """Any bytes give records and findings that are true, or one error."""
    _check_laws(content, name)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
OBJECTS = st.lists(st.dictionaries(st.text(max_size=3), JSON, max_size=3), min_size=1, max_size=4)


@same_folder
@given(OBJECTS, st.sampled_from([None, 0, 1]), st.booleans())
def test_every_array_that_python_writes_is_read(
    values: list[dict[str, object]], indent: int | None, is_ascii: bool
) -> None:
    """An array's records are read back, at ascending places that start with an object's bracket."""
    text = json.dumps(values, indent=indent, ensure_ascii=is_ascii)
    read = read_raw(text.encode())
    assert read.container == "JSON array"
    assert [row.value for row in read.records] == values
    assert read.findings == ()
    lines = text.split("\n")
    for row in read.records:
        start = row.column - 1 if row.column else lines[row.line - 1].index("{")
        assert lines[row.line - 1][start] == "{"
    places = [(row.line, row.column) for row in read.records]
    assert places == sorted(set(places))


def test_the_callers_stack_does_not_limit_the_nesting() -> None:
    """A deeply nested file is a finding even with a low recursion limit."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(400)
    try:
        read = read_raw(GOOD + b"\n" + b'{"a":' * 300 + b"1" + b"}" * 300)
    finally:
        sys.setrecursionlimit(before)
    assert [it.kind for it in read.findings] == [Kind.TOO_DEEP]
