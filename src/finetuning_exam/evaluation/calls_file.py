"""The part of exam.json about calls of tools."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetuning_exam.durable import finite

if TYPE_CHECKING:
    from finetuning_exam.evaluation.calls import CallAccuracy
    from finetuning_exam.evaluation.stats import PairedDifference


@dataclass(frozen=True, slots=True)
class CallShare:
    """A share of answers, with the 95% interval of the difference."""

    base: float | None
    tuned: float | None
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    p_value: float | None


@dataclass(frozen=True, slots=True)
class TriedAndValid:
    """Answers that try to call, and those whose JSON can be read."""

    n_tried: int
    n_valid: int


@dataclass(frozen=True, slots=True)
class CallFigures:
    """See `evaluation.calls.CallAccuracy`."""

    n_calls: int
    n_others: int
    right_tool: CallShare
    right_call: CallShare
    needless: CallShare
    base_json: TriedAndValid
    tuned_json: TriedAndValid


def call_figures(found: CallAccuracy) -> CallFigures:
    """Return what the file has of calls."""
    return CallFigures(
        found.n_calls,
        found.n_others,
        _share(found.right_tool),
        _share(found.right_call),
        _share(found.needless),
        TriedAndValid(found.base_json.n_tried, found.base_json.n_valid),
        TriedAndValid(found.tuned_json.n_tried, found.tuned_json.n_valid),
    )


def _share(found: PairedDifference) -> CallShare:
    low, high = found.interval.low, found.interval.high
    figures = (found.base, found.tuned, found.difference, low, high, found.p_value)
    return CallShare(*map(finite, figures))
