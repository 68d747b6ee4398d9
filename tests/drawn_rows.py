"""Rows and files of rows to split."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st

from finetuning_exam.data.records import Example

ROW = st.tuples(
    st.integers(0, 60).map(lambda number: f"question {number}"),
    st.sampled_from(["", "", "", "one", "two", "three"]),
    st.sampled_from(["", "", "-l"]),
)


def numbered_rows(count: int, *, tag: str = "", start: int = 1) -> tuple[Example, ...]:
    """Rows with different questions."""
    return tuple(
        Example(f"question {line}", "answer", line, "d.jsonl", tag=tag)
        for line in range(start, start + count)
    )


@st.composite
def drawn_files(draw: st.DrawFn, *, least: int = 1) -> tuple[Example, ...]:
    """Files in which prompts and groups recur."""
    # Large and small files equally often: the thresholds are at 20 and 40 rows.
    n_rows = draw(st.integers(least, 80))
    rows = draw(st.lists(ROW, min_size=n_rows, max_size=n_rows))
    return tuple(
        Example(prompt, f"answer {line}", line, "d.jsonl", group=group, input=given_input)
        for line, (prompt, group, given_input) in enumerate(rows, start=1)
    )


def lines_of(rows: Sequence[Example]) -> list[int]:
    """Return the line numbers of rows."""
    return [row.line for row in rows]


# A busy machine is no reason to fail.
unhurried = settings(deadline=None)
SEEDS = st.integers(0, 2**32)
FRACTIONS = st.floats(0, 0.99)
