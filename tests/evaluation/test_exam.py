"""The exam: fair to both sides, the same at every batch size, and whole in exam.json."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import Models, Run, brisk, rows, run_training

from finetuning_exam.data.encoding.encoder import Encoded, make_encoder
from finetuning_exam.data.encoding.rows import encode_all
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.data.split import Split
from finetuning_exam.errors import ModelError
from finetuning_exam.evaluation.choices import Ballot, make_choices
from finetuning_exam.evaluation.exam import Exam, take_exam
from finetuning_exam.evaluation.exam_file import to_json
from finetuning_exam.evaluation.exam_plan import ExamPlan
from finetuning_exam.evaluation.general import read_general_text
from finetuning_exam.evaluation.results import N_OPTIONS
from finetuning_exam.evaluation.skills import read_skills
from finetuning_exam.model.device import choose_compute
from finetuning_exam.model.fast.path import FastPath
from finetuning_exam.model.generation.decoding import Decoding
from finetuning_exam.model.generation.generate import generate_answers
from finetuning_exam.model.likelihood import collate, stock_nll, supervised_nll
from finetuning_exam.model.load import load_base
from finetuning_exam.model.score import score_rows
from finetuning_exam.settings import ExamSettings
from finetuning_exam.training.prepare import Prepared, prepare

EXAMPLES = (*rows(14, "a"), *rows(24, "b")[14:])
PLAN = ExamPlan(
    seed=0,
    batch_size=8,
    answered_examples=12,
    max_new_tokens=8,
    context=1024,
    general=read_general_text(None)[:16],
)


@pytest.fixture(scope="module")
def run(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A llama trained for a few steps on the exam's own rows, so that it gains."""
    settings = brisk(models.folder(), max_steps=12, save_steps=1000)
    return run_training(settings, tmp_path_factory.mktemp("run"), rows(24))


@pytest.fixture(scope="module")
def exam(run: Run) -> Exam:
    """Its exam."""
    return _take(run.prepared, EXAMPLES, PLAN)


def _take(
    prepared: Prepared,
    examples: tuple[Example, ...],
    plan: ExamPlan,
    fast: FastPath | None = None,
) -> Exam:
    """An exam; without `fast` by the stock forward pass."""
    encoded = encode_all(prepared.rows.encoder, examples, plan.context)
    stock = FastPath(prepared.model, prepared.rows.encoder.eos_token_id, frozenset())
    return take_exam(replace(prepared.session, fast=fast or stock), encoded, plan)


@pytest.mark.parametrize("is_fast", [False, True], ids=["stock", "fast"])
def test_an_adapter_that_does_nothing_makes_no_difference(models: Models, is_fast: bool) -> None:
    """With B = 0 every figure of both sides is the same, the difference exactly zero, and the
    verdict neither improved nor worse.
    """
    prepared = prepare(brisk(models.folder()), Split(rows(4), (), ()))
    exam = _take(prepared, EXAMPLES, PLAN, prepared.fast if is_fast else None)
    assert exam.verdict == "no measurable difference"
    for difference in (exam.overall.nll_per_token, exam.forgetting):
        assert difference.difference == 0.0
        assert (difference.interval.low, difference.interval.high) == (0.0, 0.0)
    for pair in (exam.overall.bits_per_byte, exam.overall.chrf, exam.overall.stopped):
        assert pair.base == pair.tuned
    assert exam.overall.choice_accuracy.p_value == 1.0
    for row in exam.rows:
        assert (row.base_score, row.base_answer) == (row.tuned_score, row.tuned_answer)


@pytest.mark.parametrize("n", [4, 19])
def test_too_small_an_exam_of_nothing_says_so(models: Models, n: int) -> None:
    """With fewer than twenty examples and no difference there are too few examples to tell."""
    prepared = prepare(brisk(models.folder()), Split(rows(4), (), ()))
    exam = _take(prepared, rows(n), replace(PLAN, answered_examples=0))
    assert exam.verdict == "too few examples to tell"


def test_the_base_side_is_a_fresh_base(models: Models, run: Run, exam: Exam) -> None:
    """Base scores, answers and choices are those of a base that never saw an adapter."""
    base = load_base(str(models.folder()), choose_compute("cpu", "float32"))
    encoder = make_encoder(base.tokenizer, "plain")
    encoded = [encoder.encode(example) for example in EXAMPLES]
    row_nll = stock_nll(base.model, encoder.eos_token_id)
    fresh = score_rows(base.model, encoded, row_nll, PLAN.batch_size)
    assert tuple(row.base_score for row in exam.rows) == fresh
    answered = [i for i, row in enumerate(exam.rows) if row.base_answer is not None]
    decoding = Decoding(8, encoder.stop_ids, encoder.eos_token_id, seed=0)
    prompts = [encoder.prompt_ids(EXAMPLES[i]) for i in answered]
    answers = generate_answers(base.model, base.tokenizer, prompts, decoding, PLAN.batch_size)
    assert tuple(exam.rows[i].base_answer for i in answered) == answers
    choices = make_choices(EXAMPLES, PLAN.seed, answered)
    ballot = Ballot.of(encoder, choices, PLAN.context)
    preferred = ballot.preferred(score_rows(base.model, ballot.rows, row_nll, PLAN.batch_size))
    found = [exam.rows[choice.index].base_chose_right for choice in choices]
    assert found == [index == 0 for index in preferred]


def test_the_tuned_side_has_the_adapter_on(run: Run, exam: Exam) -> None:
    """Tuned scores are the adapted model's, which learned these rows: the verdict is improved."""
    prepared = run.prepared
    encoded = [prepared.rows.encoder.encode(example) for example in EXAMPLES]
    row_nll = stock_nll(prepared.model, prepared.rows.encoder.eos_token_id)
    expected = score_rows(prepared.model, encoded, row_nll, 8)
    assert tuple(row.tuned_score for row in exam.rows) == expected
    assert exam.verdict == "improved"
    assert exam.overall.nll_per_token.interval.high < 0


def test_a_worse_model_is_found_worse(models: Models) -> None:
    """An adapter of noise makes the verdict worse, and forgetting shows on general text."""
    prepared = prepare(brisk(models.folder()), Split(rows(4), (), ()))
    _unlearn(prepared)
    exam = _take(prepared, EXAMPLES, replace(PLAN, answered_examples=0))
    assert exam.verdict == "worse"
    assert exam.forgetting.difference != 0


def _unlearn(prepared: Prepared) -> None:
    """Push the adapter up the gradient of the exam's loss: away from the right answers."""
    batch = collate([prepared.rows.encoder.encode(example) for example in EXAMPLES], 0)
    optimizer = torch.optim.Adam(
        [p for p in prepared.model.parameters() if p.requires_grad], lr=1e-2, maximize=True
    )
    for _ in range(4):
        optimizer.zero_grad()
        supervised_nll(prepared.model, batch).sum().backward()
        optimizer.step()


def test_training_rows_prove_nothing(run: Run) -> None:
    """However large the gain, on rows that are not held out the verdict is too few to tell."""
    plan = replace(PLAN, answered_examples=0, is_held_out=False)
    found = _take(run.prepared, EXAMPLES, plan)
    assert found.verdict == "too few examples to tell"
    assert not found.is_held_out


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_the_exam_does_not_depend_on_its_batch_size(run: Run, exam: Exam, batch_size: int) -> None:
    """At every batch size the answers and choices are the same, and the scores but for rounding."""
    found = _take(run.prepared, EXAMPLES, replace(PLAN, batch_size=batch_size))
    _assert_same_exam(found, exam)


def _assert_same_exam(found: Exam, expected: Exam) -> None:
    """The same answers, choices and verdict, and the same figures but for rounding."""
    for ours, theirs in zip(found.rows, expected.rows, strict=True):
        assert (ours.base_answer, ours.tuned_answer) == (theirs.base_answer, theirs.tuned_answer)
        assert ours.base_chose_right == theirs.base_chose_right
        assert ours.tuned_chose_right == theirs.tuned_chose_right
        assert ours.base_score.nll == pytest.approx(theirs.base_score.nll, rel=1e-5)
        assert ours.tuned_score.nll == pytest.approx(theirs.tuned_score.nll, rel=1e-5)
    assert found.verdict == expected.verdict
    assert _numbers(to_json(found)) == pytest.approx(
        _numbers(to_json(expected)), rel=1e-4, abs=1e-5
    )


@pytest.mark.parametrize("batch_size", [1, 8])
def test_the_exam_by_the_fast_path_is_the_stock_one(run: Run, exam: Exam, batch_size: int) -> None:
    """With the likelihood of the fast path the exam has the same answers, choices and verdict, and
    the same figures but for rounding.
    """
    fast = run.prepared.fast
    assert fast.decoder is not None
    found = _take(run.prepared, EXAMPLES, replace(PLAN, batch_size=batch_size), fast)
    _assert_same_exam(found, exam)


def test_every_likelihood_of_an_exam_is_the_one_given(run: Run) -> None:
    """Scores and choices are judged by the session's likelihood, for base and tuned."""
    prepared = run.prepared
    n_rows: list[int] = []

    def flat(batch: Sequence[Encoded]) -> torch.Tensor:
        n_rows.append(len(batch))
        return torch.tensor([float(row.n_supervised) for row in batch])

    class Flat(FastPath):
        def row_nll(self, rows: Sequence[Encoded]) -> torch.Tensor:
            return flat(rows)

    exam = _take(prepared, rows(6), PLAN, Flat(prepared.model, 0, frozenset()))
    assert exam.overall.nll_per_token.base == exam.overall.nll_per_token.tuned == 1.0
    assert exam.overall.choice_accuracy.base == exam.overall.choice_accuracy.tuned == 0.0
    assert sum(n_rows) > 2 * (6 + 6 * 4), "both models: six rows, four options each"


def test_a_plan_is_what_the_settings_say(tmp_path: Path) -> None:
    """Every setting of an exam reaches the plan, with the paragraphs of its general text."""
    text = tmp_path / "general.txt"
    text.write_text("One.\n\nTwo.", encoding="utf-8")
    settings = brisk(
        tmp_path,
        seed=5,
        eval_batch_size=3,
        answered_examples=7,
        max_new_tokens=11,
        general_file=str(text),
    )
    found = ExamPlan.from_settings(settings, 99, is_held_out=False)
    assert found == ExamPlan(5, 3, 7, 11, 99, is_held_out=False, general=("One.", "Two."))
    command = ExamSettings(seed=5, eval_batch_size=3, answered_examples=7)
    assert ExamPlan.from_settings(command, 99, is_held_out=True) == ExamPlan(
        5, 3, 7, None, 99, skills=read_skills(None)
    )


def test_an_answer_may_be_a_quarter_longer_than_the_longest_reference() -> None:
    """Without `max_new_tokens` the longest reference counts, from its prompt's end."""
    examined = [Encoded(tuple(range(n)), tuple(range(n)), 10, 0) for n in (15, 50, 30)]
    assert replace(PLAN, max_new_tokens=None).longest_answer(examined) == 40 + 10 + 1
    assert PLAN.longest_answer(examined) == 8


def _numbers(value: object) -> list[float]:
    if isinstance(value, dict):
        return [n for item in value.values() for n in _numbers(item)]
    if isinstance(value, list):
        return [n for item in value for n in _numbers(item)]
    return [float(value)] if isinstance(value, (int, float)) else []


def test_two_exams_are_identical(run: Run, exam: Exam) -> None:
    """The same exam taken twice gives the same bytes of exam.json."""
    again = _take(run.prepared, EXAMPLES, PLAN)
    assert json.dumps(to_json(again)) == json.dumps(to_json(exam))


def test_a_seeded_sample_is_answered(run: Run, exam: Exam) -> None:
    """All examples are scored, exactly `answered_examples` are answered, drawn from the seed."""
    answered = [i for i, row in enumerate(exam.rows) if row.tuned_answer is not None]
    assert len(answered) == exam.overall.n_answered == 12
    assert exam.overall.n_examples == len(EXAMPLES) == 24
    other = _take(run.prepared, EXAMPLES, replace(PLAN, seed=1))
    assert [i for i, row in enumerate(other.rows) if row.tuned_answer is not None] != answered


def test_tags_are_examined_apart(exam: Exam) -> None:
    """Every tag has figures of its own over its own examples, in order of name."""
    assert [(tag, results.n_examples) for tag, results in exam.by_tag] == [("a", 14), ("b", 10)]
    rows_a = [row for row in exam.rows if row.example.tag == "a"]
    expected = sum(r.tuned_score.nll for r in rows_a) / sum(r.tuned_score.n_tokens for r in rows_a)
    assert exam.by_tag[0][1].nll_per_token.tuned == pytest.approx(expected)


def test_bits_per_byte_counts_all_nats_over_answer_bytes(exam: Exam) -> None:
    """Bits per byte are the nats of all answers over ln 2 and their UTF-8 bytes."""
    nats = sum(row.base_score.nll for row in exam.rows)
    n_bytes = sum(len(example.answer.encode()) for example in EXAMPLES)
    assert exam.overall.bits_per_byte.base == pytest.approx(nats / math.log(2) / n_bytes)


def test_answers_have_room_for_the_longest_reference(models: Models, tmp_path: Path) -> None:
    """Without --max_new_tokens a model that knows the longest reference can say all of it."""
    settings = brisk(models.folder(), max_steps=60, save_steps=1000, lora_r=16, lora_alpha=32)
    run = run_training(settings, tmp_path, rows(4))
    exam = _take(run.prepared, rows(4), replace(PLAN, max_new_tokens=None))
    assert exam.overall.exact_match.tuned == 1.0
    assert exam.overall.exact_match.base == 0.0
    assert exam.overall.chrf.tuned == pytest.approx(100.0)
    assert exam.overall.stopped.tuned == 1.0


def test_general_text_fits_a_short_context(models: Models) -> None:
    """A base with a short context can sit the exam: the general text is no longer than it."""
    folder = models.folder("gpt2", n_positions=64)
    prepared = prepare(brisk(folder), Split(rows(4), (), ()))
    plan = replace(PLAN, context=prepared.base.context, answered_examples=2)
    assert math.isfinite(_take(prepared, rows(6), plan).forgetting.base)


def test_copies_of_one_row_tell_nothing(run: Run) -> None:
    """Thirty copies of one question, or of one group, are one piece of evidence."""
    copies = tuple(replace(rows(1)[0], line=line) for line in range(1, 31))
    group = tuple(replace(example, group="one") for example in rows(24))
    for examples in (copies, group):
        found = _take(run.prepared, examples, replace(PLAN, answered_examples=0))
        assert found.verdict == "too few examples to tell"
        assert math.isnan(found.overall.nll_per_token.interval.low)


# Plain texts and conversations

TEXTS = tuple(replace(e, instruction="", answer=f"{e.instruction} {e.answer}") for e in rows(24))


def _talks(n: int) -> tuple[Example, ...]:
    """Conversations whose last exchange is that of `rows`."""
    return tuple(
        replace(
            example,
            earlier=(
                Turn("system", "Answer in one sentence."),
                Turn("user", f"Is it day {index}?"),
                Turn("assistant", f"It is day {index}."),
            ),
        )
        for index, example in enumerate(rows(n))
    )


def test_plain_texts_are_scored_but_not_asked(run: Run) -> None:
    """An exam of plain texts has scores and a verdict; nothing is answered or chosen, and every
    figure of answers is NaN.
    """
    exam = _take(run.prepared, TEXTS, PLAN)
    assert (exam.overall.n_examples, exam.overall.n_answered) == (24, 0)
    assert exam.overall.choice_accuracy.n_questions == 0
    for pair in (exam.overall.exact_match, exam.overall.chrf, exam.overall.stopped):
        assert math.isnan(pair.base)
        assert math.isnan(pair.tuned)
    assert all(row.base_answer is None and row.base_chose_right is None for row in exam.rows)
    assert exam.overall.nll_per_token.difference < 0
    n_tokens = [row.base_score.n_tokens for row in exam.rows]
    rows_ = run.prepared.rows.encoder.encode_batch(TEXTS)
    assert n_tokens == [len(row.ids) - 1 for row in rows_]
    nats = sum(row.base_score.nll for row in exam.rows)
    n_bytes = sum(len(text.answer.encode()) for text in TEXTS)
    assert exam.overall.bits_per_byte.base == pytest.approx(nats / math.log(2) / n_bytes)


def test_plain_texts_beside_questions(run: Run) -> None:
    """In a mixed exam the questions are answered and put as multiple choice as they are alone."""
    questions = rows(6)
    mixed = (TEXTS[0], *questions[:3], TEXTS[1], *questions[3:])
    alone = {row.example: row for row in _take(run.prepared, questions, PLAN).rows}
    found = _take(run.prepared, mixed, PLAN)
    assert found.overall.n_answered == len(questions)
    for row in found.rows:
        if row.example.is_plain_text:
            assert row.tuned_answer is None
        else:
            assert row.tuned_answer == alone[row.example].tuned_answer
            assert row.base_chose_right is not None
    sampled = _take(run.prepared, mixed, replace(PLAN, answered_examples=3))
    answered = [row.example for row in sampled.rows if row.base_answer]
    assert len(answered) == 3
    assert not any(example.is_plain_text for example in answered)


def test_plain_texts_are_no_wrong_answers() -> None:
    """A plain text is neither put as a question nor offered as an answer to one."""
    choices = make_choices((*rows(4), *TEXTS), 0)
    assert [choice.index for choice in choices] == [0, 1, 2, 3]
    offered = {option.answer for choice in choices for option in choice.options}
    assert offered == {example.answer for example in rows(4)}
    assert make_choices((*rows(1), *TEXTS), 0) == ()


def test_only_the_last_answer_of_a_conversation_is_scored(run: Run) -> None:
    """A conversation's score is the likelihood of its last answer after all earlier turns."""
    talks = _talks(4)
    exam = _take(run.prepared, talks, PLAN)
    encoder = run.prepared.rows.encoder
    for row, talk in zip(exam.rows, talks, strict=True):
        assert row.tuned_score.n_bytes == len(talk.answer.encode())
        encoded = encoder.encode(talk)
        assert row.tuned_score.n_tokens == len(encoded.ids) - encoded.prompt_length
    assert exam.overall.n_answered == 4
    without = _take(run.prepared, rows(4), PLAN)
    assert [row.tuned_score.nll for row in exam.rows] != pytest.approx(
        [row.tuned_score.nll for row in without.rows]
    )


def test_multiple_choice_keeps_earlier_turns() -> None:
    """Every option of a conversation's question has its earlier turns and its group."""
    talks = tuple(replace(talk, group="g") for talk in _talks(6))
    for choice in make_choices(talks, 0):
        right = choice.options[0]
        for option in choice.options:
            assert replace(option, answer=right.answer) == right


def test_a_cut_prompt_is_answered_as_it_was_cut(run: Run) -> None:
    """Scoring and answering see the same cut prompt; a cut question is no multiple choice."""
    long = replace(rows(1)[0], instruction="What does the cat do? " * 40)
    prepared = run.prepared
    encoder, tokenizer = prepared.rows.encoder, prepared.base.tokenizer
    encoded = encode_all(encoder, (long, *rows(6)[1:]), 120)
    exam = take_exam(prepared.session, encoded, PLAN)
    row = encoded.rows[0]
    assert len(row.ids) == 120
    decoding = Decoding(8, encoder.stop_ids, encoder.eos_token_id)
    prompts = [row.ids[: row.prompt_length]]
    answers = generate_answers(prepared.model, tokenizer, prompts, decoding, 1)
    assert exam.rows[0].tuned_answer == answers[0]
    assert exam.rows[0].base_chose_right is None
    assert exam.rows[1].base_chose_right is not None


def test_a_prompt_without_ids_is_our_own_mistake(run: Run) -> None:
    """Nothing is generated after an empty prompt."""
    prepared = run.prepared
    with pytest.raises(AssertionError):
        generate_answers(prepared.model, prepared.base.tokenizer, [()], Decoding(8, (0,), 0), 1)


# exam.json

DIFFERENCE = {"base", "tuned", "difference", "ci_low", "ci_high", "p_value", "signs"}
REQUIRED = {
    "verdict": None,
    "n_examples": None,
    "nll_per_token": DIFFERENCE,
    "bits_per_byte": {"base", "tuned"},
    "exact_match": {"base", "tuned", "p_value"},
    "chrf": DIFFERENCE,
    "choice_accuracy": {"base", "tuned", "chance", "p_value"},
    "stopped": {"base", "tuned"},
    "forgetting": DIFFERENCE,
    "by_tag": {"a", "b"},
    "examples": None,
}


def test_exam_json_has_every_key(exam: Exam) -> None:
    """exam.json has the keys that programs rely on, with the figures of the exam."""
    found: Any = to_json(exam)
    assert isinstance(found, dict)
    for key, inner in REQUIRED.items():
        assert key in found
        if inner is not None:
            assert inner <= found[key].keys(), key
    assert found["verdict"] == "improved"
    assert found["n_examples"] == 24
    assert found["choice_accuracy"]["chance"] == 1 / N_OPTIONS == 0.25
    difference = found["nll_per_token"]
    assert difference["difference"] == difference["tuned"] - difference["base"]
    assert difference["ci_low"] <= difference["difference"] <= difference["ci_high"]
    assert len(found["examples"]) == 24
    for row, example in zip(found["examples"], EXAMPLES, strict=True):
        assert {
            "prompt",
            "reference",
            "base",
            "tuned",
            "nll_base",
            "nll_tuned",
            "tag",
        } <= row.keys()
        assert (row["prompt"], row["reference"]) == (example.instruction, example.answer)
        assert row["tag"] == example.tag


@pytest.mark.parametrize("n", [1, 4, 20])
def test_exam_json_is_valid_without_nan(run: Run, n: int) -> None:
    """What could not be measured is null: exam.json is JSON even of one example, unanswered."""
    exam = _take(run.prepared, rows(n), replace(PLAN, answered_examples=0))
    text = json.dumps(to_json(exam), allow_nan=False)
    found = json.loads(text)
    assert found["exact_match"] == {"base": None, "tuned": None, "p_value": 1.0}
    assert found["choice_accuracy"]["base"] is None
    assert (found["nll_per_token"]["ci_low"] is None) == (n < 6)


def test_a_diverged_model_has_no_exam(models: Models) -> None:
    """An adapter of NaN is named; nothing is concluded from its scores."""
    prepared = prepare(brisk(models.folder()), Split(rows(4), (), ()))
    with torch.no_grad():
        for name, parameter in prepared.model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(math.nan)
    with pytest.raises(ModelError, match="The tuned model gives 20 of 20 texts a likelihood"):
        _take(prepared, rows(20), replace(PLAN, answered_examples=0))
