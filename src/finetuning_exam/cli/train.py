"""`fte train`: check, split, train, exam, report."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from finetuning_exam.api.command import Command
from finetuning_exam.api.late_steps import incomplete
from finetuning_exam.api.train import TrainedRun, train
from finetuning_exam.cli.arguments import Parsed
from finetuning_exam.cli.console import (
    make_console,
    print_line,
    print_unused_keys,
    print_without_effect,
)
from finetuning_exam.cli.event_printer import EventPrinter
from finetuning_exam.errors import WorseError
from finetuning_exam.launch import command_prefix
from finetuning_exam.settings import TrainSettings
from finetuning_exam.training.interrupt import Interrupts
from finetuning_exam.training.run_folder import REPORT


def run(parsed: Parsed[TrainSettings]) -> int:
    """Run the command; return its exit code.

    Raises:
        UserError: a mistake that the user can fix.
    """
    settings = parsed.settings
    console = make_console()
    print_unused_keys(console, settings.config, parsed.unused_keys, "train")
    print_without_effect(console, parsed.without_effect)
    with EventPrinter(console, settings.output_dir) as printer:
        finished = train(
            settings,
            on_event=printer,
            interrupts=Interrupts(_print_stopping),
            command=Command(parsed.command_line, command_prefix()),
        )
    from finetuning_exam.report.terminal import exam_summary

    console.print()
    console.print(exam_summary(finished.exam))
    lost = [it.file for it in finished.failures]
    report = "Adapter and exam.json" if REPORT in lost else "Adapter, exam.json and report.html"
    print_line(console, f"{report} are in {finished.folder}.")
    print_line(console, f"Try it: {_compare_command(finished)}")
    if settings.fail_if_worse and finished.exam.verdict == "worse":
        raise WorseError("The exam found the tuned model worse than its base.")
    if finished.failures:
        raise incomplete(finished.failures)
    return 0


def _compare_command(finished: TrainedRun) -> str:
    adapter = shlex.quote(str(Path(finished.folder)))
    return f'{command_prefix()} compare --adapter {adapter} "your question"'


def _print_stopping() -> None:
    """Acknowledge a signal immediately."""
    # A signal may come in the middle of a print: this bypasses Python's buffers.
    os.write(2, b"\nfte train: stopping after this step; press Ctrl-C again to stop immediately.\n")
