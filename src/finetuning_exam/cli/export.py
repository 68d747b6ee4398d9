"""`fte export`: the tuned model for other programs, verified there."""

from __future__ import annotations

from finetuning_exam.api.export import export
from finetuning_exam.cli.arguments import Parsed
from finetuning_exam.cli.console import (
    make_console,
    print_line,
    print_unused_keys,
    print_without_effect,
)
from finetuning_exam.cli.event_printer import EventPrinter
from finetuning_exam.errors import DiffersError
from finetuning_exam.settings import ExportSettings


def run(parsed: Parsed[ExportSettings]) -> int:
    """Run the command; returns its exit code.

    Raises:
        UserError: a mistake that the user can fix, or an export that differs.
    """
    settings = parsed.settings
    console = make_console()
    print_unused_keys(console, settings.config, parsed.unused_keys, "export")
    print_without_effect(console, parsed.without_effect)
    with EventPrinter(console, settings.adapter_name_or_path) as printer:
        made = export(settings, on_event=printer)
    from finetuning_exam.report.export import export_summary, next_step

    console.print(export_summary(made.exported))
    if made.faults:
        raise DiffersError(
            f"the export differs from the trained model: {'; '.join(made.faults)}.",
            f"It is kept in {made.folder}, to look at; do not use it.",
        )
    for line in next_step(made.exported, made.folder):
        print_line(console, line)
    return 0
