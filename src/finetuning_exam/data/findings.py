"""Findings: what is wrong or odd in data, and where."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from finetuning_exam.data.kinds import SEVERITIES, Kind

MANY_ALIKE = 5
"""Identical findings of a file share a line if there are more than this."""


class Fault(ValueError):
    """The fault of one record, raised while it is read; the reader adds the place."""

    def __init__(self, kind: Kind, detail: str, column: int = 0) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.column = column


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding at a place; `line` 0 is the whole file, `column` 0 the whole line.

    For Parquet files and hub datasets `line` is the number of the record, from 1.
    """

    kind: Kind
    detail: str
    path: str
    line: int = 0
    column: int = 0

    @property
    def where(self) -> str:
        """`path`, `path:line` or `path:line:column`."""
        return place(self.path, self.line, self.column)

    def __str__(self) -> str:
        return f"{self.where}: {self.detail}{'' if self.detail.endswith('?') else '.'}"


def place(path: str, line: int, column: int = 0) -> str:
    """Return a place in a file as compilers write it; 0 stands for the whole file or line."""
    return ":".join([path, *(str(number) for number in (line, column) if number)])


def errors(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings that make a record unusable."""
    return tuple(finding for finding in findings if finding.kind.severity == "error")


def grouped(findings: Sequence[Finding]) -> list[tuple[str, int]]:
    """Return a line per finding, or one for many identical ones of a file, each with its count."""
    identical: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        identical.setdefault((finding.path, finding.detail), []).append(finding)
    lines: list[tuple[str, int]] = []
    for found in identical.values():
        if len(found) <= MANY_ALIKE:
            lines += [(str(finding), 1) for finding in found]
            continue
        others = ", ".join(f"{it.line:,}" for it in found[1:MANY_ALIKE])
        n_more = len(found) - MANY_ALIKE
        lines.append((f"{found[0]} Also in lines {others} and {n_more:,} more.", len(found)))
    return lines


def by_kind(findings: Sequence[Finding]) -> tuple[tuple[Kind, tuple[Finding, ...]], ...]:
    """Group findings by kind, in order of severity and then of `Kind`; each group in file order."""
    grouped: dict[Kind, list[Finding]] = {}
    for finding in findings:
        grouped.setdefault(finding.kind, []).append(finding)
    order = list(Kind)
    kinds = sorted(grouped, key=lambda it: (SEVERITIES.index(it.severity), order.index(it)))
    return tuple((kind, tuple(grouped[kind])) for kind in kinds)
