"""Commands run on faulty data, and what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetuning_exam.cli import main

GOOD = b'{"instruction": "What is ls?", "output": "It lists files."}\n'


class Said:
    """What the last command said."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = self.err = ""

    def fte(self, *arguments: str) -> int:
        """Run a command in this process; its exit code."""
        code = main(arguments)
        self.out, self.err = self._capsys.readouterr()
        assert "Traceback" not in self.out + self.err
        return code

    def check(self, content: bytes, *arguments: str) -> int:
        """`fte check` of a file d.jsonl with this content."""
        Path("d.jsonl").write_bytes(content)
        return self.fte("check", "d.jsonl", *arguments)

    @property
    def findings(self) -> list[str]:
        """The lines about places."""
        return [line.strip() for line in self.out.splitlines() if line.startswith("  d.jsonl:")]
