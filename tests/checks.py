"""`fte check` run in this process, and files of valid and faulty records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import rows

from finetuning_exam.cli import main

SOUND = tuple(
    {"id": n, "instruction": e.instruction, "output": e.answer} for n, e in enumerate(rows(6))
)
BAD = '{"instruction": "What is gone?"}'
MISSING = "missing field 'output' (fields: 'instruction')."


class Check:
    """`fte check` run in this process: its exit code, and both of its outputs."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, *arguments: str) -> int:
        """Run it with these arguments."""
        code = main(["check", *arguments])
        self.out, self.err = self._capsys.readouterr()
        return code

    @property
    def lines(self) -> list[str]:
        """The lines of standard output."""
        return self.out.split("\n")


def write_lines(name: str, *records: object) -> str:
    """Write a file of lines: strings as they are, other values as JSON."""
    lines = [it if isinstance(it, str) else json.dumps(it) for it in records]
    Path(name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return name


def read_lines(name: str) -> list[object]:
    """Return the JSON values of a file, one for each line."""
    return [json.loads(line) for line in Path(name).read_text(encoding="utf-8").splitlines()]
