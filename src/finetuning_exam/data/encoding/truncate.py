"""Truncation of rows that are too long; the answer is never cut.

The oldest exchanges of a conversation are dropped first, whole; the system turn stays. Then the
middle of the prompt is cut, so that its beginning and the response marker stay.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Set
from dataclasses import replace

from finetuning_exam.data.records import Example

MIN_PROMPT_TOKENS = 16
"""The fewest tokens that may remain of a prompt; a shorter prompt is never cut."""


def n_exchanges(example: Example) -> int:
    """Return the number of earlier exchanges: user turns with all that follows until the next.

    What led to the last question, such as the call whose result it is, is none of them.
    """
    n_asked = sum(turn.role == "user" for turn in example.earlier)
    return n_asked - (example.asked_by == "tool")


def without_oldest(example: Example, n: int) -> Example:
    """Return a conversation without its `n` oldest exchanges; the system turn stays."""
    if n == 0:
        return example
    starts = [index for index, turn in enumerate(example.earlier) if turn.role == "user"]
    system = tuple(turn for turn in example.earlier[:1] if turn.role == "system")
    rest = example.earlier[starts[n] :] if n < len(starts) else ()
    return replace(example, earlier=(*system, *rest))


def fewest_left_out(example: Example, fits: Callable[[Example], bool]) -> int:
    """Return how many of the oldest exchanges to drop until the rest fits; all if nothing fits.

    `fits` must hold for every shorter conversation once it holds for a longer one.
    """
    n = n_exchanges(example)
    found = bisect_left(
        range(1, n + 1), x=True, key=lambda dropped: fits(without_oldest(example, dropped))
    )
    return min(found + 1, n)


def middle(ids: tuple[int, ...], room: int, special_ids: Set[int]) -> tuple[int, int]:
    """Return the range of ids (start, end) to cut out of a prompt so that `room` ids remain.

    Head and tail keep the same number (the head one more if `room` is odd). If special tokens
    mark the turns, the cut moves into the longest stretch without one, if that is long enough.
    """
    n_cut = len(ids) - room
    start = (room + 1) // 2
    marks = [-1, *(place for place, token in enumerate(ids) if token in special_ids), len(ids)]
    low, high = max(
        zip((mark + 1 for mark in marks), marks[1:], strict=False),
        key=lambda stretch: stretch[1] - stretch[0],
    )
    if high - low >= n_cut:
        start = min(max(start, low), high - n_cut)
    return start, start + n_cut
