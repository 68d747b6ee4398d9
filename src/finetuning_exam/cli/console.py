"""The console, and the lines that several commands print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from finetuning_exam.report.text import counted, visible

if TYPE_CHECKING:
    from finetuning_exam.data.check import Check


class _Output(Console):
    """A console whose closed pipe is an error like any other; rich would exit silently."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def make_console() -> Console:
    """Return a console for results on standard output: plain text unless that is a terminal."""
    return _Output(highlight=False, markup=False, emoji=False)


def print_line(console: Console, text: str) -> None:
    """Print a line unchanged; the terminal wraps it, so that it can be copied whole."""
    console.print(visible(text), soft_wrap=True)


def print_sources(console: Console, check: Check) -> None:
    """Print which files were read, and the form of their records."""
    for records in filter(None, (check.train, check.exam)):
        for source in records.sources:
            print_line(
                console,
                f"{source.path}: {counted(source.n_records, 'record')} ({source.container}, "
                f"{source.layout})",
            )


def print_context_limit(console: Console, max_length: int, limit: int) -> None:
    """Print that the model's context limits the rows, if more was asked for."""
    if max_length > limit:
        print_line(
            console,
            f"--max_length {max_length:,} is more than the model's context: {limit:,} is used.",
        )


def print_unused_keys(
    console: Console, config: str | None, keys: tuple[str, ...], command: str
) -> None:
    """Print which keys of a YAML file this command does not use."""
    if keys:
        print_line(console, f"{config}: not used by fte {command}: {', '.join(keys)}")


def print_without_effect(console: Console, given: tuple[str, ...]) -> None:
    """Print which flags of other tools say only what is done anyway."""
    if given:
        print_line(console, f"Without effect here: {', '.join(given)}")


def duration(seconds: float) -> str:
    """Format seconds for people: `48 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
