"""Specification of reading JSON arrays and other whole texts as raw records."""

from __future__ import annotations

import gzip

import pytest
from raw_records import GOOD, places_of, read_raw, refusal_of, texts_of

pytestmark = pytest.mark.usefixtures("folder")


def test_an_array_is_read_with_the_line_of_every_element() -> None:
    """Elements have the line on which they start, and a column only if they share it."""
    read = read_raw(b'[\n {"a": 1},\n\n {"a":\n 2}, {"a": 3},\n {}, {"\xc3\xa9": 4}]\n')
    assert read.container == "JSON array"
    assert places_of(read) == [
        (2, 0, {"a": 1}),
        (4, 0, {"a": 2}),
        (5, 0, {"a": 3}),
        (6, 2, {}),
        (6, 6, {"é": 4}),
    ]


def test_a_faulty_element_is_a_finding_and_the_others_are_read() -> None:
    """Each fault has its line, and its column if several elements share the line."""
    deep = b"[" * 10_000 + b'"]"' + b"]" * 10_000
    elements = [b'{"a":1,"a":2}', GOOD, b"NaN", b"7", deep, b'{"a":"\xff"}', b"9" * 9999, GOOD]
    read = read_raw(b"[" + b",\n".join(elements) + b',{"a":Infinity}]')
    assert places_of(read) == [(2, 0, {"a": "b"}), (8, 1, {"a": "b"})]
    assert texts_of(read) == [
        "d.jsonl:1: duplicate field 'a'.",
        "d.jsonl:3: expected an object, got null.",
        "d.jsonl:4: expected an object, got a number.",
        "d.jsonl:5: nested more than 100 levels deep.",
        "d.jsonl:6: not valid UTF-8 (0xff at byte 7).",
        "d.jsonl:7: a number has too many digits.",
        "d.jsonl:8:12: Infinity is not valid JSON.",
    ]


@pytest.mark.timeout(60)
def test_many_faults_on_one_line_take_linear_time() -> None:
    """Each of fifty thousand invalid bytes on one line has its position, in seconds."""
    count = 50_000
    read = read_raw(b"[" + b",".join([b'"\xff \xc3\xa9"'] * count) + b"]")
    assert [it.detail for it in read.findings] == [
        f"not valid UTF-8 (0xff at byte {3 + 7 * number})" for number in range(count)
    ]


BROKEN = {
    b'[{"a": 1},\n {"a" 2},\n {}]': "2: not valid JSON (expected ':' at column 7)",
    b'[{"a": 1}\n {"a": 2}]': "2: not valid JSON (expected ',' at column 2)",
    b'[{"a": 1},\n]': "1: not valid JSON (comma before a closing bracket at column 10)",
    b'[{"a": 1},\n{"a": "x': "2: not valid JSON (unterminated string starting at column 7)",
    b'[{"a": 1}\n] x': "2: not valid JSON (unexpected text after the value at column 3)",
    b'[{"a": 1}\n\xff]': "2: not valid UTF-8 (0xff at byte 1)",
    b'[{"a": 1},\n' + b"[" * 100_000: "2: nested more than 100 levels deep",
}


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_a_syntax_error_ends_an_array(content: bytes) -> None:
    """The records before the error are read; the finding says that the rest was not."""
    read = read_raw(content)
    assert places_of(read) == [(1, 0, {"a": 1})]
    assert texts_of(read) == [f"d.jsonl:{BROKEN[content]}; the rest of the file was not read."]


def test_a_truncated_array_is_one_finding() -> None:
    """An array in a truncated compressed file is read up to there, with one finding."""
    packed = gzip.compress(b'[{"a": 1},\n{"a": 2},\n{"a": "' + b"x" * 99, mtime=0)
    read = read_raw(packed[:-4])
    assert [line for line, _, _ in places_of(read)] == [1, 2]
    assert texts_of(read) == [
        "d.jsonl:3: the gzip data is truncated here; the rest of the file was not read."
    ]


def test_arrays_one_a_line_are_json_lines() -> None:
    """If the first line is a complete array and others follow, each line is judged separately."""
    read = read_raw(b"[1,2]\n" + GOOD + b"\n[3]")
    assert read.container == "JSON lines"
    assert places_of(read) == [(2, 0, {"a": "b"})]
    assert texts_of(read) == [
        "d.jsonl:1: expected an object, got a list.",
        "d.jsonl:3: expected an object, got a list.",
    ]


def test_pretty_printed_objects_are_read() -> None:
    """Objects over several lines, one after the other, are records at their first line."""
    read = read_raw(b'{\n "a": 1\n}\n{\n "a": [\n  2\n ]\n}\n')
    assert places_of(read) == [(1, 0, {"a": 1}), (4, 0, {"a": [2]})]


WRAPPERS = [b'{"version": 1, "data": [{"a": 1}, 7]}', b'{\n"version": 1, "data": [{"a": 1}, 7]}']


@pytest.mark.parametrize("content", WRAPPERS)
def test_an_object_that_contains_the_records_is_unwrapped(content: bytes) -> None:
    """`{"data": […]}` is read as its list, and the other fields are reported."""
    read = read_raw(content)
    line = content.count(b"\n") + 1
    assert read.container == "JSON array"
    assert [row.value for row in read.records] == [{"a": 1}]
    column = len(content.split(b"\n")[-1].partition(b", 7")[0]) + 3
    assert texts_of(read) == [
        "d.jsonl: only 'data' is read; not used: 'version'.",
        f"d.jsonl:{line}:{column}: expected an object, got a number.",
    ]


@pytest.mark.parametrize("content", [b'{\n"messages": [{"a": 1}]}', b'{"messages": [{"a": 1}]}'])
def test_one_conversation_is_one_record(content: bytes) -> None:
    """A list under another name belongs to the one record."""
    assert places_of(read_raw(content)) == [(1, 0, {"messages": [{"a": 1}]})]


@pytest.mark.parametrize("space", [b" ", b"\n"])
def test_several_lists_are_ambiguous(space: bytes) -> None:
    """`{"train": […], "test": […]}` is refused with a command that extracts one."""
    content = b'{"train":%s[{"a": 1}], "test": [{"a": 2}]}' % space
    assert refusal_of(content) == (
        "d.jsonl is one object with several lists of records: train, test. "
        "Write one list to a separate file, for example: jq -c '.train[]' FILE > NEW."
    )


def test_a_broken_pretty_printed_object_is_one_finding() -> None:
    """An object over twenty lines with a fault is not twenty faults."""
    fields = b",\n".join(b'"%d": 1' % number for number in range(20))
    read = read_raw(b"{\n" + fields + b",\n}\n")
    assert len(read.findings) == 1
    assert read.findings[0].line in (21, 22)  # from Python 3.13 on the comma, before the bracket
    assert read.findings[0].detail.endswith("the rest of the file was not read")


def test_a_first_line_cut_off_is_a_fault_of_that_line() -> None:
    """JSON lines whose first line is cut off, even after a comma, stay JSON lines."""
    for cut in (b'{"a": 1,', b'{"a": 1', b"{", b'{"a": "'):
        read = read_raw(cut + b"\n" + GOOD)
        assert places_of(read) == [(2, 0, {"a": "b"})]
        assert [it.line for it in read.findings] == [1]
