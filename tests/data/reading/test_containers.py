"""Specification of how a path becomes raw records, every fault of one of them a finding."""

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

from finetuning_exam.data.findings import Kind
from finetuning_exam.data.reading.containers import FileRows, read_file
from finetuning_exam.data.reading.json_values import MAX_DEPTH
from finetuning_exam.errors import DataError, UsageError

GOOD = b'{"a": "b"}'
RECORDS = (
    'Write records, one a line, such as {"instruction": "…", "output": "…"}, or {"text": "…"} '
    "for plain text."
)
same_folder = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in an empty folder, so that a path in a message is a bare name."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _read(content: bytes, name: str = "d.jsonl") -> FileRows:
    Path(name).write_bytes(content)
    return read_file(name)


def _places(read: FileRows) -> list[tuple[int, int, dict[str, object]]]:
    return [(row.line, row.column, row.value) for row in read.rows]


def _said(read: FileRows) -> list[str]:
    return [str(finding) for finding in read.findings]


def _refusal(content: bytes, name: str = "d.jsonl") -> str:
    with pytest.raises(UsageError) as caught:
        _read(content, name)
    return str(caught.value)


# JSON lines

ACCEPTED = {
    "plain": b'{"a": 1}\n{"a": 2}\n',
    "no last newline": b'{"a": 1}\n{"a": 2}',
    "CRLF": b'{"a": 1}\r\n{"a": 2}\r\n',
    "byte-order mark": b'\xef\xbb\xbf{"a": 1}\n{"a": 2}\n',
    "white space": b' \t{"a": 1} \n\t{"a" :2}\t\n',
}


@pytest.mark.parametrize("content", ACCEPTED.values(), ids=ACCEPTED)
def test_json_lines_are_read(content: bytes) -> None:
    """However lines end and whatever white space there is, the records are the same."""
    read = _read(content)
    assert read.container == "JSON lines"
    assert read.sha256 == hashlib.sha256(content).hexdigest()
    assert _places(read) == [(1, 0, {"a": 1}), (2, 0, {"a": 2})]
    assert read.findings == ()


def test_blank_lines_are_counted_and_text_may_hold_line_separators() -> None:
    """A record has its true line, and U+2028 or U+0085 in text ends none."""
    read = _read('\n \n{"a": "x\u2028y\u0085"}\n\r\n{}'.encode())
    assert _places(read) == [(3, 0, {"a": "x\u2028y\u0085"}), (5, 0, {})]


DEEP = b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH
FAULTS = {
    b"\xff": (Kind.NOT_UTF8, "not UTF-8 (byte 0xff at byte 1)"),
    b'{"a": "x\xe9"}': (Kind.NOT_UTF8, "not UTF-8 (byte 0xe9 at byte 9)"),
    b'{"a": "\xed\xa0\x80"}': (Kind.NOT_UTF8, "not UTF-8 (byte 0xed at byte 8)"),
    b"\x00": (Kind.NOT_JSON, "not valid JSON (Expecting value at column 1)"),
    b'{"a": "\x00"}': (Kind.NOT_JSON, "not valid JSON (Invalid control character at column 8)"),
    b'{"a": 1': (Kind.NOT_JSON, "not valid JSON (Expecting ',' delimiter at column 8)"),
    b'{"a": "': (Kind.NOT_JSON, "not valid JSON (Unterminated string starting at column 7)"),
    b'{"a": 1} x': (Kind.NOT_JSON, "not valid JSON (Extra data at column 10)"),
    b'{"a": ' + b"9" * 9999 + b"}": (Kind.NOT_JSON, "a number has too many digits"),
    GOOD + GOOD: (Kind.SEVERAL_OBJECTS, "several objects on one line (the second at column 11)"),
    GOOD + b"\r" + GOOD: (
        Kind.SEVERAL_OBJECTS,
        "several objects on one line (the second at column 12); "
        "a carriage return (\\r) alone ends no line",
    ),
    b'{"a": NaN}': (Kind.NOT_FINITE, "NaN is not JSON"),
    b'{"a": [-Infinity]}': (Kind.NOT_FINITE, "-Infinity is not JSON"),
    b'{"a": 1e999}': (Kind.NOT_FINITE, "the number 1e999 is too large"),
    b"[" * 100_000: (Kind.TOO_DEEP, "nested too deeply"),
    b'{"a":' * 10_000 + b"1" + b"}" * 10_000: (Kind.TOO_DEEP, "nested too deeply"),
    b'{"a":' + DEEP + b"}": (Kind.TOO_DEEP, "nested too deeply"),
    b"[1]": (Kind.NOT_AN_OBJECT, "a list where an object belongs"),
    b'"a"': (Kind.NOT_AN_OBJECT, "a string where an object belongs"),
    b"3": (Kind.NOT_AN_OBJECT, "a number where an object belongs"),
    b"null": (Kind.NOT_AN_OBJECT, "null where an object belongs"),
    b"true": (Kind.NOT_AN_OBJECT, "a boolean where an object belongs"),
    b'{"a": 1, "b": 2, "a": 3}': (Kind.DUPLICATE_KEY, "the field 'a' occurs twice"),
    b'{"a": [{"y": 1, "y": 2}]}': (Kind.DUPLICATE_KEY, "the field 'y' occurs twice"),
}


@pytest.mark.parametrize("line", FAULTS, ids=range(len(FAULTS)))
def test_a_faulty_line_is_a_finding_and_the_others_are_read(line: bytes) -> None:
    """The finding names the kind, the place and what is wrong; the lines around it are records."""
    read = _read(GOOD + b"\n" + line + b"\n" + GOOD)
    assert _places(read) == [(1, 0, {"a": "b"}), (3, 0, {"a": "b"})]
    kind, detail = FAULTS[line]
    assert [(it.kind, it.column) for it in read.findings] == [(kind, 0)]
    assert _said(read) == [f"d.jsonl:2: {detail}."]


@pytest.mark.parametrize("line", FAULTS, ids=range(len(FAULTS)))
def test_a_faulty_first_line_is_no_other_kind_of_file(line: bytes) -> None:
    """A fault in the first line does not make JSON lines anything else."""
    read = _read(line + b"\n" + GOOD)
    if not line.startswith(b"[["):  # such an array might go on in the next line
        assert _places(read) == [(2, 0, {"a": "b"})]
    assert [(it.kind, it.line) for it in read.findings] == [(FAULTS[line][0], 1)]


def test_nesting_is_limited_by_depth_not_by_size() -> None:
    """A hundred objects in each other are read, and so is a flat list of a thousand."""
    wide = json.dumps({"a": [[]] * 1000}).encode()
    assert len(_read(DEEP + b"\n" + wide).rows) == 2


def test_a_long_line_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line beyond the limit is named and passed over; at the limit it is read."""
    monkeypatch.setattr("finetuning_exam.data.reading.files.MAX_LINE_BYTES", len(GOOD))
    read = _read(GOOD + b"\n" + GOOD + b" \n" + GOOD)
    assert [line for line, _, _ in _places(read)] == [1, 3]
    assert [it.kind for it in read.findings] == [Kind.TOO_LONG_LINE]
    assert _said(read) == ["d.jsonl:2: the line is longer than 16 MiB."]


def test_lines_that_end_in_carriage_returns_are_named_once() -> None:
    """A file with the line ends of the old Macintosh is one finding that says so."""
    read = _read(b"\r".join([GOOD] * 50))
    assert _said(read) == [
        "d.jsonl:1: several objects on one line (the second at column 12); "
        "a carriage return (\\r) alone ends no line."
    ]


@pytest.mark.parametrize(("name", "pack"), [("gzip", gzip.compress), ("zstd", None)])
def test_a_cut_file_keeps_its_records(name: str, pack: object) -> None:
    """Of a compressed file that is cut off, what came before is read and the line is named."""
    zstd = pyarrow.Codec("zstd")
    content = GOOD + b"\n" + GOOD + b"\n" + b'{"a": "' + b"x" * 100
    packed = pack(content) if callable(pack) else zstd.compress(content, asbytes=True)
    again = pack(GOOD) if callable(pack) else zstd.compress(GOOD, asbytes=True)
    read = _read(packed + again[: len(again) // 2])
    assert len(read.rows) == 2
    assert [(it.kind, it.line) for it in read.findings] == [(Kind.CUT_FILE, 3)]
    assert _said(read) == [
        f"d.jsonl:3: the {name} data is cut off here; the rest of the file was not read."
    ]


# JSON arrays and other whole texts


def test_an_array_is_read_with_the_line_of_every_element() -> None:
    """Elements have the line where they start, and a column only where they share it."""
    read = _read(b'[\n {"a": 1},\n\n {"a":\n 2}, {"a": 3},\n {}, {"\xc3\xa9": 4}]\n')
    assert read.container == "JSON array"
    assert _places(read) == [
        (2, 0, {"a": 1}),
        (4, 0, {"a": 2}),
        (5, 0, {"a": 3}),
        (6, 2, {}),
        (6, 6, {"é": 4}),
    ]


def test_a_faulty_element_is_a_finding_and_the_others_are_read() -> None:
    """Each fault of one element has its line, and its column where several share the line."""
    deep = b"[" * 10_000 + b'"]"' + b"]" * 10_000
    elements = [b'{"a":1,"a":2}', GOOD, b"NaN", b"7", deep, b'{"a":"\xff"}', b"9" * 9999, GOOD]
    read = _read(b"[" + b",\n".join(elements) + b',{"a":Infinity}]')
    assert _places(read) == [(2, 0, {"a": "b"}), (8, 1, {"a": "b"})]
    assert _said(read) == [
        "d.jsonl:1: the field 'a' occurs twice.",
        "d.jsonl:3: NaN is not JSON.",
        "d.jsonl:4: a number where an object belongs.",
        "d.jsonl:5: nested too deeply.",
        "d.jsonl:6: not UTF-8 (byte 0xff at byte 7).",
        "d.jsonl:7: a number has too many digits.",
        "d.jsonl:8:12: Infinity is not JSON.",
    ]


@pytest.mark.timeout(60)
def test_many_faults_on_one_line_take_linear_time() -> None:
    """Each of fifty thousand bad bytes on one line has its true number, in seconds."""
    count = 50_000
    read = _read(b"[" + b",".join([b'"\xff \xc3\xa9"'] * count) + b"]")
    assert [it.detail for it in read.findings] == [
        f"not UTF-8 (byte 0xff at byte {3 + 7 * number})" for number in range(count)
    ]


BROKEN = {
    b'[{"a": 1},\n {"a" 2},\n {}]': "2: not valid JSON (Expecting ':' delimiter at column 7)",
    b'[{"a": 1}\n {"a": 2}]': "2: not valid JSON (Expecting ',' delimiter at column 2)",
    b'[{"a": 1},\n]': "2: not valid JSON (Expecting value at column 1)",
    b'[{"a": 1},\n{"a": "x': "2: not valid JSON (Unterminated string starting at column 7)",
    b'[{"a": 1}\n] x': "2: not valid JSON (Extra data at column 3)",
    b'[{"a": 1}\n\xff]': "2: not UTF-8 (byte 0xff at byte 1)",
    b'[{"a": 1},\n' + b"[" * 100_000: "2: nested too deeply",
}


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_a_syntax_error_ends_an_array(content: bytes) -> None:
    """What stands before the error is read; the finding says that the rest was not."""
    read = _read(content)
    assert _places(read) == [(1, 0, {"a": 1})]
    assert _said(read) == [f"d.jsonl:{BROKEN[content]}; the rest of the file was not read."]


def test_a_cut_array_is_one_finding() -> None:
    """An array in a cut compressed file is read up to there, with one finding for the cut."""
    packed = gzip.compress(b'[{"a": 1},\n{"a": 2},\n{"a": "' + b"x" * 99)
    read = _read(packed[:-4])
    assert [line for line, _, _ in _places(read)] == [1, 2]
    assert _said(read) == [
        "d.jsonl:3: the gzip data is cut off here; the rest of the file was not read."
    ]


def test_arrays_one_a_line_are_json_lines() -> None:
    """Where the first line is a whole array and others follow, each line is judged by itself."""
    read = _read(b"[1,2]\n" + GOOD + b"\n[3]")
    assert read.container == "JSON lines"
    assert _places(read) == [(2, 0, {"a": "b"})]
    assert _said(read) == [
        "d.jsonl:1: a list where an object belongs.",
        "d.jsonl:3: a list where an object belongs.",
    ]


def test_pretty_printed_objects_are_read() -> None:
    """Objects over several lines, one after the other, are records with their first line."""
    read = _read(b'{\n "a": 1\n}\n{\n "a": [\n  2\n ]\n}\n')
    assert _places(read) == [(1, 0, {"a": 1}), (4, 0, {"a": [2]})]


WRAPPERS = [b'{"version": 1, "data": [{"a": 1}, 7]}', b'{\n"version": 1, "data": [{"a": 1}, 7]}']


@pytest.mark.parametrize("content", WRAPPERS)
def test_an_object_that_holds_the_records_is_opened(content: bytes) -> None:
    """`{"data": […]}` is read as its list, and what stands beside it is said."""
    read = _read(content)
    line = content.count(b"\n") + 1
    assert read.container == "JSON array"
    assert [row.value for row in read.rows] == [{"a": 1}]
    column = len(content.split(b"\n")[-1].partition(b", 7")[0]) + 3
    assert _said(read) == [
        "d.jsonl: beside the records in 'data', not used: 'version'.",
        f"d.jsonl:{line}:{column}: a number where an object belongs.",
    ]


@pytest.mark.parametrize("content", [b'{\n"messages": [{"a": 1}]}', b'{"messages": [{"a": 1}]}'])
def test_one_conversation_is_one_record(content: bytes) -> None:
    """A list under another name belongs to the one record."""
    assert _places(_read(content)) == [(1, 0, {"messages": [{"a": 1}]})]


@pytest.mark.parametrize("space", [b" ", b"\n"])
def test_several_lists_are_not_guessed_among(space: bytes) -> None:
    """`{"train": […], "test": […]}` is refused with a command that takes one out."""
    content = b'{"train":%s[{"a": 1}], "test": [{"a": 2}]}' % space
    assert _refusal(content) == (
        "d.jsonl: is one object with several lists of records: train, test. "
        "Write one list to a file of its own, such as: jq -c '.train[]' FILE > NEW."
    )


def test_a_broken_pretty_printed_object_is_one_finding() -> None:
    """An object over twenty lines with a fault is not twenty faults."""
    fields = b",\n".join(b'"%d": 1' % number for number in range(20))
    read = _read(b"{\n" + fields + b",\n}\n")
    assert len(read.findings) == 1
    assert read.findings[0].line in (21, 22)  # from Python 3.13 on the comma, before the bracket
    assert read.findings[0].detail.endswith("the rest of the file was not read")


def test_a_first_line_cut_off_is_a_fault_of_that_line() -> None:
    """JSON lines whose first line breaks off, even after a comma, stay JSON lines."""
    for cut in (b'{"a": 1,', b'{"a": 1', b"{", b'{"a": "'):
        read = _read(cut + b"\n" + GOOD)
        assert _places(read) == [(2, 0, {"a": "b"})]
        assert [it.line for it in read.findings] == [1]


# Whole files

REFUSED = {
    "UTF-16": 'a: "ü"'.encode("utf-16"),
    "UTF-16LE without a mark": GOOD.decode().encode("utf-16-le"),
    "UTF-16BE": GOOD.decode().encode("utf-16-be"),
}


@pytest.mark.parametrize(("name", "content"), REFUSED.items(), ids=REFUSED)
def test_utf16_is_one_error(name: str, content: bytes) -> None:
    """A file in UTF-16 is refused with the command that converts it, by its real name."""
    encoding = name.split()[0]
    assert _refusal(content, "d x.csv") == (
        "d x.csv: is UTF-16, not UTF-8. "
        f"Save it as UTF-8: iconv -f {encoding} -t UTF-8 'd x.csv' > new.csv."
    )


CAFES = b'{"a": "caf\xe9"}\n' * 59 + b'{"a": "b"}\n'


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        (
            "d.jsonl",
            CAFES,
            "59 of 60 lines are not UTF-8; it is probably Windows-1252 "
            "(iconv -f CP1252 -t UTF-8 d.jsonl > new.jsonl).",
        ),
        (
            "d.csv",
            b"a,b\n" + b"gr\xfc\xdfe,x\n" * 1200,
            "1,200 of 1,200 lines are not UTF-8; it is probably Windows-1252 "
            "(iconv -f CP1252 -t UTF-8 d.csv > new.csv).",
        ),
        (
            "d.json.gz",
            gzip.compress(b"[" + CAFES.replace(b"\n", b",\n")[:-2] + b"]"),
            "59 of 60 lines are not UTF-8; it is probably Windows-1252 "
            "(gzip -dc d.json.gz | iconv -f CP1252 -t UTF-8 > new.json).",
        ),
        (
            "d.jsonl",
            b'{"a": "' + "привет".encode("cp1251") + b'"}\n' + CAFES[:14] + b'{"a": "b"}\n',
            "2 of 3 lines are not UTF-8. "
            "Find out its encoding, then: iconv -f ENCODING -t UTF-8 d.jsonl > new.jsonl.",
        ),
    ],
    ids=["JSON lines", "CSV", "array in gzip", "Cyrillic"],
)
def test_another_encoding_is_one_error(name: str, content: bytes, what: str) -> None:
    """Where most lines are not UTF-8, the file is refused once, with the encoding it seems to have
    and the command that converts it.
    """
    assert _refusal(content, name) == f"{name}: {what}"


def test_few_lines_that_are_not_utf8_are_findings() -> None:
    """In an otherwise fine file they are faults of their lines, as is a single line."""
    good = b'{"a": "b"}\n'
    assert _said(_read(CAFES[:14] * 2 + good * 2)) == [
        f"d.jsonl:{number}: not UTF-8 (byte 0xe9 at byte 11)." for number in (1, 2)
    ]
    assert len(_said(_read(CAFES[:14]))) == 1


def test_what_is_no_records_is_refused_with_the_way_out() -> None:
    """Plain text, prose under any name, and binary formats are each one error."""
    assert _refusal(b"Once upon a time\n", "d.txt") == (
        f"d.txt: is plain text, not records. {RECORDS}"
    )
    assert _refusal(b"# Title\n\nprose\n", "d.md") == (
        f"d.md: none of its 2 lines is JSON. {RECORDS} "
        "A table needs a name that ends in .csv or .tsv."
    )
    assert _refusal(b"PK\x03\x04\0\0", "d.xlsx") == (
        'd.xlsx: is an Excel file. Save it as "CSV UTF-8" in the spreadsheet.'
    )
    assert _refusal(b"PK\x03\x04\0\0", "d.zip") == (
        f"d.zip: is a zip archive or an Office file. Unpack or export it. {RECORDS}"
    )
    assert _refusal(gzip.compress(gzip.compress(GOOD)), "d.gz").startswith(
        "d.gz: is compressed twice. "
    )
    assert _refusal(b"\x89BIN\0\xff\xfe", "d.bin") == f"d.bin: is binary, not text. {RECORDS}"


TAR = b"d.jsonl".ljust(257, b"\0") + b"ustar\x0000"
OTHERS = {
    "tar": (TAR, "is a tar archive. Unpack it first: tar -xf 'd x.csv'."),
    "tar.gz": (gzip.compress(TAR), "is a tar archive. Unpack it first: tar -xf 'd x.csv'."),
    "xlsx": (
        b"PK\x03\x04\x14xl/workbook.xml",
        'is an Excel file. Save it as "CSV UTF-8" in the spreadsheet.',
    ),
    "xls": (
        b"\xd0\xcf\x11\xe0\xa1",
        'is a file of an old Excel or Office. Save it as "CSV UTF-8" in the spreadsheet.',
    ),
    "xz": (b"\xfd7zXZ\0", "is compressed with xz. Unpack it first: xz -d 'd x.csv'."),
    "bzip2": (b"BZh9", "is compressed with bzip2. Unpack it first: bzip2 -d 'd x.csv'."),
}


@pytest.mark.parametrize(("content", "what"), OTHERS.values(), ids=OTHERS)
def test_archives_and_spreadsheets_are_known_whatever_their_name(content: bytes, what: str) -> None:
    """Each is one error with the command or the step that makes records of it."""
    assert _refusal(content, "d x.csv") == f"d x.csv: {what}"


@pytest.mark.parametrize("name", ["d.csv", "d.tsv", "d.csv.gz"])
def test_json_lines_under_the_name_of_a_table_are_read(name: str) -> None:
    """A .csv file whose first line is a JSON object holds JSON lines; a brace alone is a table."""
    read = _read(b"\n " + GOOD + b"\n" + GOOD, name)
    assert (read.container, len(read.rows)) == ("JSON lines", 2)
    assert _read(b"{a},b\n1,2\n", name).rows[0].value == {"{a}": "1", "b": "2"}


def test_a_list_of_turns_is_told_how_to_be_a_record() -> None:
    """Turns alone on a line, without a field that holds them, are told what is missing."""
    turns = b'[{"role": "user", "content": "a"}]\n'
    assert _said(_read(turns * 2)) == [
        f'd.jsonl:{number}: a list of turns where an object belongs: {{"messages": [ … ]}}.'
        for number in (1, 2)
    ]


def test_records_under_any_name_are_read() -> None:
    """The content decides: JSON lines in a .txt file, compressed without an ending, are read."""
    assert _places(_read(gzip.compress(GOOD), "d.txt")) == [(1, 0, {"a": "b"})]
    assert _read(gzip.compress(b"a,b\n1,2\n"), "d.csv.gz").container == "CSV"


@pytest.mark.parametrize(
    "name", ["a b", "[1].jsonl", "a::b", "*", "?", "é\U0001f600", "hub", "-x", "a\nb", "#"]
)
def test_a_name_is_only_a_name(name: str) -> None:
    """Characters that mean something to shells, globs or libraries mean nothing here."""
    Path("other").write_bytes(GOOD + GOOD)
    assert _places(_read(GOOD, name)) == [(1, 0, {"a": "b"})]


def test_an_address_is_refused() -> None:
    """What is to be downloaded is said to be downloaded first."""
    with pytest.raises(UsageError) as caught:
        read_file("HTTPS://example.org/d.jsonl")
    assert str(caught.value) == (
        "HTTPS://example.org/d.jsonl: is an address, not a file. "
        "Download it first, then give the file's path."
    )


EMPTY = [b"", b"\n \r\n", b"\xef\xbb\xbf", b"[]", b" [ ] \n", gzip.compress(b"")]


@pytest.mark.parametrize("content", EMPTY, ids=range(len(EMPTY)))
def test_a_file_without_records_is_refused(content: bytes) -> None:
    """Nothing, blank lines and an empty array are no records."""
    with pytest.raises(DataError) as caught:
        _read(content)
    assert str(caught.value) == (
        "d.jsonl: the file holds no records. "
        'Write one JSON object a line, such as {"instruction": "…", "output": "…"}.'
    )


# Laws


def _check_laws(content: bytes, name: str) -> None:
    """Only errors for users; of JSON lines every line is accounted for and read truly."""
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
    assert read.rows or read.findings
    if read.container != "JSON lines" or content[:2] == b"\x1f\x8b" or content[:1] == b"\x28":
        return
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    filled = [number for number, line in enumerate(lines, start=1) if line.strip(b" \t\r")]
    found = [row.line for row in read.rows] + [finding.line for finding in read.findings]
    assert sorted(found) == filled
    for row in read.rows:
        assert row.value == json.loads(lines[row.line - 1].decode())


VALID = [
    b'{"a": "b", "c": [1, null]}\n\n{"a": "\\u00e9\xc3\xa9"}\r\n{"a": {"b": {}}}',
    b'[\n{"a": "b"},\n{"a": "\xc3\xa9"}, {"c": [{}]}\n]\n',
    b'{"data": [{"a": 1},\n{"a": 2}]}',
    b'{\n "a": 1\n}\n{\n "a": 2\n}\n',
    b'a,b\r\n"x\ny",2\r\n"q""r",\xc3\xa9\r\n',
]
VALID += [gzip.compress(content, mtime=0) for content in VALID[:2]]
VALID += [pyarrow.Codec("zstd").compress(content, asbytes=True) for content in VALID[:2]]
NAMES = ["d.jsonl", "d.csv", "d.tsv.gz", "d.txt"]
PIECES = [*b'{}[]",:\n\r\t \\\0\xff', 0xC3, 0x1F, 0x28]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid file in which bytes are replaced, put in, taken out, repeated, or cut off."""
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
    """Whatever the bytes are, there are records and findings that are true, or one error."""
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
    """An array's records come back, at ascending places that start with an object's bracket."""
    text = json.dumps(values, indent=indent, ensure_ascii=is_ascii)
    read = _read(text.encode())
    assert read.container == "JSON array"
    assert [row.value for row in read.rows] == values
    assert read.findings == ()
    lines = text.split("\n")
    for row in read.rows:
        start = row.column - 1 if row.column else lines[row.line - 1].index("{")
        assert lines[row.line - 1][start] == "{"
    places = [(row.line, row.column) for row in read.rows]
    assert places == sorted(set(places))


def test_recursion_is_no_matter_of_the_callers_stack() -> None:
    """A deeply nested file is a finding with a low recursion limit as well."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(400)
    try:
        read = _read(GOOD + b"\n" + b'{"a":' * 300 + b"1" + b"}" * 300)
    finally:
        sys.setrecursionlimit(before)
    assert [it.kind for it in read.findings] == [Kind.TOO_DEEP]
