"""`fte compare`: the answers of base and tuned model side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from finetuning_exam.api.compare import compare, decoding_of, fitted_prompts
from finetuning_exam.api.events import SessionLoaded
from finetuning_exam.api.load_adapter import load_session
from finetuning_exam.cli.arguments import Parsed
from finetuning_exam.cli.console import (
    make_console,
    print_line,
    print_unused_keys,
    print_without_effect,
)
from finetuning_exam.cli.event_printer import EventPrinter
from finetuning_exam.cli.interactive import ask_interactively
from finetuning_exam.data.question import make_question
from finetuning_exam.errors import UsageError
from finetuning_exam.settings import CompareSettings

if TYPE_CHECKING:
    from finetuning_exam.model.session import Prompt
    from finetuning_exam.report.comparison import Comparison


def run(parsed: Parsed[CompareSettings]) -> int:
    """Run the command; returns its exit code.

    Raises:
        UserError: a mistake that the user can fix.
    """
    settings = parsed.settings
    console = make_console()
    print_unused_keys(console, settings.config, parsed.unused_keys, "compare")
    print_without_effect(console, parsed.without_effect)
    if not settings.do_sample and (settings.temperature != 1.0 or settings.top_p != 1.0):
        print_line(console, "temperature and top_p have no effect without --do_sample.")
    if not settings.prompt and settings.prompts is None:
        if settings.html:
            raise UsageError("--html: there are no questions.", "Give some, or --prompts FILE.")
        _ask(console, settings)
        return 0
    with EventPrinter(console, settings.adapter_name_or_path) as printer:
        comparisons = compare(settings, on_event=printer, command=parsed.command_line)
    _print_comparisons(console, comparisons)
    if settings.html:
        print_line(console, f"The comparison is in {settings.html}.")
    return 0


def _ask(console: Console, settings: CompareSettings) -> None:
    """Ask for questions one after another, and stream the answers."""
    with EventPrinter(console, settings.adapter_name_or_path) as printer:
        session = load_session(settings)
        printer(SessionLoaded(session))

    def to_prompt(text: str, number: int) -> Prompt:
        question = make_question(text, "question", number)
        return fitted_prompts(session, [question], settings.max_new_tokens, printer)[0]

    ask_interactively(console, session, decoding_of(session, settings), to_prompt)


def _print_comparisons(console: Console, comparisons: Sequence[Comparison]) -> None:
    from finetuning_exam.report.comparison import summary
    from finetuning_exam.report.terminal import comparisons_table

    console.print(comparisons_table(comparisons))
    figures = summary(comparisons)
    if figures:
        print_line(console, figures)
