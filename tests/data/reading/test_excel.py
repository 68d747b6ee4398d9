"""Specification of Excel workbooks: the first sheet is read as a table is."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from read_files import AUTO, texts_of, write_content

from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading import excel
from finetuning_exam.data.reading.read import Records, read_records
from finetuning_exam.errors import DataError, UsageError

pytestmark = pytest.mark.usefixtures("folder")

HEADER = ("instruction", "output")
Rows = Sequence[Sequence[object]]


def _write(*sheets: Rows, name: str = "d.xlsx", formats: dict[str, str] | None = None) -> str:
    """Write a workbook with these sheets; `formats` are the number formats of cells by name."""
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, rows in enumerate(sheets):
        sheet = book.create_sheet(f"Sheet{number + 1}")
        for row in rows:
            sheet.append(list(row))
        for cell, number_format in (formats or {}).items():
            sheet[cell].number_format = number_format
    book.save(name)
    return name


def _read(*sheets: Rows, formats: dict[str, str] | None = None) -> Records:
    return read_records([_write(*sheets, formats=formats)], AUTO)


def _pairs(found: Records) -> list[tuple[int, str, str]]:
    return [(it.line, it.instruction, it.answer) for it in found.examples]


def test_the_first_sheet_is_read() -> None:
    """The first row names the columns, and a record is named by its row."""
    found = _read([HEADER, ("What?", "A."), (None, None), ("Who?", "B.\nC.")])
    assert [it.container for it in found.sources] == ["Excel"]
    assert _pairs(found) == [(2, "What?", "A."), (4, "Who?", "B.\nC.")]
    assert found.findings == ()


def test_other_sheets_are_named() -> None:
    """A note says which sheet is read and which are not."""
    found = _read([HEADER, ("What?", "A.")], [HEADER], [["x"]])
    assert _pairs(found) == [(2, "What?", "A.")]
    assert texts_of(found.findings) == [
        "d.xlsx: only the first sheet, 'Sheet1', is read; not used: 'Sheet2', 'Sheet3'."
    ]


@pytest.mark.parametrize(
    ("value", "number_format", "text"),
    [(42, "General", "42"), (3.5, "General", "3.5"), (7, "0", "7"), (42, "@", "42")],
)
def test_a_number_is_the_text_that_is_shown(value: object, number_format: str, text: str) -> None:
    """A spreadsheet makes numbers of digits that were typed."""
    found = _read([HEADER, ("How many?", value)], formats={"B2": number_format})
    assert _pairs(found) == [(2, "How many?", text)]


@pytest.mark.parametrize(
    ("value", "number_format"),
    [
        (0.5, "0%"),
        (3.5, "0.00"),
        (3.5, "0"),
        (datetime.date(2024, 1, 2), "dd.mm.yyyy"),
        (True, "General"),
    ],
)
def test_a_value_that_is_shown_in_another_way_is_a_fault(value: object, number_format: str) -> None:
    """Its text is not guessed."""
    found = _read([HEADER, ("q", value), ("r", "b")], formats={"B2": number_format})
    assert _pairs(found) == [(3, "r", "b")]
    assert [(it.kind, it.line) for it in found.findings] == [(Kind.WRONG_TYPE, 2)]


@pytest.mark.parametrize("name", [None, "Unnamed: 0"])
def test_a_column_of_row_numbers_is_not_used(name: str | None) -> None:
    """It is noted, as in a CSV file."""
    found = _read([(name, *HEADER), (0, "q", "a"), (1, "r", "b")])
    assert _pairs(found) == [(2, "q", "a"), (3, "r", "b")]
    assert [it.kind for it in found.findings] == [Kind.ROW_NUMBERS]


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([("instruction", None, "output"), ("q", "x", "a")], "d.xlsx:1: column 2 has no name."),
        ([("output", "output"), ("q", "a")], "d.xlsx:1: duplicate column 'output'."),
        ([HEADER, ("q", "a", "more")], "d.xlsx:2: column 3 has no name."),
        ([("", *HEADER), ("note", "q", "a")], "column 1 has no name and holds 'note'"),
    ],
)
def test_a_header_that_cannot_be_used_is_told(rows: Rows, what: str) -> None:
    """Every column needs a name of its own."""
    with pytest.raises(UsageError) as caught:
        _read(rows)
    assert what in str(caught.value)


@pytest.mark.parametrize("rows", [[], [HEADER]])
def test_a_sheet_without_records_has_none(rows: Rows) -> None:
    """It is the error of any file without records."""
    with pytest.raises(DataError, match="no records found"):
        _read(rows)


def test_without_the_package_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It also names the way that needs no package."""
    path = _write([HEADER, ("q", "a")])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(UsageError) as caught:
        read_records([path], AUTO)
    assert str(caught.value) == (
        "d.xlsx: reading Excel files needs the package openpyxl. Install it: uv add "
        "'finetuning-exam[excel]', or pip install openpyxl. Or save the file as \"CSV UTF-8\" in "
        "the spreadsheet program."
    )


def test_a_workbook_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the size of its parts, before they are unpacked."""
    path = _write([HEADER, ("q", "a")])
    monkeypatch.setattr(excel, "MAX_WHOLE_BYTES", 1000)
    with pytest.raises(UsageError, match=r"contains more than 1,000 bytes"):
        read_records([path], AUTO)


@settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 10_000), st.binary(max_size=8), st.booleans())
def test_no_damage_breaks_the_reader(start: int, new: bytes, is_cut: bool) -> None:
    """A damaged workbook is read, or is one error."""
    content = Path(_write([HEADER, ("q", "a"), (1, 2.5)])).read_bytes()
    start %= len(content)
    rest = b"" if is_cut else content[start + len(new) :]
    write_content(content[:start] + new + rest, "e.xlsx")
    said = ""
    try:
        read_records(["e.xlsx"], AUTO)
    except (UsageError, DataError) as error:
        said = str(error)
    assert "openpyxl" not in said
