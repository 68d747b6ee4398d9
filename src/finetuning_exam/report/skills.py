"""Other things that changed, in words and tables: skills, and the divergence from the base."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetuning_exam.report.text import counted, interval_text, number, on_one_line, percent, signed

if TYPE_CHECKING:  # this imports torch, which is not needed to show text
    from finetuning_exam.evaluation.skills import SkillReport, SkillResult, Status
    from finetuning_exam.evaluation.stats import Divergence

STATUS: dict[Status, str] = {
    "worse": "measurably worse",
    "better": "measurably better",
    "no measurable change": "no measurable change",
    "not measurable": "not measurable",
}
MOST_NAMED = 3
"""Lost skills that a sentence names."""
_MOST_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class SkillLine:
    """One line of the table of skills, as text."""

    name: str
    n_items: str
    shares: str
    change: str
    status: str


@dataclass(frozen=True, slots=True)
class SkillTable:
    """The table of skills, a sentence before it, and what a reader needs to interpret it."""

    summary: str
    lines: tuple[SkillLine, ...]
    notes: tuple[str, ...]


def divergence_words(found: Divergence | None) -> str:
    """Describe the divergence: `KL(base‖tuned) 0.021 nats per token (95% interval: …)`."""
    if found is None or math.isnan(found.kl_per_token):
        return "KL(base‖tuned) was not measured"
    text = f"KL(base‖tuned) {number(found.kl_per_token, 4)} nats per token"
    if math.isnan(found.interval.low):
        return text
    low, high = number(found.interval.low, 4), number(found.interval.high, 4)
    return f"{text} (95% interval: {low} to {high})"


def lost(report: SkillReport | None) -> tuple[SkillResult, ...]:
    """Return the skills that are measurably worse; if none is, all skills together if they are."""
    if report is None:
        return ()
    worse = tuple(it for it in report.skills if it.status == "worse")
    overall = report.overall
    return worse or ((overall,) if overall and overall.status == "worse" else ())


def lost_words(report: SkillReport | None) -> str:
    """Name the lost skills: `lost arithmetic: 88% → 52%`; empty if none is."""
    found = lost(report)
    if not found:
        return ""
    if report is not None and found == (report.overall,):
        return f"fewer right answers over all skills: {_shares(found[0])}"
    if len(found) == 1:
        return f"lost {_name(found[0])}: {_shares(found[0])}"
    named = [f"{_name(it)} ({_shares(it)})" for it in found[:MOST_NAMED]]
    rest = len(found) - len(named)
    return f"lost {', '.join(named)}{f' and {rest} more' if rest else ''}"


def lost_title(report: SkillReport | None) -> str:
    """Say how much was lost: `it lost a skill`; empty if nothing was."""
    found = lost(report)
    if not found:
        return ""
    if report is not None and found == (report.overall,):
        return "it lost skills"
    return "it lost a skill" if len(found) == 1 else f"it lost {len(found)} skills"


def skill_table(report: SkillReport) -> SkillTable:
    """Return the table of skills, all skills together last if there are several."""
    overall = (report.overall,) if report.overall and len(report.skills) > 1 else ()
    lines = tuple(map(_line, (*report.skills, *overall)))
    return SkillTable(_summary(report), lines, tuple(_notes(report)))


def _summary(report: SkillReport) -> str:
    n_items = report.overall.n_items if report.overall else 0
    asked = counted(n_items, "multiple-choice question")
    skills = counted(len(report.skills), "skill")
    measurable = [it for it in report.skills if it.status != "not measurable"]
    if not measurable:
        return f"{asked} about {skills}, none measurable with this base"
    counts = Counter(it.status for it in measurable)
    changes = [f"{counts[it]:,} {it}" for it in ("worse", "better") if counts[it]]
    changed = ", ".join(changes) or "none changed measurably"
    return f"{asked} about {skills}, {len(measurable):,} of them measurable: {changed}"


def _notes(report: SkillReport) -> list[str]:
    notes = [
        f"Each interval has a confidence of {100 * report.confidence:.4g}%, so that all of them "
        "hold jointly in 95% of exams (Bonferroni)."
        if len(report.skills) > 1
        else "The interval has a confidence of 95%."
    ]
    if any(it.status == "not measurable" for it in report.skills):
        notes.append(
            "Not measurable: the base is not measurably better than guessing, or there are fewer "
            "than 20 questions. Nothing follows about such a skill."
        )
    if report.n_left_out:
        notes.append(
            f"{counted(report.n_left_out, 'question')} left out: too long for the model's context, "
            "or with a special token that the chat template would interpret."
        )
    return notes


def _line(result: SkillResult) -> SkillLine:
    from finetuning_exam.evaluation.stats import Interval

    interval = interval_text(Interval(100 * result.ci_low, 100 * result.ci_high), 0)
    return SkillLine(
        _name(result),
        f"{result.n_items:,}",
        _shares(result),
        f"{signed(100 * result.difference, 0)} ({interval})",
        STATUS[result.status],
    )


def _shares(result: SkillResult) -> str:
    return f"{percent(result.base, 0)} → {percent(result.tuned, 0)}"


def _name(result: SkillResult) -> str:
    """Return a skill's name on one line, cut to `_MOST_CHARACTERS`."""
    text = on_one_line(result.skill)
    if len(text) <= _MOST_CHARACTERS:
        return text
    return f"{text[: _MOST_CHARACTERS - 1].rstrip()}…"
