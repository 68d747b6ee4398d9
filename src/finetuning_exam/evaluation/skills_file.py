"""The part of exam.json about other things that changed: the divergence, and the skills."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetuning_exam.durable import finite
from finetuning_exam.evaluation.skills import SkillReport, SkillResult

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
class SkillsFigures:
    """Figures of each skill, whose intervals have `confidence` each, and of all together (95%)."""

    by_skill: tuple[SkillResult, ...]
    overall: SkillResult | None
    confidence: float
    n_left_out: int


def divergence_figures(found: Divergence) -> DivergenceFigures:
    """Return what the file has of a divergence."""
    low, high = found.interval.low, found.interval.high
    return DivergenceFigures(finite(found.kl_per_token), finite(low), finite(high), found.n_tokens)


def skills_figures(report: SkillReport) -> SkillsFigures:
    """Return what the file has of skills."""
    return SkillsFigures(report.skills, report.overall, report.confidence, report.n_left_out)
