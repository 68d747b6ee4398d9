"""General text comes from the package or from a file, one row per paragraph."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetuning_exam.errors import UserError
from finetuning_exam.evaluation.general import MAX_BYTES, read_general_text


@pytest.mark.parametrize(
    "content", [b"One.\n\n\nTwo\nlines.\n", b"\xef\xbb\xbfOne.\r\n \r\nTwo\r\nlines."]
)
def test_paragraphs_are_separated_by_blank_lines(tmp_path: Path, content: bytes) -> None:
    """The number of blank lines and the kind of line ending do not matter."""
    path = tmp_path / "general.txt"
    path.write_bytes(content)
    assert read_general_text(str(path)) == ("One.", "Two\nlines.")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b" \n\n", "contains no text. Add paragraphs separated by blank lines."),
        (b"ab\xff", "not valid UTF-8 at byte 3. Save the file as UTF-8."),
        (b"a" * (MAX_BYTES + 1), "larger than 1,000,000 bytes. Use an excerpt"),
    ],
)
def test_an_unusable_file_is_named(tmp_path: Path, content: bytes, expected: str) -> None:
    """The error names the file, what is wrong with it and how to fix it."""
    path = tmp_path / "general.txt"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_general_text(str(path))
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A path that does not exist is an error; the built-in sample is not used instead."""
    with pytest.raises(UserError, match="no such file"):
        read_general_text(str(tmp_path / "none.txt"))
