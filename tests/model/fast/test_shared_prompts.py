"""Rows that share prompts: the likelihoods of the rows alone, from fewer tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import VOCABULARY, adapted

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.encoding.labels import IGNORED
from finetuning_exam.model.fast.path import ALL_PIECES, FastPath, choose_fast_path
from finetuning_exam.model.fast.shared_prompts import (
    MAX_OPTIONS,
    by_question,
    n_shared_tokens,
    share_prompts,
)
from finetuning_exam.model.mode import Side, on_side
from finetuning_exam.model.score import (
    option_tokens,
    score_options,
    score_options_of_both,
    score_rows,
)

SIDES: tuple[Side, ...] = ("base", "tuned")
CPU = torch.device("cpu")
VARIANTS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"use_sliding_window": True, "sliding_window": 12, "max_window_layers": 1},
    "qwen3": {},
    "mistral": {"sliding_window": 9},
    "smollm3": {"no_rope_layer_interval": 2, "num_hidden_layers": 4},
    "granite": {"logits_scaling": 2.5, "attention_multiplier": 0.2},
    "gemma3": {
        "sliding_window": 7,
        "num_hidden_layers": 6,
        "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
    },
}


def _row(prompt: Sequence[int], answer: Sequence[int]) -> Encoded:
    labels = (*[IGNORED] * len(prompt), *answer)
    return Encoded((*prompt, *answer), labels, len(prompt), 1)


def _rows() -> list[Encoded]:
    """Return rows of four questions, of which three begin alike, in no order of any kind: with
    many options, with one, with options that begin alike, and with one of a single token.
    """
    begin = (5, 6, 7)
    many = [_row((*begin, 8, 9), (10 + n, 3, 0)) for n in range(2 * MAX_OPTIONS + 3)]
    like = [_row((*begin, *range(20, 40)), (41, 42, 43 + n, 0)) for n in range(3)]
    alone = _row(begin, (44, 0))
    other = [_row((50,), (*range(60, 60 + n), 0)) for n in (0, 1, 15)]
    mixed = [*many, *like, alone, *other]
    return [*mixed[::2], *mixed[1::2]]


@pytest.mark.parametrize("architecture", VARIANTS)
def test_a_row_has_the_likelihood_that_it_has_alone(architecture: str) -> None:
    """Whatever the architecture and its windows, for tuned model and base."""
    model = adapted(architecture, **VARIANTS[architecture]).eval()
    fast = choose_fast_path(model, 0, frozenset(ALL_PIECES))
    assert fast.decoder is not None
    rows = _rows()
    for side in ("tuned", "base"):
        with on_side(model, side), torch.inference_mode():
            alone = torch.cat([fast.row_nll([row]) for row in rows])
            torch.testing.assert_close(fast.option_nll(rows), alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", [*VARIANTS, "gpt2"])
def test_both_models_score_options_as_alone(architecture: str) -> None:
    """To a millionth, base and tuned give every option of a batch that they share the likelihood
    that it has as the only row of its own forward pass; where there is no fast path, too.
    """
    model = adapted(architecture, **VARIANTS.get(architecture, {})).eval()
    fast = choose_fast_path(model, 0, frozenset(ALL_PIECES))
    rows = _rows()
    found = dict(zip(("base", "tuned"), score_options_of_both(fast, rows, 3), strict=True))
    assert found["base"] != found["tuned"]
    for side in SIDES:
        with on_side(model, side), torch.inference_mode():
            alone = [float(fast.row_nll([row])[0]) for row in rows]
        assert [it.nll for it in found[side]] == pytest.approx(alone, rel=1e-6)


def test_the_prior_of_an_answer_is_computed_once() -> None:
    """Questions with the same options need no more rows without a question than there are answers,
    and each prompt is there once, however many options it has.
    """
    n_questions, n_answers = 5, 4
    premise = (4, 4)
    asked = [_row((9, 20 + q), (30 + a, 0)) for q in range(n_questions) for a in range(n_answers)]
    unasked = [_row(premise, (30 + a, 0)) for a in range(n_answers)]
    fast = choose_fast_path(adapted(), 0, frozenset(ALL_PIECES))
    prompts = 1 + n_questions + 2  # one token that all questions share, and the premise
    n_tokens = option_tokens(fast, [*asked, *unasked], 50)
    assert n_tokens <= prompts + n_questions + (n_questions + 1) * n_answers


@pytest.mark.parametrize("batch_size", [1, 2, 50])
def test_scores_do_not_depend_on_the_batch(batch_size: int) -> None:
    """At every batch size the scores are those of `score_rows`, in the order given."""
    model = adapted()
    fast = choose_fast_path(model, 0, frozenset(ALL_PIECES))
    rows = _rows()
    expected = score_rows(model, rows, fast.row_nll, 4)
    found = score_options(fast, rows, batch_size)
    assert [it.nll for it in found] == pytest.approx([it.nll for it in expected], rel=1e-5)
    assert [it.n_tokens for it in found] == [it.n_tokens for it in expected]
    assert score_options(fast, [], batch_size) == ()
    assert option_tokens(fast, rows, batch_size) < sum(len(row.ids) for row in rows) / 2


def test_other_architectures_score_row_by_row() -> None:
    """Without a decoder the scores are those of the model's own forward pass."""
    model = adapted("gpt2")
    fast = FastPath(model, 0, frozenset())
    assert score_options(fast, _rows(), 4) == score_rows(model, _rows(), fast.row_nll, 4)
    assert option_tokens(fast, _rows(), 4) == sum(len(row.ids) for row in _rows())


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 2), min_size=1, max_size=4),
            st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=3),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_every_row_is_one_path_through_the_tokens(pairs: list[tuple[list[int], list[int]]]) -> None:
    """A question has at most `MAX_OPTIONS` rows of one prompt, each row is in one question, no
    prompt is there twice, and each supervised token is a target once.
    """
    rows = [_row(prompt, answer) for prompt, answer in pairs]
    questions = by_question(rows)
    assert sorted(index for it in questions for index in it) == list(range(len(rows)))
    for indices in questions:
        assert len(indices) <= MAX_OPTIONS
        assert len({rows[index].ids[: rows[index].prompt_length] for index in indices}) == 1
    batch = share_prompts(rows, CPU)
    assert len(batch.ids) == len(batch.positions) == n_shared_tokens(rows)
    answers = sum(len(row.ids) - row.prompt_length for row in rows)
    assert len(batch.ids) <= sum(row.prompt_length for row in rows) + answers - len(rows)
    for index, row in enumerate(rows):
        is_own = batch.row_of_target == index
        assert batch.targets[is_own].tolist() == list(row.ids[row.prompt_length :])
        before = row.ids[row.prompt_length - 1 : -1]
        assert batch.ids[batch.predicting[is_own]].tolist() == list(before)
        places = list(range(row.prompt_length - 1, len(row.ids) - 1))
        assert batch.positions[batch.predicting[is_own]].tolist() == places
