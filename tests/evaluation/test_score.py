"""Multiple choice: which wrong answers are offered, and which option a model finds likelier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import CONTEXT, Models, rows

from finetuning_exam.data.encoding.encoder import Encoded, Encoder, make_encoder
from finetuning_exam.data.encoding.labels import IGNORED
from finetuning_exam.data.records import Example
from finetuning_exam.evaluation.choices import (
    N_DISTRACTORS,
    N_NEAREST,
    PREMISE,
    Ballot,
    Choice,
    make_choices,
)
from finetuning_exam.model.adapter import add_adapter, lora_config
from finetuning_exam.model.device import choose_compute
from finetuning_exam.model.fast.path import ALL_PIECES, choose_fast_path
from finetuning_exam.model.likelihood import RowNll, stock_nll
from finetuning_exam.model.load import load_base
from finetuning_exam.model.score import score_options, score_rows

TAGGED = (*rows(8, "a"), *rows(6, "b"), *rows(3, "c"))


def _chosen(
    model: torch.nn.Module,
    encoder: Encoder,
    choices: Sequence[Choice],
    row_nll: RowNll,
    batch_size: int,
) -> tuple[int, ...]:
    """Return the options that a model prefers by this likelihood."""
    ballot = Ballot.of(encoder, choices, CONTEXT)
    return ballot.preferred(score_rows(model, ballot.rows, row_nll, batch_size))


def test_the_right_answer_comes_first() -> None:
    """A question's first option is the example itself; the others ask the same of it."""
    for choice in make_choices(TAGGED, 0):
        right, *wrong = choice.options
        assert right == TAGGED[choice.index]
        assert len(wrong) == (2 if right.tag == "c" else N_DISTRACTORS)
        assert {option.instruction for option in choice.options} == {right.instruction}


def test_options_are_distinct_answers_of_the_same_tag() -> None:
    """The wrong answers are answers of other examples of the tag, all different."""
    for choice in make_choices(TAGGED, 0):
        tag = TAGGED[choice.index].tag
        answers = [option.answer for option in choice.options]
        assert len(set(answers)) == len(answers)
        assert set(answers) <= {example.answer for example in TAGGED if example.tag == tag}


@pytest.mark.parametrize("n_answers", [1, 2, 3, 4, 5])
def test_there_are_as_many_wrong_answers_as_other_answers(n_answers: int) -> None:
    """With two or three different answers a question has one or two wrong ones; with one it has
    none, and is not asked.
    """
    choices = make_choices(rows(n_answers), 0)
    assert len(choices) == (n_answers if n_answers > 1 else 0)
    assert {len(it.options) for it in choices} <= {min(n_answers, N_DISTRACTORS + 1)}
    assert make_choices((), 0) == ()


def test_equal_answers_are_no_wrong_answers() -> None:
    """An answer that says the same, but for case, space and final mark, is never a wrong one."""
    same = [
        replace(e, answer=a) for e, a in zip(rows(4), ("Yes.", "yes", " YES ", "No."), strict=True)
    ]
    assert {len(choice.options) for choice in make_choices(same, 0)} == {2}
    assert make_choices(same[:3], 0) == ()
    more = [*same, *rows(7)[4:]]
    for choice in make_choices(more, 0):
        folded = [option.answer.strip(" .").casefold() for option in choice.options]
        assert len(set(folded)) == N_DISTRACTORS + 1


def test_questions_are_drawn_from_the_seed() -> None:
    """The same seed gives the same questions, another seed others."""
    assert make_choices(TAGGED, 1) == make_choices(TAGGED, 1)
    assert make_choices(TAGGED, 1) != make_choices(TAGGED, 2)


@settings(max_examples=60, deadline=None)
@given(
    answers=st.lists(st.sampled_from(["A.", "a", "B", "C c", "C  C.", "D", "E"]), max_size=12),
    seed=st.integers(0, 99),
)
def test_an_example_is_asked_if_another_answer_exists(answers: list[str], seed: int) -> None:
    """Exactly the examples with a different other answer become questions, in order."""
    examples = [
        Example(instruction=f"q{i}", answer=answer, line=i + 1, path="p")
        for i, answer in enumerate(answers)
    ]
    kinds = {" ".join(answer.casefold().split()).rstrip(".") for answer in answers}
    expected = list(range(len(answers))) if len(kinds) > 1 else []
    assert [choice.index for choice in make_choices(examples, seed)] == expected


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_the_answer_that_the_question_helps_most_is_chosen(models: Models, batch_size: int) -> None:
    """A question counts as right exactly if it lowers the NLL per token of the right answer more
    than that of any wrong one, against the same answers to the premise.
    """
    base = load_base(str(models.folder()), choose_compute("cpu", "float32"))
    encoder = make_encoder(base.tokenizer, "plain")
    choices = make_choices(rows(12), 0)
    row_nll = stock_nll(base.model, 0)
    found = _chosen(base.model, encoder, choices, row_nll, batch_size)
    expected = []
    for choice in choices:
        gains = []
        for option in choice.options:
            pair = [option, replace(option, instruction=PREMISE, input="")]
            asked, unasked = score_rows(base.model, [encoder.encode(it) for it in pair], row_nll, 1)
            gains.append(asked.nll_per_token - unasked.nll_per_token)
        expected.append(gains.index(min(gains)))
    assert list(found) == expected
    assert 0 in expected
    assert set(expected) != {0}, "some right and some wrong, or this test tells nothing"


def test_an_answer_that_is_common_anyway_does_not_win() -> None:
    """A model that likes one answer whatever is asked, and knows the right ones a little, chooses
    the right ones.
    """
    examples = [
        Example(instruction=f"q{i}", answer=answer, line=i + 1, path="p")
        for i, answer in enumerate(["yes", "red", "two", "cat"])
    ]
    ids = {"yes": 1, "red": 2, "two": 3, "cat": 4}

    class Words:
        def encode_batch(self, asked: Sequence[Example]) -> list[Encoded]:
            return [
                Encoded(
                    (9 if it.instruction == PREMISE else int(it.instruction[1:]), ids[it.answer]),
                    (IGNORED, ids[it.answer]),
                    1,
                    1,
                )
                for it in asked
            ]

    def row_nll(batch: Sequence[Encoded]) -> torch.Tensor:
        common = {1: 0.5}
        return torch.tensor(
            [
                common.get(row.ids[1], 5.0) - (0.2 if row.ids[0] + 1 == row.ids[1] else 0.0)
                for row in batch
            ]
        )

    found = _chosen(
        torch.nn.Identity(), cast(Encoder, Words()), make_choices(examples, 0), row_nll, 4
    )
    assert found == (0, 0, 0, 0)


def test_options_longer_than_the_context_are_not_asked(models: Models) -> None:
    """A question with an option for which the model has no room, after the question or after the
    premise, is left out; its answers are not scored unasked either.
    """
    base = load_base(str(models.folder("gpt2", n_positions=64)), choose_compute("cpu", "float32"))
    encoder = make_encoder(base.tokenizer, "plain")
    short = tuple(replace(e, answer=answer) for e, answer in zip(rows(5), "abcde", strict=True))
    long = replace(rows(6)[5], instruction="x", answer="y " * 24)
    examples = (*short, long)
    context = max(len(encoder.encode(example).ids) for example in examples)
    assert len(encoder.encode(replace(short[0], answer=long.answer)).ids) > context
    choices = make_choices(examples, 0)
    ballot = Ballot.of(encoder, choices, context)
    expected = [
        choice
        for choice in choices
        if all(
            len(encoder.encode(it).ids) <= context
            for option in choice.options
            for it in (option, replace(option, instruction=PREMISE, input=""))
        )
    ]
    assert list(ballot.choices) == expected
    assert 0 < len(expected) < len(choices)
    assert max(len(row.ids) for row in ballot.rows) <= context
    assert set(ballot.unasked) == {o.answer for choice in expected for o in choice.options}


def test_wrong_answers_are_of_like_length() -> None:
    """Wrong answers come from the eight whose length is nearest to the right one's."""
    examples = [
        Example(instruction=f"q{i}", answer="x" * (i + 1), line=i + 1, path="p") for i in range(40)
    ]
    for seed in range(10):
        for choice in make_choices(examples, seed):
            right, *wrong = (len(option.answer) for option in choice.options)
            assert max(abs(right - it) for it in wrong) <= N_NEAREST


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "bloom"])
def test_choices_and_scores_are_the_same_by_the_fast_path(
    models: Models, architecture: str
) -> None:
    """By the fast path rows of any batch size have the stock scores, and every choice is the same;
    dropout is off, and the model's mode stays.
    """
    base = load_base(str(models.folder(architecture)), choose_compute("cpu", "float32"))
    encoder = make_encoder(base.tokenizer, "plain")
    model = add_adapter(base, lora_config(4, 8, 0.5, ("all-linear",)), seed=0)
    fast = choose_fast_path(model, 0, frozenset(ALL_PIECES))
    stock = stock_nll(model, 0)
    encoded = [encoder.encode(example) for example in rows(12)]
    choices = make_choices(rows(12), 0)
    expected = score_rows(model, encoded, stock, 1)
    chosen = _chosen(model, encoder, choices, stock, 4)
    ballot = Ballot.of(encoder, choices, CONTEXT)
    model.train()
    for batch_size in (1, 5, 12):
        found = score_rows(model, encoded, fast.row_nll, batch_size)
        assert [score.nll for score in found] == pytest.approx(
            [score.nll for score in expected], rel=1e-5
        )
        assert [(s.n_tokens, s.n_bytes) for s in found] == [
            (s.n_tokens, s.n_bytes) for s in expected
        ]
        assert ballot.preferred(score_options(fast, ballot.rows, batch_size)) == chosen
    assert model.training


def test_rows_of_like_length_share_a_forward_pass(models: Models) -> None:
    """Rows come to the likelihood sorted by length, at most `batch_size` at once, each once."""
    base = load_base(str(models.folder()), choose_compute("cpu", "float32"))
    encoder = make_encoder(base.tokenizer, "plain")
    encoded = [encoder.encode(example) for example in rows(7)]
    seen: list[list[Encoded]] = []

    def row_nll(batch: Sequence[Encoded]) -> torch.Tensor:
        seen.append(list(batch))
        return torch.tensor([float(sum(row.ids)) for row in batch])

    scores = score_rows(base.model, encoded, row_nll, 3)
    assert [len(batch) for batch in seen] == [3, 3, 1]
    lengths = [len(row.ids) for batch in seen for row in batch]
    assert lengths == sorted(len(row.ids) for row in encoded)
    assert [score.nll for score in scores] == [float(sum(row.ids)) for row in encoded]


def test_wrong_answers_come_from_all_examples() -> None:
    """Where only some examples are asked, the wrong answers are still drawn from all of them."""
    asked = [2, 0, 9]
    found = [choice for seed in range(20) for choice in make_choices(TAGGED, seed, asked)]
    assert [choice.index for choice in found[:3]] == asked
    offered = {option.answer for choice in found for option in choice.options}
    assert offered == {example.answer for example in TAGGED[:14]}
    assert make_choices(TAGGED, 0, []) == ()
    assert make_choices(TAGGED, 0, range(len(TAGGED))) == make_choices(TAGGED, 0)


# Labels

LABELS = {"": ("Yes", "No", "Unsure")}


def _judged(n: int) -> tuple[Example, ...]:
    return tuple(
        Example(f"Is {i} even?", ("Yes", "no.", "Unsure")[i % 3], i + 1, "p") for i in range(n)
    )


def test_every_label_is_an_option() -> None:
    """In a classification the options are all labels as they are usually written, right first."""
    choices = make_choices(_judged(3), 0, labels=LABELS)
    assert all(choice.is_label for choice in choices)
    assert [[option.answer for option in choice.options] for choice in choices] == [
        ["Yes", "No", "Unsure"],
        ["No", "Yes", "Unsure"],
        ["Unsure", "Yes", "No"],
    ]
    assert {option.instruction for option in choices[1].options} == {"Is 1 even?"}


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_likeliest_label_is_picked(models: Models, batch_size: int) -> None:
    """A label is picked by its likelihood after the question, not by its gain over the premise."""
    base = load_base(str(models.folder()), choose_compute("cpu", "float32"))
    encoder = make_encoder(base.tokenizer, "plain")
    choices = make_choices(_judged(12), 0, labels=LABELS)
    row_nll = stock_nll(base.model, 0)
    found = _chosen(base.model, encoder, choices, row_nll, batch_size)
    expected = []
    for choice in choices:
        encoded = [encoder.encode(option) for option in choice.options]
        nll = [score.nll for score in score_rows(base.model, encoded, row_nll, 1)]
        expected.append(nll.index(min(nll)))
    assert list(found) == expected
    assert len(set(expected)) > 1


def test_a_tie_of_labels_is_wrong(models: Models) -> None:
    """A model that finds all labels equally likely picks none of them right."""
    base = load_base(str(models.folder()), choose_compute("cpu", "float32"))
    encoder = make_encoder(base.tokenizer, "plain")
    choices = make_choices(_judged(6), 0, labels=LABELS)
    found = _chosen(base.model, encoder, choices, lambda batch: torch.ones(len(batch)), 4)
    assert 0 not in found
