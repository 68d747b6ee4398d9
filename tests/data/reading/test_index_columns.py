"""Specification of columns of row numbers, which data frames write without a name."""

from __future__ import annotations

from pathlib import Path

import pytest
from raw_records import read_raw, refusal_of, texts_of
from read_files import AUTO

from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.read import read_records

pytestmark = pytest.mark.usefixtures("folder")

NUMBERS = {
    "from 0": ["0", "1", "2", "3"],
    "from 1": ["1", "2", "3", "4"],
    "shuffled": ["7", "2", "9", "4"],
    "filtered": ["0", "3", "4", "11"],
    "floats": ["0.0", "1.0", "2.0", "3.0"],
    "joined files": ["0", "1", "2", "0", "1", "2", "3"],
}


def _table(numbers: list[str], separator: str = ",") -> bytes:
    lines = [separator.join(["", "instruction", "output"])]
    lines += [separator.join([number, f"q{at}", f"a{at}"]) for at, number in enumerate(numbers)]
    return "\n".join(lines).encode()


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("numbers", NUMBERS.values(), ids=NUMBERS)
def test_row_numbers_are_passed_over_with_a_note(numbers: list[str], separator: str) -> None:
    """A first column without a name that holds row numbers is not read, in any separator."""
    read = read_raw(_table(numbers, separator), "d.csv")
    assert [it.value for it in read.records] == [
        {"instruction": f"q{at}", "output": f"a{at}"} for at in range(len(numbers))
    ]
    assert [it.kind for it in read.findings] == [Kind.ROW_NUMBERS]
    assert texts_of(read) == [
        "d.csv:1: column 1 has no name and holds row numbers; it is not used."
    ]


def test_an_index_of_several_levels_is_passed_over() -> None:
    """Each of the first columns without a name has its note."""
    read = read_raw(b",,text\n0,0,a\n0,1,b\n1,0,c\n", "d.csv")
    assert [it.value for it in read.records] == [{"text": "a"}, {"text": "b"}, {"text": "c"}]
    assert texts_of(read) == [
        f"d.csv:1: column {number} has no name and holds row numbers; it is not used."
        for number in (1, 2)
    ]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (
            b",instruction,output\nx,q,a\n",
            "d.csv:2: column 1 has no name and holds 'x', not a row number.",
        ),
        (
            b",instruction,output\n0,q,a\n1,r,b\nname,s,c\n",
            "d.csv:4: column 1 has no name and holds 'name', not a row number.",
        ),
        (
            b",text\n0,a\n1,b\n1,c\n0,d\n",
            "d.csv:1: column 1 has no name, and its numbers are not row numbers (they repeat).",
        ),
        (
            b",text\n2024-01-02,a\n",
            "d.csv:2: column 1 has no name and holds '2024-01-02', not a row number.",
        ),
    ],
)
def test_another_column_without_a_name_is_refused(content: bytes, what: str) -> None:
    """It could be the question or the label, so it is never passed over."""
    assert refusal_of(content, "d.csv") == (
        f"{what} Give it a name in the first line, or remove it."
    )


@pytest.mark.parametrize(
    "content",
    [
        b",Unnamed: 0,instruction,output\n0,0,q,a\n1,1,r,b\n",
        b";Unnamed: 0;instruction;output\n0;0;q;a\n1;1;r;b\n",
        b",Unnamed: 0,instruction,output\n5,2,q,a\n7,3,r,b\n",
        b",instruction,Unnamed: 0,output\r\n0,q,0,a\r\n1,r,1,b\r\n",
    ],
    ids=["commas", "semicolons", "filtered", "in the middle"],
)
def test_a_table_written_twice_has_both_columns_of_numbers(content: bytes) -> None:
    """`Unnamed: 0` is the name that pandas gives to such a column when it reads one."""
    Path("d.csv").write_bytes(content)
    found = read_records(["d.csv"], AUTO)
    assert [(it.instruction, it.answer) for it in found.examples] == [("q", "a"), ("r", "b")]
    assert [(it.kind, str(it)) for it in found.findings] == [
        (
            Kind.ROW_NUMBERS,
            "d.csv:1: column 1 has no name and holds row numbers; it is not used.",
        ),
        (Kind.ROW_NUMBERS, "d.csv:2: field 'Unnamed: 0' is not used (in 2 of 2 records)."),
    ]
