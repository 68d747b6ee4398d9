"""Count the tokens that an exam scores, on which the prediction of its time is based."""

from __future__ import annotations

from collections.abc import Sequence

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.evaluation.ask_skills import skill_choices
from finetuning_exam.evaluation.choices import Ballot
from finetuning_exam.evaluation.exam import ExamPlan
from finetuning_exam.model.score import option_tokens
from finetuning_exam.model.session import Session

SAMPLED_SKILL_ITEMS = 25
"""Questions of skills that are encoded to estimate the tokens of all."""


def scored_tokens(session: Session, rows: Sequence[Encoded], plan: ExamPlan) -> int:
    """Return the tokens that both models score in an exam on these rows: the rows themselves,
    every choice of those that are asked, the general text, and the questions of skills.
    """
    texts = [session.encoder.encode_text(part) for part in plan.general]
    general = sum(min(len(it.ids), plan.context) for it in texts)
    own = sum(len(row.ids) for row in rows)
    return 2 * (own + _choice_tokens(session, rows, plan) + general + _skill_tokens(session, plan))


def asking(rows: Sequence[Encoded], plan: ExamPlan) -> list[Encoded]:
    """Return as many rows with a question as are answered and put as multiple choice."""
    return [row for row in rows if row.prompt_length][: plan.answered_examples]


def _choice_tokens(session: Session, rows: Sequence[Encoded], plan: ExamPlan) -> int:
    """Count the choices, each as long as the answer of its question, as far as prompts are not
    shared; and each answer once, for its likelihood without a question.
    """
    asked = asking(rows, plan)
    prompts = sum(row.prompt_length for row in asked)
    answers = sum(len(row.ids) - row.prompt_length for row in asked)
    n_prompts = 1 if session.fast.decoder else plan.most_options
    return n_prompts * prompts + (plan.most_options + 1) * answers


def _skill_tokens(session: Session, plan: ExamPlan) -> int:
    """Estimate the tokens of skills from a few of their questions."""
    sample = plan.skills[:: -(-len(plan.skills) // SAMPLED_SKILL_ITEMS) or 1]
    if not sample:
        return 0
    ballot = Ballot.of(session.encoder, skill_choices(session.encoder, sample), plan.context)
    n_sampled = option_tokens(session.fast, ballot.rows, plan.batch_size)
    return n_sampled * len(plan.skills) // len(sample)
