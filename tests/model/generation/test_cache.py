"""The roomy cache holds what Transformers' cache holds, whatever is appended and dropped."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import Gemma3TextConfig, LlamaConfig
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from finetuning_exam.model.generation import cache
from finetuning_exam.model.generation.cache import RoomyLayer, roomy_cache

Step = int | tuple[int, ...]
"""How many positions are appended, or which rows are kept (taken modulo those there are)."""


def _states(n_rows: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of different widths, as some architectures have them."""
    return torch.randn(n_rows, 2, length, 3), torch.randn(n_rows, 2, length, 5)


@given(
    n_rows=st.integers(1, 6),
    steps=st.lists(
        st.integers(1, 5) | st.lists(st.integers(0, 5), min_size=1, max_size=6).map(tuple),
        max_size=12,
    ),
)
def test_it_holds_what_the_plain_cache_holds(n_rows: int, steps: Sequence[Step]) -> None:
    """After any appending, dropping and reordering of rows, keys and values are the plain ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "ROOM", 3)  # so that buffers are outgrown
        roomy, plain = RoomyLayer(), DynamicLayer()
        for step in (4, *steps):
            if isinstance(step, int):
                keys, values = _states(n_rows, step)
                held = roomy.update(keys, values)
                for found, expected in zip(held, plain.update(keys, values), strict=True):
                    assert torch.equal(found, expected)
            else:
                kept = torch.tensor(list(dict.fromkeys(place % n_rows for place in step)))
                n_rows = len(kept)
                roomy.reorder_cache(kept)
                plain.reorder_cache(kept)
            assert torch.equal(roomy.keys, plain.keys)
            assert torch.equal(roomy.values, plain.values)
            assert roomy.get_seq_length() == plain.get_seq_length()


def test_a_token_is_appended_without_a_copy() -> None:
    """Keys and values stay where they are in memory while there is room."""
    layer = RoomyLayer()
    layer.update(*_states(4, 7))
    places = layer.keys.data_ptr(), layer.values.data_ptr()
    for _ in range(cache.ROOM):
        layer.update(*_states(4, 1))
    assert (layer.keys.data_ptr(), layer.values.data_ptr()) == places
    layer.update(*_states(4, 1))
    assert layer.keys.data_ptr() != places[0]


def test_rows_that_stay_are_not_copied() -> None:
    """Dropping rows moves only those that fill the holes."""
    layer = RoomyLayer()
    layer.update(*_states(4, 7))
    place, before = layer.keys.data_ptr(), layer.keys.clone()
    layer.reorder_cache(torch.tensor([0, 3, 2]))
    assert layer.keys.data_ptr() == place
    assert torch.equal(layer.keys, before[[0, 3, 2]])


def test_an_empty_layer_has_no_rows_to_drop() -> None:
    """A layer that no pass has filled, as those that share another's keys, is left alone."""
    layer = RoomyLayer()
    layer.reorder_cache(torch.tensor([1]))
    assert layer.get_seq_length() == 0


def test_only_plain_layers_are_replaced() -> None:
    """A sliding window stays one, with its window."""
    layers = roomy_cache(LlamaConfig(num_hidden_layers=3)).layers
    assert [type(layer) for layer in layers] == [RoomyLayer] * 3
    mixed = Gemma3TextConfig(
        num_hidden_layers=2, sliding_window=8, layer_types=["sliding_attention", "full_attention"]
    )
    sliding, full = roomy_cache(mixed).layers
    assert type(sliding) is DynamicSlidingWindowLayer
    assert sliding.sliding_window == 8
    assert type(full) is RoomyLayer
