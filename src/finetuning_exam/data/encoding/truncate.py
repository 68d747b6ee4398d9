"""What is left out of a row that is too long: never anything of its answer.

Of a conversation the oldest exchanges go first, whole; the system turn stays. Then the middle of
the prompt goes, so that its head and the marker of the response stay.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Set
from dataclasses import replace

from finetuning_exam.data.records import Example

MIN_PROMPT_TOKENS = 16
"""Fewer tokens of a prompt say too little of the question; a shorter prompt stays whole."""


def n_exchanges(example: Example) -> int:
    """How many earlier exchanges a conversation has: assistant turns with what led to them."""
    return sum(turn.role == "assistant" for turn in example.earlier)


def without_oldest(example: Example, n: int) -> Example:
    """A conversation without its `n` oldest exchanges; the system turn stays."""
    if n == 0:
        return example
    ends = [index for index, turn in enumerate(example.earlier) if turn.role == "assistant"]
    system = tuple(turn for turn in example.earlier[:1] if turn.role == "system")
    rest = example.earlier[ends[n - 1] + 1 :]
    return replace(example, earlier=(*system, *rest))


def fewest_left_out(example: Example, fits: Callable[[Example], bool]) -> int:
    """How many of the oldest exchanges must go until the rest fits; all where nothing does.

    `fits` holds for every shorter conversation once it holds for a longer one.
    """
    n = n_exchanges(example)
    found = bisect_left(
        range(1, n + 1), x=True, key=lambda dropped: fits(without_oldest(example, dropped))
    )
    return min(found + 1, n)


def middle(ids: tuple[int, ...], room: int, special_ids: Set[int]) -> tuple[int, int]:
    """Where to cut a prompt so that `room` ids stay: those from the first place to the second go.

    As much of the head stays as of the tail (one more where `room` is odd). Where special tokens
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
