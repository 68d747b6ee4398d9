"""Specification of reading CSV, TSV and Parquet files as raw records."""

from __future__ import annotations

import csv
import datetime
import gzip
import hashlib
import io
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.containers import read_file
from finetuning_exam.data.reading.files import FileRecords
from finetuning_exam.errors import DataError, UsageError

same_folder = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run every test in an empty folder, so that a path in a message is a bare name."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _read(content: bytes, name: str = "d.csv") -> FileRecords:
    Path(name).write_bytes(content)
    return read_file(name)


def _rows(content: bytes, name: str = "d.csv") -> list[tuple[int, dict[str, object]]]:
    read = _read(content, name)
    assert read.findings == ()
    return [(row.line, row.value) for row in read.records]


def _faults(content: bytes, name: str = "d.csv") -> tuple[list[int], list[tuple[Kind, str]]]:
    read = _read(content, name)
    return [row.line for row in read.records], [(it.kind, str(it)) for it in read.findings]


def test_a_record_has_the_line_where_it_starts() -> None:
    """A cell may contain separators, quotation marks and line feeds; a byte-order mark, CRLF, blank
    lines and a missing last newline are accepted.
    """
    content = b'\xef\xbb\xbfa,b\r\n1,"x, ""y""\nz"\r\n\r\n2,\r\n"3","4"'
    assert _rows(content) == [
        (2, {"a": "1", "b": 'x, "y"\nz'}),
        (5, {"a": "2", "b": ""}),
        (6, {"a": "3", "b": "4"}),
    ]


def test_tabs_separate_tsv() -> None:
    """A .tsv file is separated by tabs, so that a comma is text."""
    assert _rows(b"a\tb\n1,2\t3\n", "d.TSV") == [(2, {"a": "1,2", "b": "3"})]
    assert read_file("d.TSV").container == "TSV"


def test_an_empty_cell_that_is_quoted_is_a_record() -> None:
    """In a table with one column a blank line is ignored, but "" is an empty cell."""
    assert _rows(b'a\n""\n\nx\n') == [(2, {"a": ""}), (4, {"a": "x"})]


def test_a_faulty_record_is_named_and_the_next_line_read() -> None:
    """Wrong numbers of cells, unbalanced quotation marks and bytes that are not UTF-8 are findings
    at their line; the others are read.
    """
    content = b'a,b\n1\n1,2\n1,2,3\n"1"x,2\n3,4\n5,\xe9\n6,"x\n\xff"\n7,8\n9,"open\n1,0\n'
    assert _faults(content) == (
        [3, 6, 10, 12],
        [
            (Kind.WRONG_COLUMNS, "d.csv:2: found 1 cell, but the header has 2 columns."),
            (Kind.WRONG_COLUMNS, "d.csv:4: found 3 cells, but the header has 2 columns."),
            (Kind.BAD_QUOTES, "d.csv:5: unexpected text after a closing quotation mark."),
            (Kind.NOT_UTF8, "d.csv:7: not valid UTF-8 (0xe9 at byte 3)."),
            (Kind.NOT_UTF8, "d.csv:9: not valid UTF-8 (0xff at byte 1)."),
            (Kind.BAD_QUOTES, 'd.csv:11: the quotation mark (") opened here is never closed.'),
        ],
    )


def test_a_stray_carriage_return_is_a_fault_of_its_line() -> None:
    """A carriage return outside quotation marks that does not end a line is reported."""
    assert _faults(b"a,b\n1,2\r3,4\n5,6\n") == (
        [3],
        [
            (
                Kind.BAD_QUOTES,
                "d.csv:2: bare carriage return (\\r) outside quotation marks.",
            )
        ],
    )


@pytest.mark.timeout(60)
def test_unbalanced_quotation_marks_take_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in which every line opens a quotation to the end of the file is not read in quadratic
    time.
    """
    monkeypatch.setattr("finetuning_exam.data.reading.tables._REREAD_CHARACTERS", 0)
    lines, faults = _faults(b"a,b\n" + b'",x","\n' * 20_000)
    assert lines == []
    assert len(faults) < 10
    assert faults[-1][1].endswith("never closed; the rest of the file was not read.")


HEADERS = {
    b"a,a\n1,2\n": "d.csv:1: duplicate column 'a'. ",
    b"\na,,b\n1,2,3\n": "d.csv:2: column 2 has no name. ",
    b'"a"b,c\n': "d.csv:1: unexpected text after a closing quotation mark. ",
}


@pytest.mark.parametrize("content", HEADERS, ids=range(len(HEADERS)))
def test_a_header_that_cannot_be_used_stops_the_reading(content: bytes) -> None:
    """Column names must be present, distinct and readable."""
    with pytest.raises(UsageError) as caught:
        _read(content)
    hint = "Name every column once in the first line, for example: instruction,output."
    assert str(caught.value) == HEADERS[content] + hint


def test_a_header_that_is_not_utf8_is_named() -> None:
    """It has the hint of its kind and not that of a header."""
    with pytest.raises(UsageError, match=r"^d\.csv:1: not valid UTF-8 \(0xff at byte 2\)\. Save "):
        _read(b"a\xff,c\n")


@pytest.mark.parametrize(
    ("content", "name", "container"),
    [
        (b"a;b\n1,5;2\n", "d.csv", "CSV with semicolons"),
        (b"sep=;\r\na;b\r\n1,5;2\r\n", "d.csv", "CSV with semicolons"),
        (b'"SEP=;"\na;b\n1,5;2\n', "d.tsv", "CSV with semicolons"),
        (b"\n;;\na;b;\n1,5;2;\n", "d.csv", "CSV with semicolons"),
        (gzip.compress(b"a;b\n1,5;2\n", mtime=0), "d.csv.gz", "CSV with semicolons"),
        (b"a\tb\n1,5\t2\n", "d.csv", "TSV"),
        (b"a|b\n1,5|2\n", "d.csv", "CSV with vertical bars"),
        (b'a,b\n"1,5",2\n', "d.tsv", "CSV"),
        (b'a,"b;c|d"\n"1,5",2\n', "d.csv", "CSV"),
    ],
)
def test_the_header_shows_the_separator(content: bytes, name: str, container: str) -> None:
    """Semicolons, tabs and vertical bars are used if they, and not the usual separator, split the
    header; Excel's line `sep=;` is not a header. The container names the separator.
    """
    read = _read(content, name)
    assert (read.container, read.findings) == (container, ())
    assert [tuple(row.value.values()) for row in read.records] == [("1,5", "2")]
    assert read.records[0].line == content.count(b"\n") or name.endswith(".gz")


def test_an_ambiguous_separator_is_refused() -> None:
    """If two separators would work, or names occur twice, the file is refused."""
    for header in (b"a;b|c", b"a;a"):
        with pytest.raises(UsageError) as caught:
            _read(header + b"\n1;2\n")
        assert str(caught.value) == (
            "d.csv:1: the columns are separated by ';'. "
            "Separate them with commas in a .csv file, with tabs in a .tsv file."
        )


def test_lines_with_only_separators_are_blank() -> None:
    """Spreadsheet programs write them below a table; the other records keep their lines."""
    assert _rows(b"a,b\n1,2\n,\r\n , \n3,4\n,,,\n") == [
        (2, {"a": "1", "b": "2"}),
        (5, {"a": "3", "b": "4"}),
    ]


def test_an_empty_last_column_needs_no_name() -> None:
    """Unnamed columns at the end are ignored if they are empty in every record."""
    assert _rows(b"a,b,,\n1,2,,\n3,4,\n5,6\n") == [
        (2, {"a": "1", "b": "2"}),
        (3, {"a": "3", "b": "4"}),
        (4, {"a": "5", "b": "6"}),
    ]
    with pytest.raises(UsageError, match=r"^d\.csv:3: column 3 has no name\. Name every column"):
        _read(b"a,b,\n1,2,\n3,4,x\n")


def test_bare_carriage_returns_are_refused() -> None:
    """A table with classic Mac OS line endings is refused."""
    with pytest.raises(UsageError) as caught:
        _read(b"a,b\r1,2\r")
    assert str(caught.value) == (
        "d.csv: its lines end with a bare carriage return (\\r). "
        "Save it with line feeds (\\n) as line endings."
    )


@pytest.mark.parametrize("content", [b"a,b\n", b"a;b", b"sep=,\r\na,b\r\n", b"a,b\n,\n\n"])
def test_a_table_with_only_a_header_has_no_records(content: bytes) -> None:
    """A header alone is an empty file, and the hint is about tables."""
    with pytest.raises(DataError) as caught:
        _read(content)
    assert str(caught.value) == (
        "d.csv: no records found. "
        "Below the names of its columns, a table needs a row for each record."
    )


def test_a_long_cell_is_read_and_pythons_limit_left_alone() -> None:
    """A cell of a million characters is read; csv's limit for the process is unchanged."""
    before = csv.field_size_limit()
    assert len(str(_rows(b"a\n" + b"x" * 1_000_000)[0][1]["a"])) == 1_000_000
    assert csv.field_size_limit() == before


CELL = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


@same_folder
@given(st.lists(st.tuples(CELL, CELL), min_size=1), st.sampled_from(["\n", "\r\n"]))
@example([("", ""), ("\r", "\n"), ('"', "\x00"), ("\u2028", "\x85")], "\r\n")
def test_every_table_that_python_writes_is_read(cells: list[tuple[str, str]], end: str) -> None:
    """Tables written by Python's csv are read back, cell by cell, at ascending lines."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([("a", "b"), *cells])
    found = _rows(text.getvalue().encode())
    assert [tuple(value.values()) for _, value in found] == cells
    numbers = [line for line, _ in found]
    assert numbers == sorted(set(numbers))


def _parquet(table: pyarrow.Table, name: str = "d") -> bytes:
    pyarrow.parquet.write_table(table, name)
    return Path(name).read_bytes()


def test_parquet_records_are_python_objects() -> None:
    """Records are numbered from 1; lists, null and dates become Python objects."""
    day = datetime.date(2024, 1, 2)
    table = pyarrow.table({"a": ["x", None], "b": [[{"c": 1}], []], "d": [day, day]})
    stored = _parquet(table)
    read = read_file("d")
    assert read.container == "Parquet"
    assert read.sha256 == hashlib.sha256(stored).hexdigest()
    assert [(row.line, row.column, row.value) for row in read.records] == [
        (1, 0, {"a": "x", "b": [{"c": 1}], "d": day}),
        (2, 0, {"a": None, "b": [], "d": day}),
    ]


def test_text_in_parquet_that_is_not_utf8_is_a_fault_of_its_record() -> None:
    """A record whose text is not UTF-8 is a finding; the others are read."""
    bad = pyarrow.array([b"x", b"a\xff", b"y"]).view(pyarrow.string())
    _parquet(pyarrow.table({"a": bad}))
    read = read_file("d")
    assert [(row.line, row.value) for row in read.records] == [(1, {"a": "x"}), (3, {"a": "y"})]
    assert [str(it) for it in read.findings] == ["d:2: not valid UTF-8 (0xff at byte 2)."]


def test_a_damaged_parquet_file_is_refused() -> None:
    """A truncated Parquet file is one error."""
    stored = _parquet(pyarrow.table({"a": ["x"]}))
    Path("d").write_bytes(stored[:-9])
    with pytest.raises(
        UsageError,
        match=r"^d cannot be read as Parquet: it is truncated or damaged\. Download or copy",
    ):
        read_file("d")


def test_an_empty_or_ambiguous_parquet_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """No records, two columns of one name, and a file over the limit are each refused."""
    _parquet(pyarrow.table({"a": pyarrow.array([], pyarrow.string())}))
    with pytest.raises(DataError, match=r"^d: no records found\."):
        read_file("d")
    _parquet(pyarrow.Table.from_arrays([pyarrow.array(["x"])] * 2, names=["a", "a"]))
    with pytest.raises(UsageError, match=r"^d: duplicate column 'a'\."):
        read_file("d")
    _parquet(pyarrow.table({"a": ["x"]}))
    monkeypatch.setattr("finetuning_exam.data.reading.parquet.MAX_WHOLE_BYTES", 10)
    with pytest.raises(UsageError, match=r"^d contains more than 10 bytes"):
        read_file("d")
