"""Specification of detecting the kind of a file, and of the kinds that are refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from raw_records import GOOD, places_of, read_raw, refusal_of, texts_of

from finetuning_exam.data.reading.containers import read_file
from finetuning_exam.errors import DataError, UsageError

pytestmark = pytest.mark.usefixtures("folder")

RECORDS = (
    'Write records, one per line, such as {"instruction": "…", "output": "…"}, or {"text": "…"} '
    "for plain text."
)


REFUSED = {
    "UTF-16": 'a: "ü"'.encode("utf-16"),
    "UTF-16LE without a mark": GOOD.decode().encode("utf-16-le"),
    "UTF-16BE": GOOD.decode().encode("utf-16-be"),
}


@pytest.mark.parametrize(("name", "content"), REFUSED.items(), ids=REFUSED)
def test_utf16_is_one_error(name: str, content: bytes) -> None:
    """A file in UTF-16 is refused with the command that converts it."""
    encoding = name.split()[0]
    assert refusal_of(content, "d x.csv") == (
        "d x.csv is UTF-16, not UTF-8. "
        f"Convert it to UTF-8: iconv -f {encoding} -t UTF-8 'd x.csv' > new.csv."
    )


CAFES = b'{"a": "caf\xe9"}\n' * 59 + b'{"a": "b"}\n'


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        (
            "d.jsonl",
            CAFES,
            "59 of 60 lines are not valid UTF-8; the file is probably Windows-1252. "
            "Convert it to UTF-8: iconv -f CP1252 -t UTF-8 d.jsonl > new.jsonl.",
        ),
        (
            "d.csv",
            b"a,b\n" + b"gr\xfc\xdfe,x\n" * 1200,
            "1,200 of 1,200 lines are not valid UTF-8; the file is probably Windows-1252. "
            "Convert it to UTF-8: iconv -f CP1252 -t UTF-8 d.csv > new.csv.",
        ),
        (
            "d.json.gz",
            gzip.compress(b"[" + CAFES.replace(b"\n", b",\n")[:-2] + b"]", mtime=0),
            "59 of 60 lines are not valid UTF-8; the file is probably Windows-1252. "
            "Convert it to UTF-8: gzip -dc d.json.gz | iconv -f CP1252 -t UTF-8 > new.json.",
        ),
        (
            "d.jsonl",
            b'{"a": "' + "привет".encode("cp1251") + b'"}\n' + CAFES[:14] + b'{"a": "b"}\n',
            "2 of 3 lines are not valid UTF-8. "
            "Find out its encoding, then convert it to UTF-8: "
            "iconv -f ENCODING -t UTF-8 d.jsonl > new.jsonl.",
        ),
    ],
    ids=["JSON lines", "CSV", "array in gzip", "Cyrillic"],
)
def test_another_encoding_is_one_error(name: str, content: bytes, what: str) -> None:
    """If most lines are not UTF-8, the file is refused once, with its likely encoding and the
    command that converts it.
    """
    assert refusal_of(content, name) == f"{name}: {what}"


def test_few_lines_that_are_not_utf8_are_findings() -> None:
    """In an otherwise valid file they are faults of their lines, and so is a single line."""
    good = b'{"a": "b"}\n'
    assert texts_of(read_raw(CAFES[:14] * 2 + good * 2)) == [
        f"d.jsonl:{number}: not valid UTF-8 (0xe9 at byte 11)." for number in (1, 2)
    ]
    assert len(texts_of(read_raw(CAFES[:14]))) == 1


def test_other_content_is_refused_with_a_hint() -> None:
    """Prose under another name than a text's, and binary formats are each one error."""
    assert refusal_of(b"# Title\n\nprose\n", "d.rst") == (
        f"d.rst: none of its 2 lines is valid JSON. {RECORDS} "
        "A table needs a file name that ends in .csv or .tsv."
    )
    assert refusal_of(b"PK\x03\x04\0\0", "d.xlsx") == (
        "d.xlsx cannot be read as an Excel workbook: it is truncated or damaged. "
        "Download or copy the file again."
    )
    assert refusal_of(b"PK\x03\x04\0\0", "d.zip") == (
        f"d.zip is a zip archive or an Office file. Unpack or export it. {RECORDS}"
    )
    assert refusal_of(gzip.compress(gzip.compress(GOOD), mtime=0), "d.gz").startswith(
        "d.gz is compressed twice. "
    )
    assert refusal_of(b"\x89BIN\0\xff\xfe", "d.bin") == f"d.bin is binary, not text. {RECORDS}"


TAR = b"d.jsonl".ljust(257, b"\0") + b"ustar\x0000"
OTHERS = {
    "tar": (TAR, "is a tar archive. Unpack it first: tar -xf 'd x.csv'."),
    "tar.gz": (
        gzip.compress(TAR, mtime=0),
        "is a tar archive. Unpack it first: tar -xf 'd x.csv'.",
    ),
    "xlsx": (
        b"PK\x03\x04\x14xl/workbook.xml",
        "cannot be read as an Excel workbook: it is truncated or damaged. "
        "Download or copy the file again.",
    ),
    "xls": (
        b"\xd0\xcf\x11\xe0\xa1",
        'is an old Excel or Office file. Save it as an .xlsx file, or as "CSV UTF-8", in the '
        "spreadsheet program.",
    ),
    "xz": (b"\xfd7zXZ\0", "is compressed with xz. Unpack it first: xz -d 'd x.csv'."),
    "bzip2": (b"BZh9", "is compressed with bzip2. Unpack it first: bzip2 -d 'd x.csv'."),
}


@pytest.mark.parametrize(("content", "what"), OTHERS.values(), ids=OTHERS)
def test_archives_and_spreadsheets_are_detected_under_any_name(content: bytes, what: str) -> None:
    """Each is one error with the command or the step that converts it to records."""
    assert refusal_of(content, "d x.csv") == f"d x.csv {what}"


@pytest.mark.parametrize("name", ["d.csv", "d.tsv", "d.csv.gz"])
def test_json_lines_under_the_name_of_a_table_are_read(name: str) -> None:
    """A .csv file that starts with a JSON object contains JSON lines; a brace alone is a table."""
    read = read_raw(b"\n " + GOOD + b"\n" + GOOD, name)
    assert (read.container, len(read.records)) == ("JSON lines", 2)
    assert read_raw(b"{a},b\n1,2\n", name).records[0].value == {"{a}": "1", "b": "2"}


def test_a_list_of_turns_has_a_hint() -> None:
    """A line with turns that are not in a field is reported with the missing object."""
    turns = b'[{"role": "user", "content": "a"}]\n'
    assert texts_of(read_raw(turns * 2)) == [
        f'd.jsonl:{number}: expected an object such as {{"messages": [ … ]}}, got a list of turns.'
        for number in (1, 2)
    ]


def test_records_under_any_name_are_read() -> None:
    """The content decides: JSON lines in a .txt file, compressed without an extension, are read."""
    assert places_of(read_raw(gzip.compress(GOOD, mtime=0), "d.txt")) == [(1, 0, {"a": "b"})]
    assert read_raw(gzip.compress(b"a,b\n1,2\n", mtime=0), "d.csv.gz").container == "CSV"


@pytest.mark.parametrize(
    "name", ["a b", "[1].jsonl", "a::b", "*", "?", "é\U0001f600", "hub", "-x", "a\nb", "#"]
)
def test_a_name_is_only_a_name(name: str) -> None:
    """Characters that are special to shells, globs or libraries are not special here."""
    Path("other").write_bytes(GOOD + GOOD)
    assert places_of(read_raw(GOOD, name)) == [(1, 0, {"a": "b"})]


def test_a_url_is_refused() -> None:
    """The hint is to download the file first."""
    with pytest.raises(UsageError) as caught:
        read_file("HTTPS://example.org/d.jsonl")
    assert str(caught.value) == (
        "HTTPS://example.org/d.jsonl is a URL, not a file. "
        "Download it first, then give the file's path."
    )


EMPTY = [b"", b"\n \r\n", b"\xef\xbb\xbf", b"[]", b" [ ] \n", gzip.compress(b"", mtime=0)]


@pytest.mark.parametrize("content", EMPTY, ids=range(len(EMPTY)))
def test_a_file_without_records_is_refused(content: bytes) -> None:
    """An empty file, blank lines and an empty array have no records."""
    with pytest.raises(DataError) as caught:
        read_raw(content)
    assert str(caught.value) == (
        "d.jsonl: no records found. "
        'Write one JSON object per line, such as {"instruction": "…", "output": "…"}.'
    )
