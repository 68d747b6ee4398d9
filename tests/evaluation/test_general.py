"""General text comes from the package or from a file, a row a paragraph."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetuning_exam.errors import UserError
from finetuning_exam.evaluation.general import MOST_BYTES, read_general_text


def test_the_sample_of_the_package_is_enough_for_an_interval() -> None:
    """Without a file there are paragraphs, each of some length and none twice."""
    found = read_general_text(None)
    assert len(found) == len(set(found)) >= 10
    assert all(len(part) > 100 for part in found)


@pytest.mark.parametrize(
    "content", [b"One.\n\n\nTwo\nlines.\n", b"\xef\xbb\xbfOne.\r\n \r\nTwo\r\nlines."]
)
def test_paragraphs_are_parted_by_empty_lines(tmp_path: Path, content: bytes) -> None:
    """However many empty lines there are, and whatever ends a line."""
    path = tmp_path / "general.txt"
    path.write_bytes(content)
    assert read_general_text(str(path)) == ("One.", "Two\nlines.")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b" \n\n", "has no text. Give paragraphs, parted by empty lines."),
        (b"ab\xff", "not UTF-8 at byte 3."),
        (b"a" * (MOST_BYTES + 1), "is larger than 1,000,000 bytes. Give an excerpt."),
    ],
)
def test_a_file_that_cannot_serve_is_named(tmp_path: Path, content: bytes, expected: str) -> None:
    """The error says what is wrong with the file."""
    path = tmp_path / "general.txt"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_general_text(str(path))
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A path that is not there is an error, not the package's sample."""
    with pytest.raises(UserError, match="no such file"):
        read_general_text(str(tmp_path / "none.txt"))
