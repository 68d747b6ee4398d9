"""A batch of answers: rows leave it as they end, and no row sees the others."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from passes import count_passes
from peft import PromptTuningConfig, get_peft_model
from tiny import ARCHITECTURES, adapted
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    MambaConfig,
    PreTrainedConfig,
    RecurrentGemmaConfig,
    RwkvConfig,
)
from transformers.cache_utils import Cache, DynamicLayer

from finetuning_exam.model.generation import batch
from finetuning_exam.model.generation.batch import Row, _closed_up, can_batch, write_answers
from finetuning_exam.model.generation.decoding import Decoding
from finetuning_exam.model.generation.side_by_side import adapter_on_first_rows

STOP_IDS = tuple(range(30))
"""So many that answers end early, each at another token."""
DECODING = Decoding(24, STOP_IDS, 0)


def _prompts(lengths: Sequence[int]) -> list[tuple[int, ...]]:
    draw = random.Random(0)
    return [tuple(draw.randrange(30, 500) for _ in range(length)) for length in lengths]


ROWS = [Row(prompt, number) for number, prompt in enumerate(_prompts([9, 1, 14, 4, 4, 22, 2, 7]))]


def _n_at_each_token(written: Sequence[Sequence[int]]) -> list[int]:
    """How many answers have a first token, a second, and so on."""
    longest = max(map(len, written))
    return [sum(len(ids) > place for ids in written) for place in range(longest)]


@pytest.mark.parametrize(
    ("architecture", "options"), [("llama", {}), ("mistral", {"sliding_window": 8}), ("bloom", {})]
)
def test_rows_leave_as_they_end(architecture: str, options: dict[str, Any]) -> None:
    """Every pass has exactly the rows that still write, one position each after the first."""
    model = adapted(architecture, **options)
    shapes = count_passes(model.eval())
    written = write_answers(model, ROWS, DECODING)
    assert [n_rows for n_rows, _ in shapes] == _n_at_each_token(written)
    assert [length for _, length in shapes] == [22] + [1] * (len(shapes) - 1)
    assert len({len(ids) for ids in written}) > 3


def test_tuned_and_base_rows_leave_as_they_end() -> None:
    """Side by side too, and the tuned rows stay the first ones to the end."""
    model = adapted().eval()
    alone = write_answers(model, ROWS, DECODING)
    with model.disable_adapter():
        base_alone = write_answers(model, ROWS, DECODING)
    shapes = count_passes(model)
    both = [Row(row.prompt, row.question, is_tuned=True) for row in ROWS] + ROWS
    with adapter_on_first_rows(model) as tuned:
        written = write_answers(model, both, DECODING, tuned)
    assert written == alone + base_alone
    assert [n_rows for n_rows, _ in shapes] == _n_at_each_token(written)
    assert len({len(ids) for ids in alone}) > 3
    assert len({len(ids) for ids in base_alone}) > 3
    assert alone != base_alone


@pytest.mark.parametrize("do_sample", [False, True])
def test_an_answer_does_not_depend_on_its_batch(do_sample: bool) -> None:
    """Any rows together, in any order, write what each writes alone, drawn or greedy."""
    model = adapted().eval()
    decoding = Decoding(24, STOP_IDS, 0, do_sample=do_sample, temperature=0.7, top_p=0.95, seed=3)
    alone = [write_answers(model, [row], decoding)[0] for row in ROWS]
    for seed in range(4):
        draw = random.Random(seed)
        some = draw.sample(ROWS, draw.randint(2, len(ROWS)))
        assert write_answers(model, some, decoding) == [alone[row.question] for row in some]
    assert len(set(map(tuple, alone))) == len(ROWS)


def test_answers_end_at_a_stop_id_or_at_the_limit() -> None:
    """The last id, and no other, is a stop id, unless the answer has all tokens it may have."""
    for ids in write_answers(adapted().eval(), ROWS, DECODING):
        assert not set(ids[:-1]) & set(STOP_IDS)
        assert ids[-1] in STOP_IDS or len(ids) == 24


def test_the_context_is_never_exceeded() -> None:
    """A prompt that nearly fills the context is answered in what is left."""
    model = adapted(max_position_embeddings=32).eval()
    (row,) = [Row(prompt, 0) for prompt in _prompts([27])]
    (ids,) = write_answers(model, [row], Decoding(24, (511,), 0, context=32))
    assert len(ids) == 5


@given(
    n_tuned=st.integers(0, 8),
    n_base=st.integers(0, 8),
    dropped=st.sets(st.integers(0, 15), min_size=1),
)
def test_holes_are_closed_with_few_moves(n_tuned: int, n_base: int, dropped: set[int]) -> None:
    """Every kept row has one place, tuned ones come first, and a row moves only into a hole or out
    of the way of the other side: at most two moves for each row that left.
    """
    is_tuned = [True] * n_tuned + [False] * n_base
    kept = [at for at in range(n_tuned + n_base) if at not in dropped]
    order = _closed_up(is_tuned, kept)
    assert sorted(order) == kept
    sides = [is_tuned[at] for at in order]
    assert sides == sorted(sides, reverse=True)
    n_moved = sum(at != place for place, at in enumerate(order))
    assert n_moved <= 2 * (n_tuned + n_base - len(kept))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_all_tiny_architectures_can_batch(architecture: str) -> None:
    """Each finds its positions behind the padding and drops rows of its cache."""
    assert can_batch(adapted(architecture))


@pytest.mark.parametrize(
    "config",
    [
        BartConfig(vocab_size=64, d_model=16, decoder_layers=1, decoder_ffn_dim=16),
        MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1),
        RwkvConfig(vocab_size=64, hidden_size=16, num_hidden_layers=2),
        RecurrentGemmaConfig(
            vocab_size=64, hidden_size=16, num_hidden_layers=1, lru_width=16, intermediate_size=16
        ),
    ],
    ids=lambda config: config.model_type,
)
def test_models_that_see_the_padding_cannot_batch(config: PreTrainedConfig) -> None:
    """Positions counted from the start of the padding, or a recurrent state that padding enters."""
    assert not can_batch(AutoModelForCausalLM.from_config(config))


def test_a_cache_with_layers_of_the_models_own_cannot_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a model's own kind of cache layer makes of the padding is not known."""

    class OwnLayer(DynamicLayer):
        pass

    monkeypatch.setattr(batch, "DynamicCache", lambda config: Cache(layers=[OwnLayer()]))
    assert not can_batch(adapted())
    monkeypatch.setattr(batch, "DynamicCache", lambda config: Cache(layers=[DynamicLayer()]))
    assert can_batch(adapted())


def test_an_adapter_outside_the_modules_cannot_batch() -> None:
    """Prompt tuning puts positions before the row, which only PEFT's own `generate` knows."""
    base = AutoModelForCausalLM.from_config(ARCHITECTURES["llama"].config())
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    assert not can_batch(get_peft_model(base, config))
