"""Plain-text tables with a header line: CSV and TSV, with the separator that the header uses.

Spreadsheet programs write semicolons where the comma is the decimal mark, a first line `sep=;`,
lines with nothing but separators, and a last column without a name; none of these is a fault.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from finetuning_exam.data.findings import Finding
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.files import (
    MAX_LINE_BYTES,
    REST_UNREAD,
    Container,
    RawRecord,
    Stream,
    damage_findings,
)
from finetuning_exam.data.reading.index_columns import index_notes, n_index, n_named
from finetuning_exam.data.reading.joined import without_marks
from finetuning_exam.data.reading.separators import find_separator
from finetuning_exam.data.reading.utf8 import first_undecodable
from finetuning_exam.errors import UsageError

_CONTAINERS: dict[str, Container] = {
    ",": "CSV",
    "\t": "TSV",
    ";": "CSV with semicolons",
    "|": "CSV with vertical bars",
}
_HEADER_HINT = "Name every column once in the first line, for example: instruction,output."
_UNFINISHED = "unexpected end of data"
_REREAD_CHARACTERS = 10_000_000
"""Beyond four times the file, the characters that may be reread to find balanced quotes again."""


def read_table(stream: Stream, usual: str) -> tuple[Container, list[RawRecord], list[Finding]]:
    """Read the records of a CSV or TSV file; every value is a string, of an empty cell "".

    `usual` is the separator that the file's name implies; another is used if the header shows it.
    A record with too many or too few cells, or with unbalanced quotation marks, is a finding;
    reading resumes at the next line.

    Raises:
        UsageError: the header is unusable, or the file is too large to be held in memory.
    """
    data, notes = without_marks(stream.whole(), stream.path)
    number = data.count(b"\n") + 1
    if stream.damage:
        data = data[: data.rfind(b"\n") + 1]
    if b"\r" in data.strip() and b"\n" not in data.strip():
        raise UsageError(
            f"{stream.path}: its lines end with a bare carriage return (\\r).",
            "Save it with line feeds (\\n) as line endings.",
        )
    table = _Table(data, stream.path, usual, is_cut=bool(stream.damage))
    with _long_fields():
        table.read()
    return (
        _CONTAINERS[table.separator],
        table.records,
        [*notes, *table.findings, *damage_findings(stream, number)],
    )


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let a cell be as long as a line may be; csv has one limit for the whole process."""
    before = csv.field_size_limit(MAX_LINE_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(before)


@dataclass(slots=True)
class _Record:
    """The cells of one record on lines `start` to `end`, or the fault that ended it."""

    start: int
    end: int
    cells: list[str]
    fault: str = ""


class _Table:
    """The state of reading one table; bytes that are not UTF-8 are surrogate escapes."""

    def __init__(self, data: bytes, path: str, usual: str, *, is_cut: bool) -> None:
        self.path = path
        self.records: list[RawRecord] = []
        self.findings: list[Finding] = []
        self._lines = data.decode("utf-8", "surrogateescape").split("\n")
        self._has_undecodable = not _is_utf8(data)
        self._start, self.separator = find_separator(self._lines, usual)
        self._is_cut = is_cut
        self._index_cells: list[list[str]] = []
        """The cells of the first columns without a name, by record."""
        self._most_characters = 4 * len(data) + _REREAD_CHARACTERS

    def read(self) -> None:
        """Read every record.

        Raises:
            UsageError: the header is unusable.
        """
        header: list[str] = []
        header_line = 0
        blank = self.separator + " \t\r"
        for record in self._records():
            if record.start == record.end and not self._lines[record.start - 1].strip(blank):
                continue
            if header:
                self._add(record, header)
            else:
                header, header_line = self._header(record), record.start
        lines = [record.line for record in self.records]
        columns = list(zip(*self._index_cells, strict=True))
        self.findings += index_notes(columns, lines, self.path, header_line)

    def _add(self, record: _Record, header: list[str]) -> None:
        kind, detail = Kind.BAD_QUOTES, record.fault
        line = record.start
        if (bad := self._undecodable(record)) is not None:
            kind, (line, detail) = Kind.NOT_UTF8, bad
        elif not detail and not self._fits(record, header):
            kind = Kind.WRONG_COLUMNS
            cells = f"{len(record.cells)} {'cell' if len(record.cells) == 1 else 'cells'}"
            columns = f"{len(header)} {'column' if len(header) == 1 else 'columns'}"
            detail = f"found {cells}, but the header has {columns}"
            if any("\ufeff" in cell for cell in record.cells):
                detail += "; a byte-order mark (U+FEFF) shows where files were joined"
        if detail:
            self.findings.append(Finding(kind, detail, self.path, line))
        else:
            named: dict[str, object] = {
                name: text for name, text in zip(header, record.cells, strict=False) if name
            }
            self.records.append(RawRecord(record.start, 0, named))
            self._index_cells.append(record.cells[: n_index(header)])

    def _fits(self, record: _Record, header: list[str]) -> bool:
        """Return whether a record has a cell for each name.

        Raises:
            UsageError: a cell of the unnamed last columns is not empty.
        """
        last = n_named(header)
        for column, text in enumerate(record.cells[last : len(header)], start=last + 1):
            if text.strip():
                raise UsageError(
                    f"{self.path}:{record.start}: column {column} has no name.", _HEADER_HINT
                )
        return last <= len(record.cells) <= len(header)

    def _header(self, record: _Record) -> list[str]:
        """Return the names of the columns, "" for the first and last ones if they have none.

        Raises:
            UsageError: another name is empty, one occurs twice, or the line cannot be read.
        """
        where, names = f"{self.path}:{record.start}", record.cells
        if (bad := self._undecodable(record)) is not None:
            raise UsageError(f"{where}: {bad[1]}.", Kind.NOT_UTF8.hint)
        if record.fault:
            raise UsageError(f"{where}: {record.fault}.", _HEADER_HINT)
        start, end = n_index(names), n_named(names)
        names = [name if start <= column < end else "" for column, name in enumerate(names)]
        other = next((mark for mark in ";\t|," if len(names) == 1 and mark in names[0]), None)
        if other is not None:
            raise UsageError(
                f"{where}: the columns are separated by {other!r}.",
                "Separate them with commas in a .csv file, with tabs in a .tsv file.",
            )
        for column, name in enumerate(names[:end], start=1):
            if column <= start:
                continue
            if not name.strip():
                raise UsageError(f"{where}: column {column} has no name.", _HEADER_HINT)
            if name in names[: column - 1]:
                raise UsageError(f"{where}: duplicate column {name!r}.", _HEADER_HINT)
        return names

    def _records(self) -> Iterator[_Record]:
        """Yield records in order; after a faulty one the next line starts a new record."""
        start, n_reread = self._start, 0
        while start < len(self._lines):
            source = _Lines(self._lines, start, 0)
            reader = csv.reader(source, delimiter=self.separator, strict=True)
            try:
                for cells in reader:
                    yield _Record(start + 1, source.next, cells)
                    start = source.next
                return
            except csv.Error as error:
                if self._is_cut and _UNFINISHED in str(error):
                    return
                n_reread += source.characters
                is_last = n_reread > self._most_characters
                fault = _description(error) + REST_UNREAD * is_last
                yield _Record(start + 1, start + 1, [], fault)
                if is_last:
                    return
                start += 1

    def _undecodable(self, record: _Record) -> tuple[int, str] | None:
        """Return the line and the description of a record's first byte that is not UTF-8."""
        if not self._has_undecodable:
            return None
        return first_undecodable(self._lines[record.start - 1 : record.end], record.start)


@dataclass(slots=True)
class _Lines:
    """An iterator over lines, each with its line feed; `next` is the index of the next line."""

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


def _description(error: csv.Error) -> str:
    """Put Python's message about a record into terms of the file."""
    message = str(error)
    if _UNFINISHED in message:
        return 'the quotation mark (") opened here is never closed'
    if "expected after" in message:
        return "unexpected text after a closing quotation mark"
    if "new-line" in message:
        return "bare carriage return (\\r) outside quotation marks"
    if "field limit" in message:
        return f"a cell is longer than {MAX_LINE_BYTES >> 20} MiB"
    return "cannot be read as a line of a table"
