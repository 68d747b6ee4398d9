"""Questions typed one after the other: who answers, what a command does, and when it ends."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from tiny import Models, save_noisy_adapter

from finetuning_exam.cli.interactive import HELP, ask_interactively
from finetuning_exam.errors import DataError
from finetuning_exam.model.session import Prompt, Session

PROMPTS = {"why?": (5, 6, 7), "how?": (8, 9, 10, 11)}


@pytest.fixture(scope="module")
def session(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A llama with an adapter of noise."""
    folder: Path = tmp_path_factory.mktemp("adapter")
    save_noisy_adapter(models.folder(), folder)
    return Session.load(folder, str(models.folder()), "cpu", "float32", "plain")


def _talk(session: Session, monkeypatch: pytest.MonkeyPatch, *lines: str) -> str:
    typed = iter(lines)

    def read(self: Console, prompt: str = "") -> str:
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    def to_prompt(text: str, number: int) -> Prompt:
        if text not in PROMPTS:
            raise DataError([f"question:{number}: not known."])
        return Prompt(PROMPTS[text])

    monkeypatch.setattr(Console, "input", read)
    console = Console(file=io.StringIO(), width=500)
    ask_interactively(console, session, session.decoding(8), to_prompt)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_commands_say_who_answers(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both at first, then one, then both again; an unknown command shows the help."""
    said = _talk(session, monkeypatch, "why?", "/base", "how?", "/tuned", "why?", "/what", "/quit")
    found = [line.split(":")[0] for line in said.splitlines() if line[:5] in ("base:", "tuned")]
    assert found == ["base", "tuned", "base", "tuned will answer.", "tuned"]
    assert said.count(HELP) == 2


@pytest.mark.parametrize("last", ["", "/quit", None])
def test_it_ends(session: Session, monkeypatch: pytest.MonkeyPatch, last: str | None) -> None:
    """An empty line, /quit and the end of input end it; what follows is not asked."""
    lines = [
        "/base",
        *([last] if last is not None else []),
        *(["why?"] if last is not None else []),
    ]
    assert "base: " not in _talk(session, monkeypatch, *lines)


def test_a_question_that_cannot_be_asked_is_told(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is a line, and the next question is answered."""
    said = _talk(session, monkeypatch, "what?", "why?")
    assert "question:1: not known." in said
    assert "tuned: " in said


def test_ctrl_c_ends_an_answer_only(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is marked as stopped, and the talk goes on."""

    def stop(*args: object) -> Iterator[str]:
        yield "Well, "
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "stream", stop)
    said = _talk(session, monkeypatch, "/tuned", "why?", "/both")
    assert "tuned: Well,  (stopped)" in said
    assert "base and tuned will answer." in said
