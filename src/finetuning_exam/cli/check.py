"""`fte check`: read data the way training does, and report every fault with its file and line."""

from __future__ import annotations

import json
import sys

from rich.console import Console

from finetuning_exam.api.check import DataReport, check, left_out_path
from finetuning_exam.cli.arguments import Parsed
from finetuning_exam.cli.console import (
    make_console,
    print_context_limit,
    print_line,
    print_sources,
    print_unused_keys,
    print_without_effect,
)
from finetuning_exam.errors import UsageError, UserError
from finetuning_exam.report.data_check import findings_report, outlook_report, summary, to_json
from finetuning_exam.report.show import render_example
from finetuning_exam.report.text import counted
from finetuning_exam.settings import CheckSettings

FOUND_ERRORS = 2


def run(parsed: Parsed[CheckSettings]) -> int:
    """Run the command; return 0, or 2 if a record has an error.

    Raises:
        UserError: a file or a flag cannot be used.
    """
    settings = parsed.settings
    try:
        return _run(parsed)
    except UserError as error:
        if settings.json:
            print_json({"error": {"what": error.what, "hint": error.hint}})
        raise


def _run(parsed: Parsed[CheckSettings]) -> int:
    settings = parsed.settings
    console = make_console()
    console.quiet = settings.json  # standard output is for the JSON only
    if settings.json and settings.show:
        raise UsageError("--show has no effect with --json.", "Remove one of the two.")
    with console.status("reading the data"):
        report = check(settings)
    if settings.json:
        print_json(to_json(report.check, report.findings, report.outlook))
    print_unused_keys(console, settings.config, parsed.unused_keys, "check")
    print_without_effect(console, parsed.without_effect)
    print_context_limit(console, settings.max_length, report.limit)
    _print_report(console, report)
    for example in report.check.train.examples[: settings.show]:
        console.print()
        console.print(render_example(example, report.encoder, report.limit), soft_wrap=True)
    if settings.fix is not None and report.copy is not None:
        line = f"{settings.fix}: {counted(len(report.copy.lines), 'record')} written"
        n_left_out = len(report.copy.left_out)
        if n_left_out:
            line += f"; {n_left_out:,} left out, listed in {left_out_path(settings.fix)}"
        if n_changed := len(report.copy.changed):
            line += f"; {n_changed:,} without the assistant's turn before the first question"
        print_line(console, f"{line}.")
    return FOUND_ERRORS if report.errors else 0


def _print_report(console: Console, report: DataReport) -> None:
    print_sources(console, report.check)
    console.print()
    if report.findings:
        console.print(findings_report(report.findings), soft_wrap=True)
    if report.outlook:
        console.print(outlook_report(report.check, report.outlook), soft_wrap=True)
        console.print()
    print_line(console, summary(report.findings))


def print_json(value: object) -> None:
    """Print JSON on standard output, for programs; in ASCII, which every terminal can show."""
    if sys.stdout is not None:
        sys.stdout.write(json.dumps(value, indent=2) + "\n")
