"""Specification of joined files: byte-order marks and header lines inside."""

from __future__ import annotations

from pathlib import Path

import pytest
from read_files import AUTO, texts_of, write_content

from finetuning_exam.data.fix import clean_copy
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.read import Records, read_records
from finetuning_exam.errors import DataError, UsageError
from finetuning_exam.settings import FieldSettings

pytestmark = pytest.mark.usefixtures("folder")

MARK = b"\xef\xbb\xbf"
NOTE = "the line starts with a byte-order mark (U+FEFF), where files were joined."
JSON = (
    b'{"instruction": "q", "output": "a"}',
    b'{"instruction": "r", "output": "b"}',
)
HEADER = "the record repeats the names of the fields, as a header line does."


def _read(content: bytes, name: str, fields: FieldSettings = AUTO) -> Records:
    return read_records([write_content(content, name)], fields)


def _pairs(records: Records) -> list[tuple[str, str]]:
    return [(it.instruction, it.answer) for it in records.examples]


@pytest.mark.parametrize(
    ("content", "name", "line"),
    [
        (MARK + JSON[0] + b"\r\n" + MARK + JSON[1] + b"\r\n", "d.jsonl", 2),
        (JSON[0] + b"\n\n" + MARK + JSON[1], "d.jsonl", 3),
        (JSON[0] + b"\n" + JSON[1] + b"\n" + MARK, "d.jsonl", 3),
        (MARK + MARK + JSON[0] + b"\n" + JSON[1], "d.jsonl", 1),
        (b"[" + JSON[0] + b",\n" + MARK + JSON[1] + b"]", "d.json", 2),
        (b"instruction,output\nq,a\n" + MARK + b"r,b\n", "d.csv", 3),
        (b"instruction\toutput\nq\ta\n" + MARK + b"r\tb\n", "d.tsv", 3),
    ],
)
def test_a_mark_at_the_start_of_a_line_is_taken_off(content: bytes, name: str, line: int) -> None:
    """All records are read, without the mark, and a note names the line."""
    records = _read(content, name)
    assert _pairs(records) == [("q", "a"), ("r", "b")]
    assert texts_of(records.findings) == [f"{name}:{line}: {NOTE}"]
    assert {it.kind for it in records.findings} == {Kind.JOINED_FILES}


@pytest.mark.parametrize("content", [MARK, MARK + b"\n", MARK * 2, MARK + b"\n" + MARK + b"\n"])
@pytest.mark.parametrize("name", ["d.jsonl", "d.csv"])
def test_a_file_of_marks_has_no_records(content: bytes, name: str) -> None:
    """Marks alone are an empty file."""
    with pytest.raises((DataError, UsageError), match=r"no records found|no name"):
        _read(content, name)


@pytest.mark.parametrize(
    ("content", "name", "line"),
    [
        (b"instruction,output\nq,a" + MARK + b"instruction,output\nr,b\n", "d.csv", 2),
        (b"instruction\toutput\r\nq\ta" + MARK + b"instruction\toutput\r\nr\tb", "d.tsv", 2),
        (JSON[0] + MARK + JSON[0] + b"\n" + JSON[1], "d.jsonl", 1),
        (JSON[1] + b"\n" + JSON[0] + MARK + b"\n", "d.jsonl", 2),
    ],
)
def test_a_mark_without_a_line_break_is_named(content: bytes, name: str, line: int) -> None:
    """Where the first file lacks its last line break, the record is refused with the reason."""
    found = _read(content, name)
    assert _pairs(found) == [("r", "b")]
    (fault,) = texts_of(found.findings)
    assert fault.startswith(f"{name}:{line}: ")
    assert "byte-order mark (U+FEFF)" in fault


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"instruction,output\nq,a\ninstruction,output\nr,b\n", "d.csv"),
        (MARK + b"instruction,output\nq,a\n" + MARK + b"instruction,output\nr,b\n", "d.csv"),
        (b",instruction,output\n0,q,a\n,instruction,output\n1,r,b\n", "d.csv"),
        (b"Instruction;Output;\nq;a;\n instruction;OUTPUT\nr;b;\n", "d.csv"),
        (b"instruction\toutput\nq\ta\ninstruction\toutput\nr\tb\n", "d.tsv"),
        (
            JSON[0] + b'\n{"instruction": "instruction", "output": "output"}\n' + JSON[1],
            "d.jsonl",
        ),
    ],
)
def test_a_repeated_header_is_not_trained(content: bytes, name: str) -> None:
    """The names of the fields as values are a warning at their line, and no example."""
    records = _read(content, name)
    assert _pairs(records) == [("q", "a"), ("r", "b")]
    warned = [it for it in records.findings if it.kind is Kind.REPEATED_HEADER]
    line = 2 if name == "d.jsonl" else 3
    assert texts_of(tuple(warned)) == [f"{name}:{line}: {HEADER}"]
    assert [it.n_records for it in records.sources] == [2]
    assert len(clean_copy(records, records.findings).lines) == 2


def test_named_fields_are_recognised_in_a_repeated_header() -> None:
    """Columns that flags name count, whatever the other columns hold."""
    content = b"ask,say,n\nq,a,1\nask,say,2\n"
    records = _read(content, "d.csv", FieldSettings(prompt_field="ask", answer_field="say"))
    assert _pairs(records) == [("q", "a")]


def test_a_header_in_another_order_is_refused() -> None:
    """The records after it would be read by the wrong names, so nothing is read."""
    with pytest.raises(UsageError) as caught:
        _read(b"instruction,output\nq,a\noutput,instruction\nb,r\n", "d.csv")
    assert str(caught.value) == (
        "d.csv:3: the header line occurs again with its columns in another order "
        "('output', 'instruction'). Give the joined files one by one: each is read by its own "
        "header."
    )


def test_a_record_about_its_own_field_is_read() -> None:
    """A value that is one of the names is text, unless all are."""
    records = _read(b"instruction,output\noutput,a\ninstruction,b\n", "d.csv")
    assert _pairs(records) == [("output", "a"), ("instruction", "b")]
    assert Path("d.csv").exists()
