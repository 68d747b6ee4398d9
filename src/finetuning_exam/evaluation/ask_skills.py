"""Ask base and tuned model the questions of skills, by the likelihood of each choice."""

from __future__ import annotations

from collections.abc import Sequence

from finetuning_exam.data.encoding.encoder import Encoder
from finetuning_exam.data.encoding.rows import special_token_findings
from finetuning_exam.data.findings import Finding, errors
from finetuning_exam.data.records import Example
from finetuning_exam.evaluation.choices import PREMISE, Choice, choose
from finetuning_exam.evaluation.skills import SkillAnswer, SkillItem
from finetuning_exam.model.adapter import base_and_tuned
from finetuning_exam.model.session import Session


def ask_skills(
    session: Session, items: Sequence[SkillItem], batch_size: int, context: int
) -> tuple[SkillAnswer, ...]:
    """Return which questions base and tuned model answer right, in the order given.

    Both see the same ids, rendered with the run's template; see `choose` for how choices are
    compared. A question is not asked if one of its choices does not fit into `context` positions,
    or if it has a special token that the chat template would interpret.
    """
    encoder = session.encoder
    unsafe = {(it.path, it.line) for it in errors(skill_findings(encoder, items))}
    asked = [
        (item, choice)
        for index, item in enumerate(items)
        if (item.path, item.line) not in unsafe
        and _fits(choice := _choice(index, item), encoder, context)
    ]
    choices = [choice for _, choice in asked]
    base, tuned = base_and_tuned(
        session.model,
        lambda: choose(session.model, encoder, choices, session.row_nll, batch_size),
    )
    return tuple(
        SkillAnswer(item, *right)
        for (item, _), right in zip(asked, zip(base, tuned, strict=True), strict=True)
    )


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


def _fits(choice: Choice, encoder: Encoder, context: int) -> bool:
    """Return whether every choice fits, after its question and after the premise."""
    asked = [(it, Example(PREMISE, it.answer, it.line, it.path)) for it in choice.options]
    rows = encoder.encode_batch([example for pair in asked for example in pair])
    return all(len(row.ids) <= context for row in rows)
