"""The exam: base and tuned model on the same held-out examples, and what may be concluded."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Literal

from peft import PeftModel
from sacrebleu import sentence_chrf
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from finetuning_exam.data.encode import Encoded, Encoder
from finetuning_exam.data.records import Example
from finetuning_exam.evaluation.generate import Answer, Decoding, generate_answers
from finetuning_exam.evaluation.score import (
    N_DISTRACTORS,
    Score,
    choose,
    make_choices,
    score_rows,
)
from finetuning_exam.evaluation.stats import (
    PairedDifference,
    Verdict,
    mcnemar_p_value,
    paired_difference,
    verdict,
)

Stage = Literal["scoring", "answering", "choosing"]
OnStage = Callable[[Stage], None]

CHANCE = 1 / (N_DISTRACTORS + 1)


@dataclass(frozen=True, slots=True)
class Pair:
    """One figure of base and tuned; NaN where there was nothing to measure."""

    base: float
    tuned: float


@dataclass(frozen=True, slots=True)
class ChoiceAccuracy:
    """Share of multiple-choice questions answered right; `p_value` of tuned against base."""

    base: float
    tuned: float
    chance: float
    p_value: float
    n_questions: int


@dataclass(frozen=True, slots=True)
class Results:
    """The figures of one set of examples. chrF is the mean over answers, 0 to 100."""

    n_examples: int
    n_answered: int
    nll_per_token: PairedDifference
    bits_per_byte: Pair
    exact_match: Pair
    chrf: Pair
    choice_accuracy: ChoiceAccuracy
    stopped: Pair


@dataclass(frozen=True, slots=True)
class ExamRow:
    """One example as it was examined; answers are None where none was generated."""

    example: Example
    base_score: Score
    tuned_score: Score
    base_answer: Answer | None = None
    tuned_answer: Answer | None = None
    base_chose_right: bool | None = None
    tuned_chose_right: bool | None = None


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


def take_exam(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    encoder: Encoder,
    examples: Sequence[Example],
    plan: ExamPlan,
    on_stage: OnStage = lambda stage: None,
) -> Exam:
    """Examine a model with its adapter on against the same model with it off.

    Both see the same ids in the same batches with the same seed. All examples are scored; a
    seeded sample of at most `plan.answered_examples` is also answered and put as multiple choice.
    """
    rows = [encoder.encode(example) for example in examples]
    pad_id = pad_token_id(tokenizer, encoder)
    on_stage("scoring")
    tuned_scores = score_rows(model, rows, pad_id, plan.batch_size)
    with model.disable_adapter():
        base_scores = score_rows(model, rows, pad_id, plan.batch_size)
    examined = [
        ExamRow(example, base, tuned)
        for example, base, tuned in zip(examples, base_scores, tuned_scores, strict=True)
    ]
    sample = _sample(len(examples), plan)
    on_stage("answering")
    tuned_answers, base_answers = _answers(model, tokenizer, encoder, rows, sample, plan)
    on_stage("choosing")
    choices = make_choices([examples[index] for index in sample], plan.seed)
    tuned_right = choose(model, encoder, choices, pad_id, plan.batch_size)
    with model.disable_adapter():
        base_right = choose(model, encoder, choices, pad_id, plan.batch_size)
    chosen = {
        choice.index: (base, tuned)
        for choice, base, tuned in zip(choices, base_right, tuned_right, strict=True)
    }
    for place, index in enumerate(sample):
        base_chose, tuned_chose = chosen.get(place, (None, None))
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
    return _conclude(examined, _forgetting(model, encoder, pad_id, plan), plan)


def pad_token_id(tokenizer: PreTrainedTokenizerBase, encoder: Encoder) -> int:
    """An id to fill batches with; the attention mask says what is filling, so any id serves."""
    pad: int | None = tokenizer.pad_token_id
    return encoder.eos_token_id if pad is None else pad


def _sample(n_examples: int, plan: ExamPlan) -> list[int]:
    if n_examples <= plan.answered_examples:
        return list(range(n_examples))
    return sorted(random.Random(plan.seed).sample(range(n_examples), plan.answered_examples))


def _answers(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    encoder: Encoder,
    rows: Sequence[Encoded],
    sample: Sequence[int],
    plan: ExamPlan,
) -> tuple[tuple[Answer, ...], tuple[Answer, ...]]:
    """Greedy answers of tuned and base to the sampled rows' prompts."""
    prompts = [rows[index].ids[: rows[index].prompt_length] for index in sample]
    if not prompts:
        return (), ()
    longest = max(len(rows[index].ids) - rows[index].prompt_length for index in sample)
    room = plan.context - max(len(prompt) for prompt in prompts)
    decoding = Decoding(
        max_new_tokens=max(1, min(plan.max_new_tokens or longest + longest // 4 + 1, room)),
        stop_ids=encoder.stop_ids(),
        pad_id=pad_token_id(tokenizer, encoder),
        seed=plan.seed,
    )
    tuned = generate_answers(model, tokenizer, prompts, decoding, plan.batch_size)
    with model.disable_adapter():
        base = generate_answers(model, tokenizer, prompts, decoding, plan.batch_size)
    return tuned, base


def _forgetting(
    model: PeftModel, encoder: Encoder, pad_id: int, plan: ExamPlan
) -> PairedDifference:
    """Both models on the package's sample of general text, one row a paragraph."""
    text = (files("finetuning_exam.evaluation") / "general_text.txt").read_text(encoding="utf-8")
    parts = [part.strip() for part in text.split("\n\n")]
    rows = [encoder.encode_text(part).first(plan.context) for part in parts if part]
    tuned = score_rows(model, rows, pad_id, plan.batch_size)
    with model.disable_adapter():
        base = score_rows(model, rows, pad_id, plan.batch_size)
    return _difference(base, tuned, plan.seed)


def _conclude(rows: Sequence[ExamRow], forgetting: PairedDifference, plan: ExamPlan) -> Exam:
    overall = _results(rows, plan.seed)
    tags = sorted({row.example.tag for row in rows} - {""})
    by_tag = tuple(
        (tag, _results([row for row in rows if row.example.tag == tag], plan.seed)) for tag in tags
    )
    return Exam(
        verdict(overall.nll_per_token, len(rows), is_held_out=plan.is_held_out),
        plan.is_held_out,
        overall,
        by_tag,
        forgetting,
        tuple(rows),
    )


def _results(rows: Sequence[ExamRow], seed: int) -> Results:
    base = [row.base_score for row in rows]
    tuned = [row.tuned_score for row in rows]
    answered = [row for row in rows if row.base_answer is not None]
    asked = [row for row in rows if row.base_chose_right is not None]
    base_right = [bool(row.base_chose_right) for row in asked]
    tuned_right = [bool(row.tuned_chose_right) for row in asked]
    return Results(
        n_examples=len(rows),
        n_answered=len(answered),
        nll_per_token=_difference(base, tuned, seed),
        bits_per_byte=Pair(_bits_per_byte(base), _bits_per_byte(tuned)),
        exact_match=Pair(*(_mean(side) for side in _each_answer(answered, _is_exact))),
        chrf=Pair(*(_mean(side) for side in _each_answer(answered, _chrf))),
        choice_accuracy=ChoiceAccuracy(
            _mean(base_right),
            _mean(tuned_right),
            CHANCE,
            mcnemar_p_value(base_right, tuned_right),
            len(asked),
        ),
        stopped=Pair(*(_mean(side) for side in _each_answer(answered, _has_stopped))),
    )


def _difference(base: Sequence[Score], tuned: Sequence[Score], seed: int) -> PairedDifference:
    return paired_difference(
        [score.nll for score in base],
        [score.nll for score in tuned],
        [score.n_tokens for score in base],
        seed,
    )


def _bits_per_byte(scores: Sequence[Score]) -> float:
    """All nats of the answers (end token included), in bits, over their UTF-8 bytes."""
    n_bytes = sum(score.n_bytes for score in scores)
    return math.fsum(score.nll for score in scores) / math.log(2) / n_bytes


def _each_answer(
    rows: Sequence[ExamRow], measure: Callable[[Answer, str], float]
) -> tuple[list[float], list[float]]:
    """A measure of every base answer, and of every tuned answer, against the reference."""
    base = [measure(row.base_answer, row.example.answer) for row in rows if row.base_answer]
    tuned = [measure(row.tuned_answer, row.example.answer) for row in rows if row.tuned_answer]
    return base, tuned


def _is_exact(answer: Answer, reference: str) -> float:
    return float(answer.text.split() == reference.split())


def _chrf(answer: Answer, reference: str) -> float:
    """ChrF of one answer, 0 to 100 (Popović 2015), as sacrebleu computes it."""
    return float(sentence_chrf(answer.text, [reference]).score)


def _has_stopped(answer: Answer, _reference: str) -> float:
    return float(answer.stopped)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
