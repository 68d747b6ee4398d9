"""Specification of the questions of a comparison: typed, in a file of records, or in a text."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from finetuning_exam.api.compare import questions_of
from finetuning_exam.errors import DataError, UsageError
from finetuning_exam.settings import CompareSettings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in an empty folder, so that a path in a message is a bare name."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _asked(path: str, content: bytes) -> list[tuple[str, str]]:
    """Return the questions of a file with this content, and their places."""
    Path(path).write_bytes(content)
    found = questions_of(CompareSettings(prompts=path))
    assert not any(it.answer for it in found)
    return [(it.instruction, it.where) for it in found]


def _complaint(path: str, content: bytes) -> str:
    with pytest.raises(DataError) as caught:
        _asked(path, content)
    return str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"What is ls?\n\n  And cd? \n",
        b"What is ls?\r\n \r\nAnd cd?",
        b"\xef\xbb\xbfWhat is ls?\n\t\nAnd cd?\n\n\n",
        gzip.compress(b"What is ls?\n\nAnd cd?\n", mtime=0),
    ],
)
def test_each_line_of_a_text_is_a_question(content: bytes) -> None:
    """Empty lines are none, and a place is the number of its line."""
    expected = [("What is ls?", "q.txt:1"), ("And cd?", "q.txt:3")]
    assert _asked("q.txt", content) == expected
    assert [it[0] for it in _asked("Q.TXT", content)] == ["What is ls?", "And cd?"]


def test_questions_of_a_text_come_after_the_typed_ones() -> None:
    """Both may be given."""
    Path("q.txt").write_text("two\nthree\n", encoding="utf-8")
    found = questions_of(CompareSettings(prompt=("one",), prompts="q.txt"))
    assert [it.instruction for it in found] == ["one", "two", "three"]


def test_records_in_a_text_file_are_records() -> None:
    """A .txt that starts like JSON is read as before."""
    Path("q.txt").write_text(json.dumps({"instruction": "a", "output": "b"}), encoding="utf-8")
    (found,) = questions_of(CompareSettings(prompts="q.txt"))
    assert (found.instruction, found.answer) == ("a", "b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "q.txt: no questions found. Write one question per line, as UTF-8 text."),
        (b" \n\t\n", "q.txt: no questions found. Write one question per line, as UTF-8 text."),
        (b"\xff\n", "q.txt:1: not valid UTF-8 (0xff at byte 1). Write one question per line, "),
        (b"a\nb\xe4c\n", "q.txt:2: not valid UTF-8 (0xe4 at byte 2). Write one question per "),
    ],
)
def test_what_is_no_question_is_named(content: bytes, message: str) -> None:
    """A text without questions, and a line that is not UTF-8, are errors with their places."""
    assert _complaint("q.txt", content).startswith(message)


def test_a_damaged_text_is_refused() -> None:
    """A compressed text that ends early is not asked in part."""
    whole = gzip.compress("\n".join(f"Question {n * n}?" for n in range(2000)).encode(), mtime=0)
    assert "the gzip data is truncated here" in _complaint("q.txt", whole[: len(whole) // 2])


def test_a_text_that_is_missing_is_named() -> None:
    """The message is that of any other file."""
    with pytest.raises(UsageError, match=r"^gone\.txt: no such file\."):
        questions_of(CompareSettings(prompts="gone.txt"))
