"""The part of exam.json about other things that changed: the divergence, and the skills."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from finetuning_exam.evaluation.skills import SkillReport, Status

if TYPE_CHECKING:
    from finetuning_exam.evaluation.stats import Divergence


@dataclass(frozen=True, slots=True)
class DivergenceFigures:
    """KL(base‖tuned) of general text in nats per token, with its 95% interval."""

    kl_per_token: float | None
    ci_low: float | None
    ci_high: float | None
    n_tokens: int


@dataclass(frozen=True, slots=True)
class SkillFigures:
    """Shares of right answers of base and tuned model in one skill.

    `difference` is tuned minus base, and `p_value` that of McNemar's test. `p_above_chance` is
    one-sided, of the base against guesses.
    """

    skill: str
    n_items: int
    chance: float
    base: float
    tuned: float
    difference: float
    ci_low: float
    ci_high: float
    p_value: float
    n_gained: int
    n_lost: int
    p_above_chance: float
    status: Status


@dataclass(frozen=True, slots=True)
class SkillsFigures:
    """Figures of each skill, whose intervals have `confidence` each, and of all together (95%)."""

    by_skill: tuple[SkillFigures, ...]
    overall: SkillFigures | None
    confidence: float
    n_left_out: int


def divergence_figures(found: Divergence) -> DivergenceFigures:
    """Return what the file has of a divergence."""
    figures = found.kl_per_token, found.interval.low, found.interval.high
    kl, low, high = (value if math.isfinite(value) else None for value in figures)
    return DivergenceFigures(kl, low, high, found.n_tokens)


def skills_figures(report: SkillReport) -> SkillsFigures:
    """Return what the file has of skills."""
    return SkillsFigures(
        tuple(SkillFigures(**asdict(it)) for it in report.skills),
        SkillFigures(**asdict(report.overall)) if report.overall else None,
        report.confidence,
        report.n_left_out,
    )
