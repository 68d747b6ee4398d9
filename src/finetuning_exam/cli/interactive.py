"""`fte compare` without questions: prompt for one after another, and stream the answers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from finetuning_exam.cli.console import print_line
from finetuning_exam.errors import DataError
from finetuning_exam.report.text import visible
from finetuning_exam.training.interrupt import interrupts_raised

if TYPE_CHECKING:
    from finetuning_exam.model.generation.decoding import Decoding
    from finetuning_exam.model.generation.generate import Answer
    from finetuning_exam.model.mode import Side
    from finetuning_exam.model.session import Prompt, Session

SIDES: dict[str, tuple[Side, ...]] = {
    "/base": ("base",),
    "/tuned": ("tuned",),
    "/both": ("base", "tuned"),
}
HELP = "Type a question. /base, /tuned and /both say who answers; /quit or an empty line ends."
ToPrompt = Callable[[str, int], "Prompt"]
"""Turns the text of a question and its number into a prompt."""


def ask_interactively(
    console: Console, session: Session, decoding: Decoding, to_prompt: ToPrompt
) -> None:
    """Ask for questions until there are no more (`/quit`, an empty line, or the end of input)."""
    with suppress(ImportError):  # not on Windows, where there is no history then
        import readline  # noqa: F401 - the arrows go back to earlier questions
    print_line(console, HELP)
    sides = SIDES["/both"]
    number = 0
    while True:
        try:
            text = console.input("> ").strip()
        except EOFError:
            return
        if not sys.stdin.isatty():  # a terminal shows what is typed
            console.print(Text(visible(text)), soft_wrap=True)
        if text in ("", "/quit"):
            return
        if text in SIDES:
            sides = SIDES[text]
            print_line(console, f"{' and '.join(sides)} will answer.")
        elif text.startswith("/") and " " not in text:
            print_line(console, HELP)
        else:
            number += 1
            try:
                prompt = to_prompt(text, number)
            except DataError as error:
                print_line(console, str(error))
                continue
            for side in sides:
                _stream(
                    console, session, prompt, replace(decoding, seed=decoding.seed + number), side
                )


def _stream(
    console: Console, session: Session, prompt: Prompt, decoding: Decoding, side: Side
) -> None:
    """Print one model's answer piece by piece; Ctrl-C ends this answer only."""
    console.print(Text(f"{side}: ", style="bold" if side == "tuned" else "dim"), end="")
    try:
        with interrupts_raised(), closing(session.stream(prompt, decoding, side)) as pieces:
            answer = _print_pieces(console, pieces)
        if answer is not None and answer.repeats:
            console.print(Text(" (stopped: it repeats itself)", style="dim"), end="")
    except KeyboardInterrupt:
        console.print(Text(" (stopped)", style="dim"), end="")
    console.print()


def _print_pieces(console: Console, pieces: Generator[str, None, Answer]) -> Answer | None:
    """Print the pieces of an answer as they arrive, and return the answer."""
    while True:
        try:
            piece = next(pieces)
        except StopIteration as end:
            answer: Answer | None = end.value
            return answer
        console.print(Text(visible(piece)), end="", soft_wrap=True)
