"""Count the tokens that an exam scores, on which the prediction of its time is based."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.encoding.rows import EncodedRows
from finetuning_exam.evaluation.ask_skills import skill_choices
from finetuning_exam.evaluation.choices import Ballot
from finetuning_exam.evaluation.exam_plan import ExamPlan
from finetuning_exam.evaluation.general import general_rows
from finetuning_exam.model.score import option_tokens
from finetuning_exam.model.session import Session

SAMPLED_SKILL_ITEMS = 25
"""Questions of skills that are encoded to estimate the tokens of all."""


@dataclass(frozen=True, slots=True)
class ExamTokens:
    """Tokens that each model scores: the exam's rows, the choices of those that are posed, the
    questions of skills with their choices, and general text.
    """

    own: int
    choices: int
    skills: int
    text: int


def exam_tokens(session: Session, questions: EncodedRows[Encoded], plan: ExamPlan) -> ExamTokens:
    """Count the tokens that each model scores in an exam."""
    texts = general_rows(session.encoder, plan.general, plan.context)
    return ExamTokens(
        sum(len(row.ids) for row in questions.rows),
        _choice_tokens(session, questions, plan),
        _skill_tokens(session, plan),
        sum(len(it.ids) for it in texts),
    )


def answered_rows(questions: EncodedRows[Encoded], plan: ExamPlan) -> list[Encoded]:
    """Return the rows that are answered."""
    _, answered = plan.draw(questions.examples)
    return [questions.rows[index] for index in answered]


def sampled_options(session: Session, plan: ExamPlan) -> tuple[tuple[Encoded, ...], float]:
    """Return the rows of a few questions of skills, and their share of all questions."""
    sample = plan.skills[:: -(-len(plan.skills) // SAMPLED_SKILL_ITEMS) or 1]
    if not sample:
        return (), 1.0
    ballot = Ballot.of(session.encoder, skill_choices(session.encoder, sample), plan.context)
    return ballot.rows, len(sample) / len(plan.skills)


def _choice_tokens(session: Session, questions: EncodedRows[Encoded], plan: ExamPlan) -> int:
    """Count the choices, each as long as the answer of its question, as far as prompts are not
    shared; and each answer once, for its likelihood without a question.
    """
    posed, _ = plan.draw(questions.examples)
    asked: Sequence[Encoded] = [questions.rows[index] for index in posed]
    prompts = sum(row.prompt_length for row in asked)
    answers = sum(len(row.ids) - row.prompt_length for row in asked)
    n_prompts = 1 if session.fast.decoder else plan.most_options
    return n_prompts * prompts + (plan.most_options + 1) * answers


def _skill_tokens(session: Session, plan: ExamPlan) -> int:
    """Estimate the tokens of skills from a few of their questions."""
    rows, share = sampled_options(session, plan)
    return round(option_tokens(session.fast, rows, plan.batch_size) / share) if rows else 0
