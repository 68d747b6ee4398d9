"""How a token is chosen: the likeliest, or drawn by its row's own number."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from finetuning_exam.model.generation.decoding import Decoding, choose_tokens, random_numbers

GREEDY = Decoding(8, (0,), 0)
LAST = 1 - 2**-24
"""The greatest float32 below one."""


def _sampled(**changes: Any) -> Decoding:
    settings: dict[str, Any] = {"max_new_tokens": 8, "stop_ids": (0,), "pad_id": 0}
    return Decoding(**(settings | {"do_sample": True} | changes))


def _shares(probabilities: list[float], decoding: Decoding, n: int = 20_000) -> list[float]:
    """How often each token is drawn by evenly spread numbers."""
    logits = torch.tensor(probabilities).log().repeat(n, 1)
    numbers = (torch.arange(n) + 0.5) / n
    drawn = choose_tokens(logits, numbers, decoding)
    return (drawn.bincount(minlength=len(probabilities)) / n).tolist()


def test_greedy_takes_the_likeliest_whatever_the_numbers() -> None:
    """Without `do_sample` each row's token is its first largest logit."""
    logits = torch.tensor([[0.0, 3.0, 3.0], [5.0, -1.0, 2.0]])
    assert choose_tokens(logits, torch.tensor([0.99, 0.01]), GREEDY).tolist() == [1, 0]


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    """Numbers spread evenly over [0, 1) draw every token in its share."""
    wanted = [0.5, 0.05, 0.3, 0.15]
    assert _shares(wanted, _sampled()) == pytest.approx(wanted, abs=1e-4)


def test_temperature_flattens_and_sharpens() -> None:
    """A temperature t draws in shares of p^(1/t)."""
    for temperature in (0.5, 2.0):
        powers = [p ** (1 / temperature) for p in (0.6, 0.3, 0.1)]
        wanted = [p / sum(powers) for p in powers]
        found = _shares([0.6, 0.3, 0.1], _sampled(temperature=temperature))
        assert found == pytest.approx(wanted, abs=1e-4)


def test_top_p_draws_from_the_likeliest_only() -> None:
    """The fewest likeliest tokens that hold `top_p` are drawn, in their own proportion."""
    found = _shares([0.1, 0.5, 0.05, 0.35], _sampled(top_p=0.8))
    assert found == pytest.approx([0, 0.5 / 0.85, 0, 0.35 / 0.85], abs=1e-4)


def test_sampling_is_not_cut_to_fifty_tokens() -> None:
    """Every one of 512 equally likely tokens is drawn: nobody asked for Transformers' top-k."""
    assert min(_shares([1 / 512] * 512, _sampled(temperature=0.9, top_p=0.999))[1:]) > 0


@given(
    probabilities=st.lists(st.sampled_from([0.0, 1e-9, 0.1, 1.0]), min_size=1, max_size=40).filter(
        any
    ),
    number=st.sampled_from([0.0, 1e-7, 0.5, LAST]) | st.floats(0, LAST, width=32),
)
def test_an_impossible_token_is_never_drawn(probabilities: list[float], number: float) -> None:
    """Not even by the smallest or the greatest number."""
    logits = torch.tensor([probabilities]).log()
    (token,) = choose_tokens(logits, torch.tensor([number]), _sampled()).tolist()
    assert probabilities[token] > 0


def test_logits_of_nan_still_give_a_token() -> None:
    """A model that diverged answers with tokens of its vocabulary."""
    for decoding in (GREEDY, _sampled(top_p=0.5)):
        (token,) = choose_tokens(torch.full((1, 5), math.nan), torch.tensor([0.7]), decoding)
        assert 0 <= token < 5


def test_numbers_belong_to_seed_and_question() -> None:
    """A question's numbers are the same in every batch; other questions and seeds have others."""
    first = random_numbers(1, [4, 7], 6)
    assert first.shape == (2, 6)
    assert first.dtype == torch.float32
    assert torch.equal(random_numbers(1, [7, 0, 4], 6)[[2, 0]], first)
    assert torch.equal(random_numbers(1, [4], 3)[0], first[0, :3])
    others = torch.cat([first, random_numbers(2, [4, 7], 6)]).flatten()
    assert len(others.unique()) == 24
    assert ((others >= 0) & (others < 1)).all()


def test_the_room_of_an_answer_is_what_the_context_leaves() -> None:
    """`max_new_tokens`, or less where the prompt leaves less, and never nothing."""
    decoding = Decoding(12, (0,), 0, context=64)
    assert [decoding.room(length) for length in (1, 52, 53, 63, 64, 90)] == [12, 12, 11, 1, 1, 1]
    assert Decoding(12, (0,), 0).room(10_000) == 12
