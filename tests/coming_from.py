"""The table of docs/guide/coming-from.md, made from foreign_flags.toml.

`python tests/coming_from.py` writes it into the page.
"""

from __future__ import annotations

from pathlib import Path

from finetuning_exam.cli.foreign_flags import Foreign, foreign_flags

PAGE = Path(__file__).parents[1] / "docs" / "guide" / "coming-from.md"
START = "<!-- The table below is written by tests/coming_from.py. -->\n"


def table() -> str:
    """Return a line for each outcome, with all names that have it, in the order of the table."""
    by_outcome: dict[tuple[object, ...], list[Foreign]] = {}
    for row in foreign_flags().values():
        key = (row.here, row.values, row.answer, row.commands)
        by_outcome.setdefault(key, []).append(row)
    lines = [f"| {_names(rows)} | {_here(rows[0])} |" for rows in by_outcome.values()]
    return "\n".join(["| there | here |", "| --- | --- |", *lines, ""])


def _names(rows: list[Foreign]) -> str:
    """List names, each with its tools."""
    names = [(f"`{row.name}`", ", ".join(row.tools)) for row in rows]
    return ", ".join(f"{name} ({tools})" if tools else name for name, tools in names)


def _here(row: Foreign) -> str:
    """Describe an outcome: our setting, the values without effect, and the answer to others."""
    renamed = [f"`{theirs}` as `{ours}`" for theirs, ours in row.values if ours not in ("", theirs)]
    done = [f"`{theirs}`" for theirs, ours in row.values if not ours and theirs != "*"]
    is_ignored = not row.here and ("*" in row.words or {"true", "false"} <= row.words.keys())
    parts = []
    if row.here:
        parts.append(", ".join([f"`{row.here}`", *renamed]) + ".")
    if is_ignored:
        parts.append("Without effect.")
    elif done:
        parts.append(f"Without effect: {', '.join(done)}. Else:")
    return " ".join([*parts, row.answer]).strip()


if __name__ == "__main__":
    head, _, _ = PAGE.read_text(encoding="utf-8").partition(START)
    PAGE.write_text(f"{head}{START}\n{table()}", encoding="utf-8")
