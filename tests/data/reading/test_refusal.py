"""Specification of refusing faulty records in a command that needs valid ones."""

from __future__ import annotations

import pytest
from read_files import ALPACA, AUTO, write_content

from finetuning_exam.data.findings import Finding
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.read import read_sound_records, refuse_errors
from finetuning_exam.errors import DataError

pytestmark = pytest.mark.usefixtures("folder")


def _complaint(content: bytes, name: str = "d.jsonl") -> str:
    """Return the whole message about a faulty file."""
    with pytest.raises(DataError) as caught:
        read_sound_records([write_content(content, name)], AUTO)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_valid_records_are_read_with_their_notes() -> None:
    """Notes do not keep a file from being read."""
    records = read_sound_records([write_content(ALPACA[:-2] + b', "id": 1}')], AUTO)
    assert len(records.examples) == len(records.findings) == 1


def test_faults_of_one_kind_are_reported_with_its_hint() -> None:
    """If all faults are of one kind, its hint follows them."""
    assert _complaint(ALPACA + b"x\ny\n") == (
        "d.jsonl:2: not valid JSON (expected a value at column 1).\n"
        "d.jsonl:3: not valid JSON (expected a value at column 1).\n"
        "Fix the line."
    )


def test_faults_of_several_kinds_are_reported_with_the_check() -> None:
    """If faults are of several kinds, the hint is `fte check` on their files, quoted for a shell;
    files without a fault are not listed.
    """
    paths = [
        write_content(b"x\n" + ALPACA, "my file"),
        write_content(ALPACA, "b"),
        write_content(ALPACA + b"[]\n", "c"),
    ]
    with pytest.raises(DataError) as caught:
        read_sound_records(paths, AUTO)
    assert str(caught.value) == (
        "my file:1: not valid JSON (expected a value at column 1).\n"
        "c:2: expected an object, got a list.\nRun fte check 'my file' c to see them by kind."
    )


def test_an_alternative_follows_the_hint() -> None:
    """`alternative` comes last; findings that are not errors are accepted."""
    fault = Finding(Kind.NOT_JSON, "what", "p", 1)
    with pytest.raises(DataError) as caught:
        refuse_errors([Finding(Kind.RARE_TAG, "rare", "p"), fault], "Or go on.")
    assert str(caught.value) == "p:1: what. Fix the line. Or go on."
    refuse_errors([Finding(Kind.RARE_TAG, "rare", "p"), Finding(Kind.MOJIBAKE, "bad", "p")])


def _different_faults(n: int) -> bytes:
    """Return lines that are not JSON, each from another column on."""
    return b"".join(b" " * number + b"x\n" for number in range(n))


def test_faults_that_are_alike_share_a_line() -> None:
    """More than five identical faults of a file are one line, which counts them."""
    assert _complaint(b"x\n" * 9 + ALPACA) == (
        "d.jsonl:1: not valid JSON (expected a value at column 1). Also in lines 2, 3, 4, 5 and 4 "
        "more. Fix the line."
    )


@pytest.mark.parametrize(
    ("n", "last"),
    [
        (20, "d.jsonl:20: not valid JSON (expected a value at column 20)."),
        (21, "… and 1 more fault."),
        (1025, "… and 1,005 more faults."),
    ],
)
def test_twenty_faults_are_shown_and_the_rest_counted(n: int, last: str) -> None:
    """A file full of faults shows twenty of them and the number of the others."""
    *shown, hint = _complaint(_different_faults(n) + ALPACA).splitlines()
    assert hint == "Fix the line."
    assert len(shown) == min(n, 20) + (n > 20)
    assert shown[-1] == last


@pytest.mark.parametrize("name", ["a:b.jsonl", "a:1:b.jsonl", "my: data.jsonl", "a:7: b.jsonl"])
def test_a_file_name_with_colons_is_reported_in_full(name: str) -> None:
    """Faults of a file whose name contains colons are reported in order, with the full name."""
    starts = [f"{name}:{number}: " for number in range(1, 12)]
    *shown, _ = _complaint(_different_faults(11) + ALPACA, name).splitlines()
    assert [line[: len(start)] for line, start in zip(shown, starts, strict=True)] == starts
