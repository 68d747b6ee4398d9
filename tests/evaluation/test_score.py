"""Multiple choice: which wrong answers are offered, and which option a model finds likelier."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import Models, rows

from finetuning_exam.data.encoding.encode import make_encoder
from finetuning_exam.data.records import Example
from finetuning_exam.evaluation.score import N_DISTRACTORS, choose, make_choices, score_rows
from finetuning_exam.model.device import choose_compute
from finetuning_exam.model.load import load_base

TAGGED = (*rows(8, "a"), *rows(6, "b"), *rows(3, "c"))


def test_the_right_answer_comes_first() -> None:
    """A question's first option is the example itself; the others ask the same of it."""
    for choice in make_choices(TAGGED, 0):
        right, *wrong = choice.options
        assert right == TAGGED[choice.index]
        assert len(wrong) == N_DISTRACTORS
        assert {option.instruction for option in choice.options} == {right.instruction}


def test_options_are_distinct_answers_of_the_same_tag() -> None:
    """The wrong answers are answers of other examples of the tag, all four different."""
    for choice in make_choices(TAGGED, 0):
        tag = TAGGED[choice.index].tag
        answers = [option.answer for option in choice.options]
        assert len(set(answers)) == N_DISTRACTORS + 1
        assert set(answers) <= {example.answer for example in TAGGED if example.tag == tag}


def test_a_tag_with_too_few_answers_has_no_questions() -> None:
    """Three examples of a tag leave only two wrong answers: no question."""
    assert {choice.index for choice in make_choices(TAGGED, 0)} == set(range(14))
    assert make_choices(rows(3), 0) == ()
    assert make_choices((), 0) == ()


def test_equal_answers_are_no_wrong_answers() -> None:
    """An answer that says the same, but for case, space and final mark, is never a wrong one."""
    same = [
        replace(e, answer=a) for e, a in zip(rows(4), ("Yes.", "yes", " YES ", "No."), strict=True)
    ]
    assert make_choices(same, 0) == ()
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
def test_an_example_is_asked_if_three_other_answers_exist(answers: list[str], seed: int) -> None:
    """Exactly the examples with three different other answers become questions, in order."""
    examples = [
        Example(instruction=f"q{i}", answer=answer, line=i + 1, path="p")
        for i, answer in enumerate(answers)
    ]
    kinds = {" ".join(answer.casefold().split()).rstrip(".") for answer in answers}
    expected = list(range(len(answers))) if len(kinds) >= N_DISTRACTORS + 1 else []
    assert [choice.index for choice in make_choices(examples, seed)] == expected


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_the_likeliest_answer_per_token_is_chosen(models: Models, batch_size: int) -> None:
    """A question counts as right exactly if the right answer has the lowest NLL per token."""
    base = load_base(str(models.folder()), choose_compute("cpu", "float32"))
    encoder = make_encoder(base.tokenizer, "plain")
    choices = make_choices(rows(12), 0)
    found = choose(base.model, encoder, choices, 0, batch_size)
    expected = []
    for choice in choices:
        encoded = [encoder.encode(option) for option in choice.options]
        per_token = [s.nll / s.n_tokens for s in score_rows(base.model, encoded, 0, 1)]
        expected.append(per_token[0] < min(per_token[1:]))
    assert list(found) == expected
    assert len(set(expected)) == 2, "some right and some wrong, or this test tells nothing"


def test_wrong_answers_come_from_all_examples() -> None:
    """Where only some examples are asked, the wrong answers are still drawn from all of them."""
    asked = [2, 0, 9]
    found = [choice for seed in range(20) for choice in make_choices(TAGGED, seed, asked)]
    assert [choice.index for choice in found[:3]] == asked
    offered = {option.answer for choice in found for option in choice.options}
    assert offered == {example.answer for example in TAGGED[:14]}
    assert make_choices(TAGGED, 0, []) == ()
    assert make_choices(TAGGED, 0, range(len(TAGGED))) == make_choices(TAGGED, 0)
