"""Tables in plain text with a header row: CSV and TSV, with the separator that the header shows.

Spreadsheets write semicolons where the comma is the decimal mark, a first line `sep=;`, rows of
nothing but separators, and a last column without a name; none of these is a fault.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from finetuning_exam.data.findings import Finding, Kind
from finetuning_exam.data.reading.files import (
    MAX_LINE_BYTES,
    Container,
    Row,
    Stream,
    cut,
    undecodable,
)
from finetuning_exam.errors import UsageError

_CONTAINERS: dict[str, Container] = {
    ",": "CSV",
    "\t": "TSV",
    ";": "CSV with semicolons",
    "|": "CSV with vertical bars",
}
_SEPARATORS = "".join(_CONTAINERS)
_SEPARATOR_LINE = re.compile(r'"?sep=([,;|\t])"?[ \t\r]*', re.IGNORECASE)
"""Excel's own first line."""
_HEADER_MEND = "Name every column once in the first line, such as: instruction,output."
_UNFINISHED = "unexpected end of data"
_REST = "; the rest of the file was not read"
_REREAD_CHARACTERS = 10_000_000
"""What may be read in vain, and four times the file, to find where quotation marks match again."""


def read_table(stream: Stream, usual: str) -> tuple[Container, list[Row], list[Finding]]:
    """The records of a CSV or TSV file; every value is a string, an empty cell an empty one.

    `usual` is the separator for the file's name; another is taken where the header shows it. A
    record with too many or too few cells, or with quotation marks that do not match, is a
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
    table = _Table(data, stream.path, usual, is_cut=bool(stream.damage))
    with _long_fields():
        table.read()
    return _CONTAINERS[table.separator], table.rows, [*table.findings, *cut(stream, number)]


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

    def __init__(self, data: bytes, path: str, usual: str, *, is_cut: bool) -> None:
        self.path = path
        self.rows: list[Row] = []
        self.findings: list[Finding] = []
        self._lines = data.decode("utf-8", "surrogateescape").split("\n")
        self._has_undecodable = not _is_utf8(data)
        self._start, self.separator = _find_separator(self._lines, usual)
        self._is_cut = is_cut
        self._most_characters = 4 * len(data) + _REREAD_CHARACTERS

    def read(self) -> None:
        """Every record.

        Raises:
            UsageError: the header cannot be used.
        """
        header: list[str] = []
        for record in self._records():
            if record.start == record.end and self._is_empty(record.start - 1):
                continue
            if header:
                self._add(record, header)
            else:
                header = self._header(record)

    def _is_empty(self, index: int) -> bool:
        """Whether a line holds nothing but separators and white space."""
        return not self._lines[index].strip(self.separator + " \t\r")

    def _add(self, record: _Record, header: list[str]) -> None:
        kind, detail = Kind.BAD_QUOTES, record.fault
        line = record.start
        if (bad := self._undecodable(record)) is not None:
            kind, (line, detail) = Kind.NOT_UTF8, bad
        elif not detail and not self._fits(record, header):
            kind = Kind.WRONG_COLUMNS
            cells = f"{len(record.cells)} {'cell' if len(record.cells) == 1 else 'cells'}"
            columns = f"{len(header)} {'column' if len(header) == 1 else 'columns'}"
            detail = f"{cells} where the header has {columns}"
        if detail:
            self.findings.append(Finding(kind, detail, self.path, line))
        else:
            named: dict[str, object] = {
                name: text for name, text in zip(header, record.cells, strict=False) if name
            }
            self.rows.append(Row(record.start, 0, named))

    def _fits(self, record: _Record, header: list[str]) -> bool:
        """Whether a record has a cell for each name; those of nameless last columns are empty.

        Raises:
            UsageError: one of these is not.
        """
        n_named = len(header) - header.count("")
        for column, text in enumerate(record.cells[n_named : len(header)], start=n_named + 1):
            if text.strip():
                raise UsageError(
                    f"{self.path}:{record.start}: column {column} has no name.", _HEADER_MEND
                )
        return n_named <= len(record.cells) <= len(header)

    def _header(self, record: _Record) -> list[str]:
        """The names of the columns, "" for the last ones where these have none.

        Raises:
            UsageError: another one is empty, one occurs twice, or the line cannot be read.
        """
        where, names = f"{self.path}:{record.start}", record.cells
        if (bad := self._undecodable(record)) is not None:
            raise UsageError(f"{where}: {bad[1]}.", Kind.NOT_UTF8.hint)
        if record.fault:
            raise UsageError(f"{where}: {record.fault}.", _HEADER_MEND)
        names = [*names[: _n_named(names)], *("" for _ in names[_n_named(names) :])]
        other = next((mark for mark in ";\t|," if len(names) == 1 and mark in names[0]), None)
        if other is not None:
            raise UsageError(
                f"{where}: the columns are separated by {other!r}.",
                "Write commas between them in a .csv file, tabs in a .tsv file.",
            )
        for column, name in enumerate(names[: _n_named(names)], start=1):
            if not name.strip():
                raise UsageError(f"{where}: column {column} has no name.", _HEADER_MEND)
            if name in names[: column - 1]:
                raise UsageError(f"{where}: the column {name!r} occurs twice.", _HEADER_MEND)
        return names

    def _records(self) -> Iterator[_Record]:
        """Records in order; after a faulty one the next line starts a record again."""
        start, gone_through = self._start, 0
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


def _find_separator(lines: Sequence[str], usual: str) -> tuple[int, str]:
    """The index of the line to start at, and the separator that the header shows.

    It is the usual one unless a single other splits the header into several names, each there
    once, and the usual one does not.
    """
    index = next((it for it, line in enumerate(lines) if line.strip(_SEPARATORS + " \r")), 0)
    if stated := _SEPARATOR_LINE.fullmatch(lines[index]):
        return index + 1, stated[1]
    if _splits(lines[index], usual):
        return 0, usual
    others = [it for it in _SEPARATORS if it != usual and _splits(lines[index], it)]
    return 0, others[0] if len(others) == 1 else usual


def _splits(line: str, separator: str) -> bool:
    """Whether a header has several names with this separator, each there once."""
    try:
        cells = next(csv.reader([line], delimiter=separator, strict=True), [])
    except csv.Error:  # a name goes on in the next line
        return False
    names = [name.strip() for name in cells[: _n_named(cells)]]
    return len(names) > 1 and all(names) and len(set(names)) == len(names)


def _n_named(names: Sequence[str]) -> int:
    """How many columns there are without the last ones that have no name."""
    return max((column for column, name in enumerate(names, start=1) if name.strip()), default=0)


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
