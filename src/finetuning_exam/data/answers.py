"""Faults that only all answers of a file show: cut off at one length, or the same for many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from finetuning_exam.data.findings import Finding
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.fields import quoted
from finetuning_exam.data.records import Example

FEWEST_ALIKE = 5
"""Fewer answers that are the same, or equally long, are a coincidence."""
REPEATED_SHARE = 0.2
CUT_SHARE = 0.002
"""The least share of a file's answers that are cut off at one length."""
_SHORTEST_CUT: Mapping[str, int] = {"characters": 40, "bytes": 40, "words": 16, "tokens": 16}
_SLACK: Mapping[str, int] = {"characters": 1, "bytes": 3, "words": 0, "tokens": 2}
"""What a cut answer may lack of the limit: a final blank, or a part of a character."""
_UNENDED = 0.5
"""The most of the other answers that may lack a final mark; of more, a missing mark says nothing.
"""
_FINAL_MARKS = frozenset(".?!…:;。！？：；\"'”’»)]}>`*|~_-–—=+#$%/\\")
_OPENING = 24
"""Characters at the start of an answer by which texts made from one pattern are recognised."""


def cut_answers(
    examples: Sequence[Example], lengths: Mapping[str, Callable[[str], int]]
) -> tuple[Finding, ...]:
    """Find answers that stop in mid-sentence at one length, in one of the units of `lengths`.

    At most one finding for each file: the first unit in which the lengths pile up.
    """
    by_path: dict[str, list[Example]] = {}
    for example in examples:
        if not example.is_plain_text:
            by_path.setdefault(example.path, []).append(example)
    findings = (_cut_in_file(rows, lengths) for rows in by_path.values())
    return tuple(finding for finding in findings if finding)


def length_units() -> dict[str, Callable[[str], int]]:
    """Return the units of length that need no tokenizer."""
    return {
        "characters": len,
        "bytes": lambda text: len(text.encode("utf-8")),
        "words": lambda text: len(text.split()),
    }


@dataclass(frozen=True, slots=True)
class _Pile:
    """Answers that stop in mid-sentence at a length of `n`; `exact` have it to the unit."""

    rows: tuple[Example, ...]
    n: int
    unit: str
    exact: int


def _cut_in_file(
    rows: Sequence[Example], lengths: Mapping[str, Callable[[str], int]]
) -> Finding | None:
    unended = [row for row in rows if _is_unended(row.answer)]
    if len(unended) < FEWEST_ALIKE:
        return None
    piles = [_pile(unended, unit, length) for unit, length in lengths.items()]
    clear = [pile for pile in piles if _is_clear(pile, len(unended), len(rows))]
    if not clear:
        return None
    cut = max(clear, key=lambda pile: pile.exact)
    first, *others = cut.rows
    detail = (
        f"{len(cut.rows):,} of {len(rows):,} answers stop in mid-sentence at {cut.n:,} {cut.unit}; "
        f"also in {_lines(others)}"
    )
    return Finding(Kind.CUT_ANSWERS, detail, first.path, first.line, first.column)


def _is_clear(pile: _Pile, n_unended: int, n_rows: int) -> bool:
    """Return whether the answers are many, unlike the others, and not made from one pattern."""
    n = len(pile.rows)
    return (
        n >= max(FEWEST_ALIKE, CUT_SHARE * n_rows)
        and n_unended - n <= _UNENDED * (n_rows - n)
        and 2 * len({row.answer[:_OPENING] for row in pile.rows}) > n
    )


def _pile(unended: Sequence[Example], unit: str, length: Callable[[str], int]) -> _Pile:
    """Return the answers of the commonest length; none if many are longer."""
    shortest, slack = _SHORTEST_CUT[unit], _SLACK[unit]
    sizes = [length(row.answer.strip()) for row in unended]
    counts = Counter(size for size in sizes if size >= shortest)

    def n_near(size: int) -> int:
        return sum(counts[near] for near in range(size - slack, size + 1))

    n = max(counts, key=lambda size: (n_near(size), size), default=0)
    if 4 * sum(size > n for size in sizes) > n_near(n):
        return _Pile((), n, unit, 0)
    pairs = zip(unended, sizes, strict=True)
    rows = tuple(row for row, size in pairs if max(shortest, n - slack) <= size <= n)
    return _Pile(rows, n, unit, counts[n])


def _is_unended(answer: str) -> bool:
    """Return whether an answer is prose that lacks a final mark."""
    text = answer.rstrip()
    if not text or text[-1] in _FINAL_MARKS or text.count("```") >= 2:
        return False
    return not text.isascii() or text.count(" ") >= FEWEST_ALIKE


def _lines(rows: Sequence[Example]) -> str:
    shown = ", ".join(f"{row.line:,}" for row in rows[:FEWEST_ALIKE])
    n_more = len(rows) - FEWEST_ALIKE
    return f"lines {shown}" + (f" and {n_more:,} more" if n_more > 0 else "")


def repeated_answer(examples: Sequence[Example]) -> Iterator[Finding]:
    """Yield a finding if more than a fifth of all rows have one answer that is no label.

    Answers are labels if the other rows repeat their answers too.
    """
    counts = Counter(it.answer.strip() for it in examples if not it.is_plain_text)
    for answer, count in counts.most_common(1):
        once = sum(times == 1 for times in counts.values())
        is_repeated = count >= FEWEST_ALIKE and count > REPEATED_SHARE * counts.total()
        if is_repeated and once >= FEWEST_ALIKE and 2 * once > counts.total() - count:
            first = next(it for it in examples if it.answer.strip() == answer)
            detail = (
                f"{count:,} of {counts.total():,} rows have the answer {quoted(answer)}, "
                "and most others have one of their own"
            )
            yield Finding(Kind.REPEATED_ANSWER, detail, first.path, first.line, first.column)
