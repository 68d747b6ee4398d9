"""`fte exam`: the exam alone, for any base, adapter and held-out file."""

from __future__ import annotations

from finetuning_exam.api.exam import exam
from finetuning_exam.cli.arguments import Parsed
from finetuning_exam.cli.console import make_console, print_unused_keys, print_without_effect
from finetuning_exam.cli.event_printer import EventPrinter
from finetuning_exam.errors import WorseError
from finetuning_exam.settings import ExamSettings


def run(parsed: Parsed[ExamSettings]) -> int:
    """Run the command; returns its exit code.

    Raises:
        UserError: a mistake that the user can fix.
    """
    settings = parsed.settings
    console = make_console()
    print_unused_keys(console, settings.config, parsed.unused_keys, "exam")
    print_without_effect(console, parsed.without_effect)
    with EventPrinter(console, settings.adapter_name_or_path) as printer:
        taken = exam(settings, on_event=printer)
    from finetuning_exam.report.terminal import exam_summary

    console.print(exam_summary(taken))
    if settings.fail_if_worse and taken.verdict == "worse":
        raise WorseError("The exam found the tuned model worse than its base.")
    return 0
