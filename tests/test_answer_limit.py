"""How many examples an exam answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetuning_exam.answer_limit import (
    FEWEST,
    MOST,
    SHARE_OF_TRAINING,
    STEP,
    AnswerLimit,
    affordable_answers,
)

SECONDS = st.floats(0, 1e5)


@pytest.mark.parametrize(
    ("train", "each", "limit"),
    [
        (1000.0, 0.5, AnswerLimit(200, "enough")),  # 300 would fit
        (1000.0, 0.0, AnswerLimit(200, "enough")),
        (0.0, 0.0, AnswerLimit(200, "enough")),
        (1000.0, 1.5, AnswerLimit(100, "time")),
        (1000.0, 1.4, AnswerLimit(100, "time")),  # 107
        (1000.0, 4.5, AnswerLimit(30, "time")),  # 33
        (1000.0, 5.5, AnswerLimit(30, "fewest")),  # 27
        (0.0, 0.1, AnswerLimit(30, "fewest")),
    ],
)
def test_answers_take_a_share_of_the_training(
    train: float, each: float, limit: AnswerLimit
) -> None:
    """As many as fit, in tens, from 30 to 200."""
    assert affordable_answers(train, each) == limit


@given(train=SECONDS, each=st.floats(1e-6, 1e4))
def test_the_limit_keeps_its_promise(train: float, each: float) -> None:
    """Only the fewest answers exceed the share of the training, and ten more would."""
    limit = affordable_answers(train, each)
    assert FEWEST <= limit.n <= MOST
    assert limit.n % STEP == 0
    budget = SHARE_OF_TRAINING * train
    if limit.reason != "fewest":
        assert limit.n * each <= budget * (1 + 1e-9)
    if limit.reason == "time":
        assert (limit.n + STEP) * each > budget * (1 - 1e-9)
