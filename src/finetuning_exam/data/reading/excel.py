"""Read the records of the first sheet of an Excel workbook (.xlsx)."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from finetuning_exam.data.findings import Finding
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.fields import listed
from finetuning_exam.data.reading.files import MAX_WHOLE_BYTES, RawRecord
from finetuning_exam.data.reading.index_columns import index_notes, n_index, n_named
from finetuning_exam.errors import UsageError

_PLAIN_FORMATS = ("General", "0", "@")
"""Number formats that show a number as it is stored."""
_HEADER_HINT = "Name every column once in the first row, for example: instruction, output."


class _Cell(Protocol):
    """The part of openpyxl's cells that is used."""

    value: object
    number_format: str


class _Sheet(Protocol):
    """The part of openpyxl's sheets that is used."""

    title: str

    def iter_rows(self) -> Iterable[Sequence[_Cell]]: ...


def is_workbook(head: bytes, path: str) -> bool:
    """Return whether the beginning of a file, or its name, is that of an Excel workbook."""
    is_zip = head.startswith(b"PK\x03\x04")
    return is_zip and (b"xl/" in head or path.lower().endswith((".xlsx", ".xlsm")))


def read_workbook(data: bytes, path: str) -> tuple[list[RawRecord], list[Finding]]:
    """Read the records of the first sheet; `line` is the number of a row, as the program shows it.

    Empty cells are "". Numbers are text where the sheet shows them as they are stored; a date, or
    a number that is shown in another way, stays what it is and is a fault where text belongs.

    Raises:
        UsageError: the package openpyxl is missing, or the file is damaged or too large, or the
            first row does not name the columns.
    """
    try:
        import openpyxl
    except ImportError:
        raise UsageError(
            f"{path}: reading Excel files needs the package openpyxl.",
            "Install it: uv add 'finetuning-exam[excel]', or pip install openpyxl. Or save the "
            'file as "CSV UTF-8" in the spreadsheet program.',
        ) from None
    try:
        _refuse_large(data, path)
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        sheets: list[_Sheet] = list(book.worksheets)
        records, findings = _read_sheet(sheets[0], path) if sheets else ([], [])
    except UsageError:
        raise
    except Exception as error:  # a damaged file makes openpyxl raise almost anything
        raise UsageError(
            f"{path} cannot be read as an Excel workbook: it is truncated or damaged.",
            Kind.CUT_FILE.hint,
        ) from error
    if len(sheets) > 1:
        detail = (
            f"only the first sheet, {sheets[0].title!r}, is read; not used: "
            f"{listed(it.title for it in sheets[1:])}"
        )
        findings.append(Finding(Kind.UNUSED_SHEET, detail, path))
    return records, findings


def _refuse_large(data: bytes, path: str) -> None:
    """Refuse a workbook that would unpack to more than a table may have."""
    with zipfile.ZipFile(io.BytesIO(data)) as parts:
        if sum(part.file_size for part in parts.infolist()) > MAX_WHOLE_BYTES:
            raise UsageError(
                f"{path} contains more than {MAX_WHOLE_BYTES:,} bytes, too much for this format.",
                "Convert it to JSON lines, one object per line.",
            )


def _read_sheet(sheet: _Sheet, path: str) -> tuple[list[RawRecord], list[Finding]]:
    header: list[str] = []
    header_row = 0
    records: list[RawRecord] = []
    index_cells: list[list[str]] = []
    for number, cells in _rows(sheet):
        if not header:
            header, header_row = _header(cells, f"{path}:{number}"), number
            continue
        named = n_named(header)
        for column, cell in enumerate(cells[named:], start=named + 1):
            if cell != "":
                raise UsageError(f"{path}:{number}: column {column} has no name.", _HEADER_HINT)
        full = [*cells, *[""] * (named - len(cells))]
        value = {name: cell for name, cell in zip(header, full, strict=False) if name}
        records.append(RawRecord(number, 0, value))
        index_cells.append([str(it) for it in full[: n_index(header)]])
    columns = list(zip(*index_cells, strict=True))
    notes = index_notes(columns, [it.line for it in records], path, header_row)
    return records, notes


def _rows(sheet: _Sheet) -> Iterator[tuple[int, list[object]]]:
    """Yield the rows that are not empty, numbered from 1."""
    for number, row in enumerate(sheet.iter_rows(), start=1):
        cells = [_value(cell) for cell in row]
        if any(it.strip() if isinstance(it, str) else True for it in cells):
            yield number, cells


def _value(cell: _Cell) -> object:
    """Return a cell as the text that a CSV file would have, if that is sure."""
    value = cell.value
    if value is None:
        return ""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and cell.number_format in _PLAIN_FORMATS:
        is_rounded = isinstance(value, float) and cell.number_format == "0"
        return value if is_rounded else str(value)
    return value


def _header(cells: Sequence[object], where: str) -> list[str]:
    """Return the names of the columns, "" for the first and last ones if they have none.

    Raises:
        UsageError: another column has no name, a name is no text, or one occurs twice.
    """
    names = [it if isinstance(it, str) else str(it) for it in cells]
    start, end = n_index(names), n_named(names)
    names = [name if start <= column < end else "" for column, name in enumerate(names)]
    for column, name in enumerate(names[:end], start=1):
        if column > start and not name.strip():
            raise UsageError(f"{where}: column {column} has no name.", _HEADER_HINT)
        if name and name in names[: column - 1]:
            raise UsageError(f"{where}: duplicate column {name!r}.", _HEADER_HINT)
    return names[:end]
