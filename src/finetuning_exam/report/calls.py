"""Calls of tools in words: the figures of the terminal, the report and the model card."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from finetuning_exam.report.text import counted, interval_text, percent, signed

if TYPE_CHECKING:
    from finetuning_exam.evaluation.calls import CallAccuracy, ValidJson
    from finetuning_exam.evaluation.stats import PairedDifference


class CallLine(NamedTuple):
    """One figure of calls: its name, base → tuned, and the change in percentage points."""

    name: str
    shares: str
    change: str


def calls_words(found: CallAccuracy) -> str:
    """Say what was asked: `24 answers should call a tool, 40 should not`."""
    others = f", {found.n_others:,} should not" if found.n_others else ""
    return f"{counted(found.n_calls, 'answer')} should call a tool{others}"


def call_lines(found: CallAccuracy) -> tuple[CallLine, ...]:
    """Return the figures, each on a line."""
    lines = [
        _line("right tool", found.right_tool),
        _line("right tool and arguments", found.right_call),
        CallLine("valid JSON", f"{_json(found.base_json)} → {_json(found.tuned_json)}", ""),
    ]
    if found.n_others:
        lines.append(_line("calls when it should not", found.needless))
    return tuple(lines)


def _line(name: str, share: PairedDifference) -> CallLine:
    from finetuning_exam.evaluation.stats import Interval

    interval = Interval(100 * share.interval.low, 100 * share.interval.high)
    change = f"{signed(100 * share.difference, 0)} ({interval_text(interval, 0)})"
    return CallLine(name, f"{percent(share.base, 0)} → {percent(share.tuned, 0)}", change)


def _json(found: ValidJson) -> str:
    return f"{found.n_valid:,} of {found.n_tried:,}"
