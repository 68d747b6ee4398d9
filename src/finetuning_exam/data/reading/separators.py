"""Which separator a table uses, and whether a text is a table at all."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice

from finetuning_exam.data.reading.index_columns import n_index, n_named

SEPARATORS = ",\t;|"
_SEPARATOR_LINE = re.compile(r'"?sep=([,;|\t])"?[ \t\r]*', re.IGNORECASE)
"""The separator line that Excel writes."""
_ROWS = 20
"""How many lines are looked at."""


def looks_like_table(head: bytes) -> bool:
    """Return whether text begins with a line of names and lines with as many cells as names.

    The last of several lines may be cut off.
    """
    if head.lstrip()[:1] in (b"", b"{", b"["):
        return False
    lines = head.decode("utf-8", "surrogateescape").split("\n")
    start, separator = find_separator(lines, ",")
    rows: list[list[str]] = []
    with suppress(csv.Error):  # the text may end within a cell
        for row in islice(csv.reader(lines[start:], delimiter=separator, strict=True), _ROWS):
            rows += [row] if any(cell.strip() for cell in row) else []
    whole = rows[:-1] if len(rows) > 2 else rows
    is_named = start < len(lines) and _splits(lines[start], separator)
    return is_named and len(whole) > 1 and {len(row) for row in whole} == {len(rows[0])}


def find_separator(lines: Sequence[str], usual: str) -> tuple[int, str]:
    """Return the index of the line to start at, and the separator that the header uses.

    It is the usual one unless exactly one other splits the header into several distinct names,
    and the usual one does not.
    """
    index = next((it for it, line in enumerate(lines) if line.strip(SEPARATORS + " \r")), 0)
    if stated := _SEPARATOR_LINE.fullmatch(lines[index]):
        return index + 1, stated[1]
    if _splits(lines[index], usual):
        return 0, usual
    others = [it for it in SEPARATORS if it != usual and _splits(lines[index], it)]
    return 0, others[0] if len(others) == 1 else usual


def _splits(line: str, separator: str) -> bool:
    """Return whether this separator splits a header into several distinct names."""
    try:
        cells = next(csv.reader([line], delimiter=separator, strict=True), [])
    except csv.Error:  # a name continues on the next line
        return False
    names = [name.strip() for name in cells[: n_named(cells)]]
    named = names[n_index(names) :]
    return len(names) > 1 and all(named) and len(set(named)) == len(named)
