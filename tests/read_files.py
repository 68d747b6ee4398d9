"""Files of records, read as the commands read them."""

from __future__ import annotations

from pathlib import Path

from finetuning_exam.data.findings import Finding
from finetuning_exam.data.reading.read import Records, read_records
from finetuning_exam.settings import FieldSettings

ALPACA = b'{"instruction": "a", "output": "b"}\n'
QA = b'{"question": "c", "answer": "d"}\n'
CHAT = b'{"messages": [{"role": "user", "content": "e"}, {"role": "assistant", "content": "f"}]}\n'
AUTO = FieldSettings()


def write_content(content: bytes, name: str = "d.jsonl") -> str:
    """Write a file with this content and return its name."""
    Path(name).write_bytes(content)
    return name


def read_content(content: bytes, fields: FieldSettings = AUTO) -> Records:
    """Write a file with this content and read its examples."""
    return read_records([write_content(content)], fields)


def texts_of(findings: tuple[Finding, ...]) -> list[str]:
    """Return the text of each finding."""
    return [str(finding) for finding in findings]
