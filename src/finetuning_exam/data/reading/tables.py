"""Tables: CSV and TSV with a header row, and Parquet."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from finetuning_exam.data.findings import Finding, Kind
from finetuning_exam.data.reading.files import (
    MAX_LINE_BYTES,
    MAX_WHOLE_BYTES,
    FileRows,
    Row,
    Stream,
    cut,
    no_records,
    open_regular,
    undecodable,
    unreadable,
)
from finetuning_exam.errors import UsageError

_HEADER_MEND = "Name every column once in the first line, such as: instruction,output."
_UNFINISHED = "unexpected end of data"
_REST = "; the rest of the file was not read"
_REREAD_CHARACTERS = 10_000_000
"""What may be read in vain, and four times the file, to find where quotation marks match again."""


def read_table(stream: Stream, separator: str) -> tuple[list[Row], list[Finding]]:
    """The records of a CSV or TSV file; every value is a string, an empty cell an empty one.

    A record with too many or too few cells, or with quotation marks that do not match, is a
    finding; the reading goes on with the next line.

    Raises:
        UsageError: the header cannot be used, or the file is too long to be held in memory.
    """
    data = stream.whole()
    number = data.count(b"\n") + 1
    if stream.damage:
        data = data[: data.rfind(b"\n") + 1]
    if b"\r" in data.strip() and b"\n" not in data.strip():
        raise UsageError(
            f"{stream.path}: its lines end with a carriage return (\\r) alone.",
            "Save it with line feeds (\\n).",
        )
    table = _Table(data, stream.path, separator, is_cut=bool(stream.damage))
    with _long_fields():
        table.read()
    return table.rows, [*table.findings, *cut(stream, number)]


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let a cell be as long as a line may be; csv keeps this limit for the whole process."""
    before = csv.field_size_limit(MAX_LINE_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(before)


@dataclass(slots=True)
class _Record:
    """The cells of one record, or the fault that ended it; it stands on lines `start` to `end`."""

    start: int
    end: int
    cells: list[str]
    fault: str = ""


class _Table:
    """The reading of one CSV or TSV file; `surrogateescape` stands in for what is not UTF-8."""

    def __init__(self, data: bytes, path: str, separator: str, *, is_cut: bool) -> None:
        self.path = path
        self.rows: list[Row] = []
        self.findings: list[Finding] = []
        self._lines = data.decode("utf-8", "surrogateescape").split("\n")
        self._has_undecodable = not _is_utf8(data)
        self._separator = separator
        self._is_cut = is_cut
        self._most_characters = 4 * len(data) + _REREAD_CHARACTERS

    def read(self) -> None:
        """Every record.

        Raises:
            UsageError: the header cannot be used.
        """
        header: list[str] = []
        for record in self._records():
            if record.start == record.end and not self._lines[record.start - 1].strip():
                continue
            if header:
                self._add(record, header)
            else:
                header = self._header(record)

    def _add(self, record: _Record, header: list[str]) -> None:
        kind, detail = Kind.BAD_QUOTES, record.fault
        line = record.start
        if (bad := self._undecodable(record)) is not None:
            kind, (line, detail) = Kind.NOT_UTF8, bad
        elif not detail and len(record.cells) != len(header):
            kind = Kind.WRONG_COLUMNS
            cells = f"{len(record.cells)} {'cell' if len(record.cells) == 1 else 'cells'}"
            columns = f"{len(header)} {'column' if len(header) == 1 else 'columns'}"
            detail = f"{cells} where the header has {columns}"
        if detail:
            self.findings.append(Finding(kind, detail, self.path, line))
        else:
            self.rows.append(Row(record.start, 0, dict(zip(header, record.cells, strict=True))))

    def _header(self, record: _Record) -> list[str]:
        """The names of the columns.

        Raises:
            UsageError: one is empty or occurs twice, or the line cannot be read.
        """
        where, names = f"{self.path}:{record.start}", record.cells
        bad = self._undecodable(record)
        if bad is not None or record.fault:
            raise UsageError(f"{where}: {bad[1] if bad else record.fault}.", _HEADER_MEND)
        other = next((mark for mark in ";\t|," if len(names) == 1 and mark in names[0]), None)
        if other is not None:
            raise UsageError(
                f"{where}: the columns are separated by {other!r}.",
                "Write commas between them in a .csv file, tabs in a .tsv file.",
            )
        for column, name in enumerate(names, start=1):
            if not name.strip():
                raise UsageError(f"{where}: column {column} has no name.", _HEADER_MEND)
            if name in names[: column - 1]:
                raise UsageError(f"{where}: the column {name!r} occurs twice.", _HEADER_MEND)
        return names

    def _records(self) -> Iterator[_Record]:
        """Records in order; after a faulty one the next line starts a record again."""
        start, gone_through = 0, 0
        while start < len(self._lines):
            source = _Lines(self._lines, start, 0)
            reader = csv.reader(source, delimiter=self._separator, strict=True)
            try:
                for cells in reader:
                    yield _Record(start + 1, source.next, cells)
                    start = source.next
                return
            except csv.Error as error:
                if self._is_cut and _UNFINISHED in str(error):
                    return
                gone_through += source.characters
                fault = _said(error)
                is_last = gone_through > self._most_characters
                yield _Record(start + 1, start + 1, [], fault + _REST * is_last)
                if is_last:
                    return
                start += 1

    def _undecodable(self, record: _Record) -> tuple[int, str] | None:
        """The line of a record's first byte that is not UTF-8, and what to say of it."""
        if not self._has_undecodable:
            return None
        for number in range(record.start, record.end + 1):
            line = self._lines[number - 1]
            try:
                line.encode("utf-8")
            except UnicodeEncodeError as error:
                before = line[: error.start + 1].encode("utf-8", "surrogateescape")
                return number, undecodable(before[-1], len(before))
        return None


@dataclass(slots=True)
class _Lines:
    """Lines from an index on, each with its line feed; `next` is the index of the next line."""

    lines: list[str]
    next: int
    characters: int

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if self.next >= len(self.lines):
            raise StopIteration
        line = self.lines[self.next]
        self.next += 1
        self.characters += len(line) + 1
        return line if self.next == len(self.lines) else line + "\n"


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _said(error: csv.Error) -> str:
    """Python's complaint about a record in words for whoever wrote it."""
    said = str(error)
    if _UNFINISHED in said:
        return 'a quotation mark (") is opened here and never closed'
    if "expected after" in said:
        return "text follows a closing quotation mark"
    if "new-line" in said:
        return "a carriage return (\\r) alone stands outside quotation marks"
    return f"cannot be read ({said})"


class _Batch(Protocol):
    """What is used of pyarrow's RecordBatch."""

    num_rows: int

    def to_pylist(self) -> list[dict[str, object]]: ...
    def slice(self, offset: int, length: int) -> _Batch: ...


def read_parquet(path: str) -> FileRows:
    """The rows of a Parquet file as Python objects, numbered from 1.

    Raises:
        UsageError: the file is damaged, or too large to be held in memory.
        DataError: it has no rows.
    """
    import pyarrow.parquet

    rows: list[Row] = []
    findings: list[Finding] = []
    with open_regular(path) as file:
        try:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
        except OSError as error:
            raise unreadable(path, error) from error
        try:
            table = pyarrow.parquet.ParquetFile(pyarrow.PythonFile(file, mode="r"))
            groups = [table.metadata.row_group(it) for it in range(table.num_row_groups)]
            size = sum(group.total_byte_size for group in groups)
            _refuse_large_or_ambiguous(path, size, table.schema_arrow.names)
            for batch in table.iter_batches(batch_size=1024):
                _add_batch(batch, path, rows, findings)
        except UsageError:
            raise
        except Exception as error:  # a damaged file makes pyarrow raise almost anything
            raise UsageError(
                f"{path}: cannot be read as Parquet ({_first_line(error)}).", "Get the file again."
            ) from error
    if not rows and not findings:
        raise no_records(path)
    return FileRows(path, sha256, "Parquet", tuple(rows), tuple(findings))


def _refuse_large_or_ambiguous(path: str, size: int, names: list[str]) -> None:
    if size > MAX_WHOLE_BYTES:
        raise UsageError(
            f"{path}: holds more than {MAX_WHOLE_BYTES:,} bytes, which is too much for this "
            "format.",
            "Write it as JSON lines, one object a line.",
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{path}: the column {twice!r} occurs twice.", "Keep one of the two.")


def _add_batch(batch: _Batch, path: str, rows: list[Row], findings: list[Finding]) -> None:
    """Add the rows of a batch; one that holds text that is not UTF-8 becomes a finding."""
    done = len(rows) + len(findings)
    try:
        values = batch.to_pylist()
    except UnicodeDecodeError:
        values = None
    for index in range(batch.num_rows):
        line = done + index + 1
        try:
            value = values[index] if values is not None else batch.slice(index, 1).to_pylist()[0]
            rows.append(Row(line, 0, value))
        except UnicodeDecodeError as error:
            detail = undecodable(error.object[error.start], error.start + 1)
            findings.append(Finding(Kind.NOT_UTF8, detail, path, line))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
