"""Names of the figures, figures as text, and text made safe to show.

Every output uses the same names. Missing and NaN figures are shown as a dash, and negative ones
with a hyphen-minus, so that they can be searched for and pasted into other programs.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from finetuning_exam.answer_limit import SHARE_OF_TRAINING, AnswerLimit, AnswerReason

if TYPE_CHECKING:  # these import torch, which is not needed to show text
    from finetuning_exam.evaluation.results import Results
    from finetuning_exam.evaluation.stats import Interval

NLL_PER_TOKEN = "NLL per token (nats)"
BITS_PER_BYTE = "Bits per byte"
EXACT_MATCH = "Exact match"
CHRF = "chrF (0\N{EN DASH}100)"
MULTIPLE_CHOICE = "Multiple choice"
ACCURACY = "Accuracy"
BALANCED_ACCURACY = "Balanced accuracy"
STOPPED = "Stopped on their own"
REPEATED = "Did not stop (repeats)"

ABSENT = "\N{EN DASH}"
_OPEN, _CLOSE = "\u2039", "\u203a"
_NEWLINE, _TAB = f"{_OPEN}U+000A{_CLOSE}", f"{_OPEN}U+0009{_CLOSE}"
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 and C1 controls, but not tab and newline
    "\u202a-\u202e\u2066-\u2069"  # bidirectional embeddings, overrides and isolates
    "\ud800-\udfff]"  # lone surrogates, which cannot be encoded
)


def visible(text: str) -> str:
    """Escape control characters, bidirectional overrides and isolates, and lone surrogates.

    Each is shown as its code point in angle quotes; newline and tab are kept.
    """
    return _HIDDEN.sub(lambda found: f"{_OPEN}U+{ord(found[0]):04X}{_CLOSE}", text)


def on_one_line(text: str) -> str:
    """Do the same as `visible`, and escape newline and tab too."""
    return visible(text.replace("\n", _NEWLINE).replace("\t", _TAB))


def number(value: float | None, digits: int = 3) -> str:
    """Format a figure with thousands separators; `-0` becomes `0`."""
    if value is None or not math.isfinite(value):
        return ABSENT
    text = f"{value:,.{digits}f}"
    return text if text.strip("-0.,") else text.removeprefix("-")


def counted(n: int, noun: str) -> str:
    """Format a number of things, such as `1 row` or `2,000 rows`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def size(n_bytes: float) -> str:
    """Format bytes in decimal units: `640 MB`, `1.9 GB`."""
    if n_bytes < 999.5e6:
        return f"{n_bytes / 1e6:,.0f} MB"
    return f"{n_bytes / 1e9:,.1f} GB"


def signed(value: float | None, digits: int = 3) -> str:
    """Format a change with its sign; a change that rounds to zero has none."""
    text = number(value, digits)
    is_change = text[0] not in (ABSENT, "-") and text.strip("0.,")
    return f"+{text}" if is_change else text


def percent(share: float | None, digits: int = 1) -> str:
    """Format a share from 0 to 1 as a percentage."""
    text = number(None if share is None else 100 * share, digits)
    return text if text == ABSENT else f"{text}%"


def p_value(value: float) -> str:
    """Format a p-value, such as `p = 0.040` or `p < 0.001`."""
    return "p < 0.001" if value < 0.001 else f"p = {number(value)}"


def interval_text(interval: Interval, digits: int = 3) -> str:
    """Format both bounds of an interval, such as `-1.750 to -1.250`."""
    if math.isnan(interval.low):
        return ABSENT
    return f"{signed(interval.low, digits)} to {signed(interval.high, digits)}"


@dataclass(frozen=True, slots=True)
class Measure:
    """One line of a results table: a figure for base and tuned, as text."""

    name: str
    better: Literal["lower", "higher"]
    base: str
    tuned: str
    change: str


def choice_name(results: Results) -> str:
    """Return the name of the share of right choices: in a classification it is the accuracy."""
    return ACCURACY if results.labels else MULTIPLE_CHOICE


def pieces_words(n_examples: int, n_clusters: int, kind: str = "") -> str:
    """Format the size of an exam: `32 held-out examples, 20 pieces of evidence`."""
    noun = f"{kind} example" if kind else "example"
    piece = "piece" if n_clusters == 1 else "pieces"
    return f"{counted(n_examples, noun)}, {n_clusters:,} {piece} of evidence"


_ANSWER_REASONS: dict[AnswerReason, str] = {
    "requested": "as --answered_examples says",
    "enough": "more would add little",
    "time": f"with more, they would take over {SHARE_OF_TRAINING:.0%} of the training's "
    "predicted time",
    "fewest": f"the fewest; they take over {SHARE_OF_TRAINING:.0%} of the training's "
    "predicted time",
    "unknown": "the training's time is not known",
}


def answers_words(limit: AnswerLimit, n_asking: int) -> str:
    """Say how many of the examples that ask something are answered, and why; empty if all are."""
    if limit.n >= n_asking:
        return ""
    reason = _ANSWER_REASONS[limit.reason]
    if limit.n == 0:
        return f"Answers: none of {counted(n_asking, 'example')} ({reason})"
    return f"Answers: {limit.n:,} of {counted(n_asking, 'example')}, chosen at random ({reason})"


def measures(results: Results) -> tuple[Measure, ...]:
    """Return the lines of the results table, base against tuned."""
    nll = results.nll_per_token
    choice = results.choice_accuracy
    bits, chrf, labels = results.bits_per_byte, results.chrf, results.labels
    return (
        Measure(
            NLL_PER_TOKEN,
            "lower",
            number(nll.base),
            number(nll.tuned),
            _with_interval(signed(nll.difference), interval_text(nll.interval)),
        ),
        Measure(
            BITS_PER_BYTE,
            "lower",
            number(bits.base),
            number(bits.tuned),
            signed(bits.tuned - bits.base),
        ),
        _shares(
            EXACT_MATCH,
            results.exact_match.base,
            results.exact_match.tuned,
            results.exact_match.p_value,
        ),
        Measure(
            CHRF,
            "higher",
            number(chrf.base, 1),
            number(chrf.tuned, 1),
            _with_interval(signed(chrf.difference, 1), interval_text(chrf.interval, 1)),
        ),
        _shares(
            f"{choice_name(results)} (chance {percent(choice.chance, 0)})",
            choice.base,
            choice.tuned,
            choice.p_value,
        ),
        *(
            [
                _shares(
                    BALANCED_ACCURACY, labels.base.balanced_accuracy, labels.tuned.balanced_accuracy
                )
            ]
            if labels
            else []
        ),
        _shares(STOPPED, results.stopped.base, results.stopped.tuned),
        *(
            [_shares(REPEATED, results.repeated.base, results.repeated.tuned, better="lower")]
            if has_loops(results)
            else []
        ),
    )


def has_loops(results: Results) -> bool:
    """Return whether answers only repeated themselves."""
    return results.repeated.base > 0 or results.repeated.tuned > 0


def _shares(
    name: str,
    base: float,
    tuned: float,
    p: float | None = None,
    better: Literal["lower", "higher"] = "higher",
) -> Measure:
    change = signed(100 * (tuned - base), 1)
    if change != ABSENT:
        change += " points" if p is None else f" points ({p_value(p)})"
    return Measure(name, better, percent(base), percent(tuned), change)


def _with_interval(change: str, interval: str) -> str:
    return change if interval == ABSENT else f"{change} ({interval})"
