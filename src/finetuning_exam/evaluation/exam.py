"""The exam: base and tuned model on the same held-out examples, and what may be concluded."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from peft import PeftModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from finetuning_exam.data.encoding.encode import Encoded, EncodedRows, Encoder
from finetuning_exam.data.records import Example
from finetuning_exam.evaluation.choices import Choice, choose, make_choices
from finetuning_exam.evaluation.general import read_general_text
from finetuning_exam.evaluation.results import ExamRow, Results, clusters, compare_scores, summarize
from finetuning_exam.evaluation.stats import PairedDifference, family_confidence
from finetuning_exam.evaluation.verdict import Verdict, verdict
from finetuning_exam.model.adapter import base_and_tuned
from finetuning_exam.model.generation.decoding import Decoding
from finetuning_exam.model.generation.generate import Answer, answer_both
from finetuning_exam.model.likelihood import RowNll, stock_nll
from finetuning_exam.model.score import score_rows

Stage = Literal["scoring", "answering", "choosing"]
OnStage = Callable[[Stage], None]


@dataclass(frozen=True, slots=True)
class Exam:
    """The whole exam. `forgetting` compares both models on general text nobody was taught."""

    verdict: Verdict
    is_held_out: bool
    overall: Results
    by_tag: tuple[tuple[str, Results], ...]
    forgetting: PairedDifference
    rows: tuple[ExamRow, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ExamPlan:
    """How an exam is taken; absent `max_new_tokens`: the longest reference and a quarter more."""

    seed: int
    batch_size: int
    answered_examples: int
    max_new_tokens: int | None
    context: int
    is_held_out: bool = True
    general: tuple[str, ...] | None = None
    """Paragraphs by which forgetting is measured; absent: the package's sample."""


def take_exam(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    encoder: Encoder,
    questions: EncodedRows[Encoded],
    plan: ExamPlan,
    on_stage: OnStage = lambda stage: None,
    row_nll: RowNll | None = None,
) -> Exam:
    """Examine a model with its adapter on against the same model with it off.

    Both see the same ids in the same batches with the same seed. All examples are scored; a
    seeded sample of at most `plan.answered_examples` is also answered and put as multiple choice,
    except for plain texts, which ask nothing. `row_nll` is the model's likelihood; absent: its
    stock forward pass.
    """
    rows, examples = questions.rows, questions.examples
    row_nll = row_nll or stock_nll(model, pad_token_id(tokenizer, encoder))
    on_stage("scoring")
    base_scores, tuned_scores = base_and_tuned(
        model, lambda: score_rows(model, rows, row_nll, plan.batch_size)
    )
    examined = [
        ExamRow(example, base, tuned)
        for example, base, tuned in zip(examples, base_scores, tuned_scores, strict=True)
    ]
    sample = _sample(examples, plan)
    on_stage("answering")
    base_answers, tuned_answers = _answers(model, tokenizer, encoder, rows, sample, plan)
    on_stage("choosing")
    choices = make_choices(examples, plan.seed, sample)
    chosen = _chosen(model, encoder, rows, choices, row_nll, plan)
    for place, index in enumerate(sample):
        base_chose, tuned_chose = chosen.get(index, (None, None))
        row = examined[index]
        examined[index] = ExamRow(
            row.example,
            row.base_score,
            row.tuned_score,
            base_answers[place],
            tuned_answers[place],
            base_chose,
            tuned_chose,
        )
    return _conclude(examined, _forgetting(model, encoder, row_nll, plan), plan)


def pad_token_id(tokenizer: PreTrainedTokenizerBase, encoder: Encoder) -> int:
    """An id to fill batches with; the attention mask says what is filling, so any id serves."""
    pad: int | None = tokenizer.pad_token_id
    return encoder.eos_token_id if pad is None else pad


def _sample(examples: Sequence[Example], plan: ExamPlan) -> list[int]:
    asking = [index for index, example in enumerate(examples) if not example.is_plain_text]
    if len(asking) <= plan.answered_examples:
        return asking
    return sorted(random.Random(plan.seed).sample(asking, plan.answered_examples))


def _answers(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    encoder: Encoder,
    rows: Sequence[Encoded],
    sample: Sequence[int],
    plan: ExamPlan,
) -> tuple[tuple[Answer, ...], tuple[Answer, ...]]:
    """Greedy answers of base and tuned to the sampled rows' prompts."""
    prompts = [_prompt(rows[index]) for index in sample]
    if not prompts:
        return (), ()
    longest = max(len(rows[index].ids) - rows[index].prompt_length for index in sample)
    decoding = Decoding(
        max_new_tokens=plan.max_new_tokens or longest + longest // 4 + 1,
        context=plan.context,
        stop_ids=encoder.stop_ids(),
        pad_id=pad_token_id(tokenizer, encoder),
        seed=plan.seed,
    )
    return answer_both(model, tokenizer, prompts, decoding, plan.batch_size)


def _prompt(row: Encoded) -> tuple[int, ...]:
    return row.ids[: row.prompt_length]


def _chosen(
    model: PeftModel,
    encoder: Encoder,
    rows: Sequence[Encoded],
    choices: Sequence[Choice],
    row_nll: RowNll,
    plan: ExamPlan,
) -> dict[int, tuple[bool, bool]]:
    """Whether base and tuned chose right, by index of the example.

    Not asked is a question with an option that the model has no room for, or with a prompt that
    had to be cut.
    """
    asked = [
        choice
        for choice in choices
        if encoder.prompt_ids(choice.options[0]) == _prompt(rows[choice.index])
        and all(len(encoder.encode(it).ids) <= plan.context for it in choice.options)
    ]
    base, tuned = base_and_tuned(
        model, lambda: choose(model, encoder, asked, row_nll, plan.batch_size)
    )
    return {
        choice.index: right
        for choice, right in zip(asked, zip(base, tuned, strict=True), strict=True)
    }


def _forgetting(
    model: PeftModel, encoder: Encoder, row_nll: RowNll, plan: ExamPlan
) -> PairedDifference:
    """Both models on general text, one row a paragraph."""
    parts = read_general_text(None) if plan.general is None else plan.general
    rows = [encoder.encode_text(part).first(plan.context) for part in parts]
    rows = [row for row in rows if row.n_supervised]  # of one token nothing is predicted
    base, tuned = base_and_tuned(model, lambda: score_rows(model, rows, row_nll, plan.batch_size))
    return compare_scores(base, tuned, plan.seed)


def _conclude(rows: Sequence[ExamRow], forgetting: PairedDifference, plan: ExamPlan) -> Exam:
    names = clusters([row.example for row in rows])
    overall = summarize(rows, names, plan.seed)
    tags = sorted({row.example.tag for row in rows} - {""})
    confidence = family_confidence(len(tags))  # several tags: one of them differs by chance
    by_tag = []
    for tag in tags:
        chosen = [index for index, row in enumerate(rows) if row.example.tag == tag]
        of_tag = [rows[index] for index in chosen], [names[index] for index in chosen]
        by_tag.append((tag, summarize(*of_tag, plan.seed, confidence)))
    return Exam(
        verdict(overall.nll_per_token, overall.n_clusters, is_held_out=plan.is_held_out),
        plan.is_held_out,
        overall,
        tuple(by_tag),
        forgetting,
        tuple(rows),
    )
