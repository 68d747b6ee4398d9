"""Text made safe to show, and figures as text; absent and NaN figures are shown as a dash."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # these import torch, and the terminal shows text before it is needed
    from finetuning_exam.evaluation.results import Results
    from finetuning_exam.evaluation.stats import Interval

ABSENT = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
_OPEN, _CLOSE = "\u2039", "\u203a"
_NEWLINE, _TAB = f"{_OPEN}U+000A{_CLOSE}", f"{_OPEN}U+0009{_CLOSE}"
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 and C1 controls, but not tab and newline
    "\u202a-\u202e\u2066-\u2069"  # bidirectional embeddings, overrides and isolates
    "\ud800-\udfff]"  # lone surrogates, which no file can hold
)


def visible(text: str) -> str:
    """The text with characters that act instead of being seen as escapes (U+202E in angle quotes).

    These are control characters, bidirectional overrides and isolates, and lone surrogates;
    newline and tab are kept.
    """
    return _HIDDEN.sub(lambda found: f"{_OPEN}U+{ord(found[0]):04X}{_CLOSE}", text)


def on_one_line(text: str) -> str:
    """The same with newline and tab as escapes too."""
    return visible(text.replace("\n", _NEWLINE).replace("\t", _TAB))


def number(value: float | None, digits: int = 3) -> str:
    """A figure with thousands separators and a true minus sign."""
    if value is None or not math.isfinite(value):
        return ABSENT
    return _without_minus_zero(f"{value:,.{digits}f}").replace("-", MINUS)


def counted(n: int, noun: str) -> str:
    """A whole number of things, such as `1 row` or `2,000 rows`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def size(n_bytes: float) -> str:
    """Bytes in decimal units: `640 MB`, `1.9 GB`."""
    if n_bytes < 999.5e6:
        return f"{n_bytes / 1e6:,.0f} MB"
    return f"{n_bytes / 1e9:,.1f} GB"


def signed(value: float | None, digits: int = 3) -> str:
    """A change: the figure with its sign, except for what rounds to zero."""
    text = number(value, digits)
    is_change = text[0] not in (ABSENT, MINUS) and text.strip("0.,")
    return f"+{text}" if is_change else text


def percent(share: float | None, digits: int = 1) -> str:
    """A share from 0 to 1 as a percentage."""
    text = number(None if share is None else 100 * share, digits)
    return text if text == ABSENT else f"{text}%"


def p_value(value: float) -> str:
    """The p-value of a test, with its name."""
    return "p < 0.001" if value < 0.001 else f"p = {number(value)}"


def interval_text(interval: Interval, digits: int = 3) -> str:
    """Both bounds of an interval."""
    if math.isnan(interval.low):
        return ABSENT
    return f"{signed(interval.low, digits)} to {signed(interval.high, digits)}"


@dataclass(frozen=True, slots=True)
class Measure:
    """One line of a results table: a figure of base and tuned, as text."""

    name: str
    better: Literal["lower", "higher"]
    base: str
    tuned: str
    change: str


def measures(results: Results) -> tuple[Measure, ...]:
    """The figures of an exam, base against tuned."""
    nll = results.nll_per_token
    choice = results.choice_accuracy
    bits, chrf = results.bits_per_byte, results.chrf
    return (
        Measure(
            "NLL per token (nats)",
            "lower",
            number(nll.base),
            number(nll.tuned),
            _with_interval(signed(nll.difference), interval_text(nll.interval)),
        ),
        Measure(
            "Bits per byte",
            "lower",
            number(bits.base),
            number(bits.tuned),
            signed(bits.tuned - bits.base),
        ),
        _shares(
            "Exact match",
            results.exact_match.base,
            results.exact_match.tuned,
            results.exact_match.p_value,
        ),
        Measure(
            "chrF (0 to 100)",
            "higher",
            number(chrf.base, 1),
            number(chrf.tuned, 1),
            _with_interval(signed(chrf.difference, 1), interval_text(chrf.interval, 1)),
        ),
        _shares(
            f"Multiple choice (chance {percent(choice.chance, 0)})",
            choice.base,
            choice.tuned,
            choice.p_value,
        ),
        _shares("Answers that stopped by themselves", results.stopped.base, results.stopped.tuned),
    )


def _shares(name: str, base: float, tuned: float, p: float | None = None) -> Measure:
    change = signed(100 * (tuned - base), 1)
    if change != ABSENT:
        change += " points" if p is None else f" points ({p_value(p)})"
    return Measure(name, "higher", percent(base), percent(tuned), change)


def _with_interval(change: str, interval: str) -> str:
    return change if interval == ABSENT else f"{change} ({interval})"


def _without_minus_zero(text: str) -> str:
    return text.removeprefix("-") if not text.strip("-0.,") else text
