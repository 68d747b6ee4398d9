"""Find the first of some lines that is not UTF-8."""

from __future__ import annotations

from collections.abc import Iterable

from finetuning_exam.data.reading.files import undecodable


def first_undecodable(lines: Iterable[str], start: int = 1) -> tuple[int, str] | None:
    """Return the number of the first line that is not UTF-8, counted from `start`, and its detail.

    Such a line was decoded with `surrogateescape`.
    """
    for number, line in enumerate(lines, start):
        try:
            line.encode("utf-8")
        except UnicodeEncodeError as error:
            before = line[: error.start + 1].encode("utf-8", "surrogateescape")
            return number, undecodable(before[-1], len(before))
    return None
