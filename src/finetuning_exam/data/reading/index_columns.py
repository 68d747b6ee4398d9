"""The columns of row numbers that data frames write before the others, without a name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from finetuning_exam.data.findings import Finding
from finetuning_exam.data.kinds import Kind
from finetuning_exam.errors import UsageError

_ROW_NUMBER = re.compile(r"([0-9]{1,18})(?:\.0)?")
_MOST_SHOWN = 40
_SHORTEST_RUN = 3
"""The least mean length of ascending runs, where files with row numbers were joined."""


def n_named(names: Sequence[str]) -> int:
    """Return the number of columns, without the last ones that have no name."""
    return max((column for column, name in enumerate(names, start=1) if name.strip()), default=0)


def n_index(names: Sequence[str]) -> int:
    """Return the number of first columns without a name, where data frames write row numbers."""
    return next((column for column, name in enumerate(names) if name.strip()), 0)


def index_notes(
    columns: Sequence[Sequence[str]], lines: Sequence[int], path: str, header_line: int
) -> list[Finding]:
    """Return a note for each first column without a name, given the cells of each.

    `lines` are those on which the records start.

    Raises:
        UsageError: such a column holds something else than row numbers.
    """
    hint = "Give it a name in the first line, or remove it."
    levels: list[list[int]] = []
    for number, cells in enumerate(columns, start=1):
        levels.append([])
        for cell, line in zip(cells, lines, strict=True):
            if found := _ROW_NUMBER.fullmatch(cell.strip()):
                levels[-1].append(int(found[1]))
            elif cell.strip():  # it is empty in a header line that is repeated
                shown = cell if len(cell) <= _MOST_SHOWN else f"{cell[:_MOST_SHOWN]}…"
                raise UsageError(
                    f"{path}:{line}: column {number} has no name and holds {shown!r}, "
                    "not a row number.",
                    hint,
                )
    is_index = len(set(zip(*levels, strict=False))) == len(lines)
    if columns and not is_index and not any(map(_are_row_numbers, levels)):
        raise UsageError(
            f"{path}:{header_line}: column 1 has no name, and its numbers are not row numbers "
            "(they repeat).",
            hint,
        )
    return [
        Finding(
            Kind.ROW_NUMBERS,
            f"column {number} has no name and holds row numbers; it is not used",
            path,
            header_line,
        )
        for number in range(1, len(columns) + 1)
    ]


def _are_row_numbers(numbers: Sequence[int]) -> bool:
    """Return whether numbers are distinct, or ascend one by one from the same start again."""
    if len(set(numbers)) == len(numbers):
        return True
    starts = [
        number
        for before, number in zip([None, *numbers], numbers, strict=False)
        if before is None or number != before + 1
    ]
    return len(set(starts)) == 1 and _SHORTEST_RUN * len(starts) <= len(numbers)
