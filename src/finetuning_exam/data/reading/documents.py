"""A JSON text over several lines: an array of records, or objects one after the other.

Supported are `[{…}, {…}]`; `{…} {…}`, each over several lines, as jq writes them; and one object
that holds the records as a list in a field with one of the `LIST_NAMES`, such as `{"data": […]}`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from finetuning_exam.data.findings import Fault, Finding
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.files import REST_UNREAD, RawRecord, undecodable
from finetuning_exam.data.reading.json_reasons import comma_expected, extra_text
from finetuning_exam.data.reading.json_values import (
    SPACE,
    SyntaxFault,
    as_object,
    end_of_value,
    not_json,
    read_leniently,
    read_value,
)
from finetuning_exam.errors import UsageError

LIST_NAMES = (
    *("data", "dataset", "train", "records", "rows"),
    *("examples", "samples", "items", "instances"),
)
"""Fields whose list of objects is taken for the records if the file is one object."""
SPLIT_NAMES = ("test", "validation", "valid", "dev", "eval")
"""Fields that hold the records of another split."""


def read_document(
    data: bytes, path: str, *, is_cut: bool = False
) -> tuple[list[RawRecord], list[Finding]]:
    """Read all records of a JSON text, and the faults among them, each with its line.

    A faulty record is a finding and the others are read; a syntax error ends the reading, and
    what precedes it is kept. `is_cut`: the text is known to break off, which is not reported
    again.

    Raises:
        UsageError: one object with several lists, none of which is clearly the records.
    """
    document = _Document(data.decode("utf-8", "surrogateescape"), path)
    try:
        document.read()
    except SyntaxFault as fault:
        if not is_cut:
            document.stop(fault)
    return document.raw_records(), document.findings()


def records_field(value: object, path: str) -> str | None:
    """Return the field of an object that holds the records as a list, or None.

    Raises:
        UsageError: several fields qualify.
    """
    if not isinstance(value, dict):
        return None
    lists = [
        name
        for name, items in value.items()
        if isinstance(items, list) and items and isinstance(items[0], dict)
    ]
    named = [name for name in lists if name in (*LIST_NAMES, *SPLIT_NAMES)]
    if len(named) > 1:
        raise UsageError(
            f"{path} is one object with several lists of records: {', '.join(named)}.",
            f"Write one list to a separate file, for example: jq -c '.{named[0]}[]' FILE > NEW.",
        )
    return lists[0] if len(lists) == 1 and lists[0] in LIST_NAMES else None


@dataclass(slots=True)
class _Document:
    """The state of reading one JSON text; bytes that are not UTF-8 are surrogate escapes."""

    text: str
    path: str
    records: list[tuple[int, int, dict[str, object] | Fault]] = field(default_factory=list)
    others: list[Finding] = field(default_factory=list)
    _line: int = 1
    _line_start: int = 0
    _counted: int = 0
    _bytes_to: tuple[int, int] = (0, 0)
    """An index, and the number of bytes before it in its line."""

    def read(self) -> None:
        """Read every record.

        Raises:
            SyntaxFault: the text is not JSON from there on.
        """
        end = self._after_space(0)
        if self.text[end : end + 1] == "[":
            end = self._after_space(self._array(end))
            if end < len(self.text):
                raise SyntaxFault(extra_text(self.text, end), end)
            return
        if (start := self._wrapped(end)) is not None:
            self._array(start)
            return
        while end < len(self.text):
            end = self._after_space(self._record(end))

    def raw_records(self) -> list[RawRecord]:
        """Return the records without a fault."""
        return [
            RawRecord(line, column, value)
            for line, column, value in self._placed()
            if not isinstance(value, Fault)
        ]

    def findings(self) -> list[Finding]:
        """Return the faults, in file order."""
        faults = [
            Finding(value.kind, value.detail, self.path, line, column)
            for line, column, value in self._placed()
            if isinstance(value, Fault)
        ]
        return [*faults, *self.others]

    def stop(self, fault: SyntaxFault) -> None:
        """Record the fault that ends the reading."""
        position = min(fault.position, len(self.text))
        self._go_to(position)
        bad = self._undecodable(position, position + 1)
        if bad is not None:
            detail = bad.detail
        elif fault.kind in (Kind.NOT_JSON, Kind.PYTHON_NOTATION):
            detail = not_json(fault.detail, position - self._line_start + 1)
        else:
            detail = fault.detail
        kind = bad.kind if bad is not None else fault.kind
        self.others.append(Finding(kind, detail + REST_UNREAD, self.path, self._line))

    def _placed(self) -> list[tuple[int, int, dict[str, object] | Fault]]:
        """Return the records, with a column only if several start on one line."""
        alone = Counter(line for line, _, _ in self.records)
        return [
            (line, column if alone[line] > 1 else 0, value) for line, column, value in self.records
        ]

    def _array(self, start: int) -> int:
        """Read the records of the array at an index; return the index after it."""
        position = self._after_space(start + 1)
        if self.text[position : position + 1] == "]":
            return position + 1
        while True:
            position = self._after_space(self._record(position))
            mark = self.text[position : position + 1]
            if mark == "]":
                return position + 1
            if mark != ",":
                raise SyntaxFault(comma_expected(self.text, position), position)
            position = self._after_space(position + 1)

    def _record(self, start: int) -> int:
        """Read the record at an index; return the index after it."""
        value: dict[str, object] | Fault
        try:
            found, end = read_value(self.text, start)
            value = as_object(found)
        except SyntaxFault:
            raise
        except Fault as fault:
            value = fault
            end = end if fault.kind is Kind.NOT_AN_OBJECT else end_of_value(self.text, start)
        self._go_to(start)
        line, column = self._line, start - self._line_start + 1
        if (bad := self._undecodable(start, end)) is not None:
            value = bad
            line, column = self._line, 0
        self.records.append((line, column, value))
        return end

    def _wrapped(self, start: int) -> int | None:
        """Return the index of the list of records if the text is one object that holds it."""
        try:
            value, end = read_leniently(self.text, start)
        except SyntaxFault:
            return None
        if self._after_space(end) < len(self.text):
            return None
        name = records_field(value, self.path)
        if name is None or not isinstance(value, dict):
            return None
        unused = [other for other in value if other != name]
        if unused:
            detail = f"only {name!r} is read; not used: {', '.join(map(repr, unused))}"
            self.others.append(Finding(Kind.UNUSED_FIELD, detail, self.path))
        return self._field(start, name)

    def _field(self, start: int, name: str) -> int | None:
        """Return the index of a field's value in the object at `start`; None if it occurs twice."""
        found = []
        position = self._after_space(start + 1)
        while self.text[position] != "}":
            key, position = read_leniently(self.text, position)
            position = self._after_space(self._after_space(position) + 1)
            if key == name:
                found.append(position)
            position = self._after_space(read_leniently(self.text, position)[1])
            if self.text[position] == ",":
                position = self._after_space(position + 1)
        return found[0] if len(found) == 1 else None

    def _undecodable(self, start: int, end: int) -> Fault | None:
        """Find the first byte that is not UTF-8 in a part of the text, and move to its line."""
        part = self.text[start:end]
        if part.isascii():
            return None
        try:
            part.encode("utf-8")
        except UnicodeEncodeError as error:
            self._go_to(start + error.start)
            return Fault(Kind.NOT_UTF8, self._undecodable_here())
        return None

    def _undecodable_here(self) -> str:
        """Describe the byte at the current position; no byte of a line is counted twice."""
        index, before = self._bytes_to
        if index < self._line_start:
            index, before = self._line_start, 0
        between = self.text[index : self._counted].encode("utf-8", "surrogateescape")
        self._bytes_to = self._counted, before + len(between)
        (value,) = self.text[self._counted].encode("utf-8", "surrogateescape")
        return undecodable(value, before + len(between) + 1)

    def _go_to(self, position: int) -> None:
        """Advance the line count to a later index."""
        self._line += self.text.count("\n", self._counted, position)
        last = self.text.rfind("\n", self._counted, position)
        self._line_start = last + 1 if last >= 0 else self._line_start
        self._counted = position

    def _after_space(self, start: int) -> int:
        found = SPACE.match(self.text, start)
        return found.end() if found else start
