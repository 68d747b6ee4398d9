"""Files of any content, read as raw records or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetuning_exam.data.reading.containers import read_file
from finetuning_exam.data.reading.files import FileRecords
from finetuning_exam.errors import UsageError

GOOD = b'{"a": "b"}'


def read_raw(content: bytes, name: str = "d.jsonl") -> FileRecords:
    """Write a file with this content and read its raw records."""
    Path(name).write_bytes(content)
    return read_file(name)


def places_of(read: FileRecords) -> list[tuple[int, int, dict[str, object]]]:
    """Return the line, column and value of each record."""
    return [(row.line, row.column, row.value) for row in read.records]


def texts_of(read: FileRecords) -> list[str]:
    """Return the text of each finding."""
    return [str(finding) for finding in read.findings]


def refusal_of(content: bytes, name: str = "d.jsonl") -> str:
    """Return the message with which a file of this content is refused."""
    with pytest.raises(UsageError) as caught:
        read_raw(content, name)
    return str(caught.value)
