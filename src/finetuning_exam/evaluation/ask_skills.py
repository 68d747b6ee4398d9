"""Ask base and tuned model the questions of skills, by the likelihood of each choice."""

from __future__ import annotations

from collections.abc import Sequence

from finetuning_exam.data.encoding.encoder import Encoder
from finetuning_exam.data.encoding.rows import special_token_findings
from finetuning_exam.data.findings import Finding, errors
from finetuning_exam.data.records import Example
from finetuning_exam.evaluation.choices import Ballot, Choice
from finetuning_exam.evaluation.skills import SkillAnswer, SkillItem
from finetuning_exam.model.session import Session


def ask_skills(
    session: Session, items: Sequence[SkillItem], batch_size: int, context: int
) -> tuple[SkillAnswer, ...]:
    """Return which questions base and tuned model answer right, in the order given.

    Both see the same ids, rendered with the run's template; see `Ballot` for how choices are
    compared. A question is not asked if one of its choices does not fit into `context` positions,
    or if it has a special token that the chat template would interpret.
    """
    ballot = Ballot.of(session.encoder, skill_choices(session.encoder, items), context)
    base, tuned = map(ballot.preferred, session.score_options(ballot.rows, batch_size))
    return tuple(
        SkillAnswer(items[choice.index], before == 0, after == 0)
        for choice, before, after in zip(ballot.choices, base, tuned, strict=True)
    )


def skill_choices(encoder: Encoder, items: Sequence[SkillItem]) -> list[Choice]:
    """Return questions as multiple choice, without those that the template would interpret."""
    unsafe = {(it.path, it.line) for it in errors(skill_findings(encoder, items))}
    return [
        _choice(index, item)
        for index, item in enumerate(items)
        if (item.path, item.line) not in unsafe
    ]


def skill_findings(encoder: Encoder, items: Sequence[SkillItem]) -> tuple[Finding, ...]:
    """Report each question with a special token; an error if the template would interpret it."""
    texts = [Example(it.question, "\n".join(it.choices), it.line, it.path) for it in items]
    return special_token_findings(encoder, texts)


def _choice(index: int, item: SkillItem) -> Choice:
    """Return a question as multiple choice, the right answer first."""
    wrong = (text for number, text in enumerate(item.choices) if number != item.answer)
    return Choice(
        index,
        tuple(
            Example(item.question, text, item.line, item.path)
            for text in (item.choices[item.answer], *wrong)
        ),
    )
