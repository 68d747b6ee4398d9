"""An export in the terminal: what was compared, and how to use it."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from finetuning_exam.exporting.report import Exported
from finetuning_exam.exporting.use import how_to_use
from finetuning_exam.report.text import ABSENT, counted, number, on_one_line


def export_summary(exported: Exported) -> RenderableType:
    """Show the checks of an export, and its figures beside those of base and tuned model."""
    found = exported.verification
    if found is None:
        return Text("Not verified: export.json says that nothing was proven.", style="yellow")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("compared")
    table.add_column("found", overflow="fold")
    table.add_column("", overflow="fold")
    for check in found.checks:
        mark = Text("same", style="green") if check.is_passed else Text("differs", style="red")
        table.add_row(check.name, Text(on_one_line(check.found)), mark)
    figures = found.figures
    nll = " → ".join(
        f"{number(it, 4)} ({name})"
        for name, it in (
            ("base", figures.nll_base),
            ("tuned", figures.nll_tuned),
            ("exported", figures.nll_exported),
        )
    )
    return Group(
        Text(
            f"Verified in {found.runtime} on {counted(found.n_questions, 'question')}, "
            f"{counted(found.n_tokens, 'answer token')}, {exported.number_format}"
        ),
        table,
        Text(f"NLL per token: {nll}"),
        Text(
            f"Verdict: {found.verdict_tuned} (tuned), {found.verdict_exported or ABSENT} (exported)"
        ),
    )


def next_step(exported: Exported, folder: Path) -> tuple[str, ...]:
    """Return where an export lies and the command that uses it."""
    return (f"The export is in {folder}.", *how_to_use(exported, shlex.quote(str(folder))))
