"""The exam: base and tuned model on the same held-out examples, and the conclusion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from finetuning_exam.answer_limit import AnswerReason
from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.encoding.rows import EncodedRows
from finetuning_exam.data.evidence import label_sets, pieces_of_evidence
from finetuning_exam.evaluation.ask_skills import ask_skills
from finetuning_exam.evaluation.choices import Ballot, Choice, make_choices
from finetuning_exam.evaluation.exam_plan import ExamPlan
from finetuning_exam.evaluation.general import general_rows
from finetuning_exam.evaluation.results import (
    ExamRow,
    Pair,
    Results,
    compare_scores,
    summarize,
)
from finetuning_exam.evaluation.skills import SkillReport, report_skills
from finetuning_exam.evaluation.stats import (
    Divergence,
    PairedDifference,
    divergence,
    family_confidence,
)
from finetuning_exam.evaluation.verdict import FOLDS_LEVEL, LEVEL, Verdict, verdict
from finetuning_exam.model.generation.generate import Answer
from finetuning_exam.model.generation.loops import tokens_of_loop
from finetuning_exam.model.session import Prompt, Session

Stage = Literal["scoring", "answering", "choosing", "general text", "skills"]
OnStage = Callable[[Stage], None]


@dataclass(frozen=True, slots=True)
class FoldFigures:
    """The adapter of one fold: the rows it was trained on, and its exam on the fold, not seen."""

    n_train: int
    n_exam: int
    nll_per_token: Pair


@dataclass(frozen=True, slots=True)
class Exam:
    """The whole exam. `forgetting` compares both models on general text, never trained on.

    In a cross-validation the rows are those of all `folds`, and the tuned model is another one in
    each; `forgetting` is that of the saved adapter.
    """

    verdict: Verdict
    is_held_out: bool
    overall: Results
    by_tag: tuple[tuple[str, Results], ...]
    forgetting: PairedDifference
    rows: tuple[ExamRow, ...] = field(repr=False)
    divergence: Divergence | None = None
    """KL(base‖tuned) on general text; None if it was not measured."""
    skills: SkillReport | None = None
    """Right answers to questions of skills; None if none were asked."""
    folds: tuple[FoldFigures, ...] = ()
    answer_reason: AnswerReason = "requested"
    """Why no more examples were answered."""

    @property
    def n_asking(self) -> int:
        """Examples that ask something, which plain texts do not."""
        return sum(not row.example.is_plain_text for row in self.rows)

    @property
    def level(self) -> float:
        """Largest p-value with which the verdict takes a side."""
        return FOLDS_LEVEL if self.folds else LEVEL


def take_exam(
    session: Session,
    questions: EncodedRows[Encoded],
    plan: ExamPlan,
    on_stage: OnStage = lambda stage: None,
) -> Exam:
    """Examine the tuned model of a session against its base.

    Both see the same ids in the same batches with the same seed. All examples are scored; seeded
    samples are also posed as multiple choice and answered (`ExamPlan.draw`), except for plain
    texts, which ask nothing.
    """
    rows, examples = questions.rows, questions.examples
    on_stage("scoring")
    base_scores, tuned_scores = session.score(rows, plan.batch_size)
    examined = [
        ExamRow(example, base, tuned)
        for example, base, tuned in zip(examples, base_scores, tuned_scores, strict=True)
    ]
    posed, answered = plan.draw(examples)
    on_stage("answering")
    base_answers, tuned_answers = _answers(session, [rows[index] for index in answered], plan)
    on_stage("choosing")
    labels = label_sets((*plan.known, *examples))
    choices = make_choices(examples, plan.seed, posed, labels)
    chosen = _chosen(session, rows, choices, plan)
    for place, index in enumerate(answered):
        examined[index] = replace(
            examined[index],
            base_answer=base_answers[place],
            tuned_answer=tuned_answers[place],
        )
    for choice, base, tuned in chosen:
        examined[choice.index] = replace(
            examined[choice.index],
            base_chose_right=base == 0,
            tuned_chose_right=tuned == 0,
            n_options=len(choice.options),
            labels=labels[examples[choice.index].tag] if choice.is_label else (),
            base_label=choice.options[base].answer if choice.is_label else None,
            tuned_label=choice.options[tuned].answer if choice.is_label else None,
        )
    return measure_losses(session, examined, plan, on_stage)


def measure_losses(
    session: Session,
    rows: Sequence[ExamRow],
    plan: ExamPlan,
    on_stage: OnStage,
    folds: tuple[FoldFigures, ...] = (),
) -> Exam:
    """Measure what the tuned model lost on general text and in skills, and conclude an exam."""
    on_stage("general text")
    forgetting, moved = _general(session, plan)
    on_stage("skills")
    skills = _skills(session, plan)
    return replace(conclude(rows, forgetting, plan, folds), divergence=moved, skills=skills)


def _answers(
    session: Session, rows: Sequence[Encoded], plan: ExamPlan
) -> tuple[tuple[Answer, ...], tuple[Answer, ...]]:
    """Return the greedy answers of base and tuned to the prompts of these rows."""
    if not rows:
        return (), ()
    prompts = [Prompt(row.ids[: row.prompt_length]) for row in rows]
    loop_tokens = tokens_of_loop(row.ids[row.prompt_length :] for row in rows)
    decoding = session.decoding(plan.longest_answer(rows), seed=plan.seed, loop_tokens=loop_tokens)
    return session.answer_both(prompts, decoding, plan.batch_size)


def _chosen(
    session: Session, rows: Sequence[Encoded], choices: Sequence[Choice], plan: ExamPlan
) -> list[tuple[Choice, int, int]]:
    """Return each question that was asked, with the options that base and tuned prefer.

    A question is not asked if an option does not fit into the context, or if its prompt was cut.
    """
    encoder = session.encoder
    whole = [
        choice
        for choice in choices
        if encoder.prompt_ids(choice.options[0])
        == rows[choice.index].ids[: rows[choice.index].prompt_length]
    ]
    ballot = Ballot.of(encoder, whole, plan.context)
    base, tuned = map(ballot.preferred, session.score_options(ballot.rows, plan.batch_size))
    return list(zip(ballot.choices, base, tuned, strict=True))


def _general(session: Session, plan: ExamPlan) -> tuple[PairedDifference, Divergence]:
    """Compare both models on general text, one row a paragraph."""
    rows = general_rows(session.encoder, plan.general, plan.context)
    found = session.compare_texts(rows, plan.batch_size)
    forgetting = compare_scores([it.base for it in found], [it.tuned for it in found], plan.seed)
    return forgetting, divergence(
        [it.kl for it in found], [row.n_supervised for row in rows], plan.seed
    )


def _skills(session: Session, plan: ExamPlan) -> SkillReport | None:
    """Ask both models the questions of skills; None if there are none."""
    if not plan.skills:
        return None
    answers = ask_skills(session, plan.skills, plan.batch_size, plan.context)
    return report_skills(answers, len(plan.skills) - len(answers))


def conclude(
    rows: Sequence[ExamRow],
    forgetting: PairedDifference,
    plan: ExamPlan,
    folds: tuple[FoldFigures, ...] = (),
) -> Exam:
    """Return the exam that these rows add up to: its figures, overall and by tag, and verdict."""
    names = pieces_of_evidence([row.example for row in rows], plan.known)
    overall = summarize(rows, names, plan.seed)
    tags = sorted({row.example.tag for row in rows} - {""})
    confidence = family_confidence(len(tags))  # several tags: one of them differs by chance
    by_tag = []
    for tag in tags:
        chosen = [index for index, row in enumerate(rows) if row.example.tag == tag]
        of_tag = [rows[index] for index in chosen], [names[index] for index in chosen]
        by_tag.append((tag, summarize(*of_tag, plan.seed, confidence)))
    return Exam(
        verdict(
            overall.nll_per_token,
            overall.n_clusters,
            is_held_out=plan.is_held_out,
            labels=overall.labels,
            level=FOLDS_LEVEL if folds else LEVEL,
        ),
        plan.is_held_out,
        overall,
        tuple(by_tag),
        forgetting,
        tuple(rows),
        folds=folds,
        answer_reason=plan.answer_reason,
    )
