"""A cache of keys and values that can grow and drop rows without a copy for every token."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

ROOM = 64
"""Positions allocated ahead when a layer's cache is full."""


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values, each (rows, heads, positions, width), as views of buffers with
    room to spare.

    Transformers' own layer concatenates, which copies the whole cache for every token: for a small
    model on a CPU that can cost as much as the matrix products.
    """

    keys: Tensor
    values: Tensor
    _key_buffer: Tensor
    _value_buffer: Tensor

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Append states of shape (rows, heads, new positions, width), and return all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        before = self.get_seq_length()
        after = before + key_states.shape[-2]
        if before == 0 or after > self._key_buffer.shape[-2]:
            self._key_buffer = _buffer(key_states, self.keys, before, after + ROOM)
            self._value_buffer = _buffer(value_states, self.values, before, after + ROOM)
        self._key_buffer[..., before:after, :] = key_states
        self._value_buffer[..., before:after, :] = value_states
        self.keys = self._key_buffer[..., :after, :]
        self.values = self._value_buffer[..., :after, :]
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keep the rows of these old places, (kept rows,), in this order; only rows that move are
        copied.
        """
        length = self.get_seq_length()
        if length == 0:
            return
        places = torch.arange(len(beam_idx), device=beam_idx.device)
        to = places[beam_idx != places]
        for buffer in (self._key_buffer, self._value_buffer):
            buffer[to] = buffer[beam_idx[to]]  # all are read before any is written
        self._key_buffer = self._key_buffer[: len(beam_idx)]
        self._value_buffer = self._value_buffer[: len(beam_idx)]
        self.keys = self._key_buffer[..., :length, :]
        self.values = self._value_buffer[..., :length, :]


def _buffer(states: Tensor, old: Tensor, n_old: int, capacity: int) -> Tensor:
    buffer = states.new_empty(*states.shape[:-2], capacity, states.shape[-1])
    if n_old:
        buffer[..., :n_old, :] = old
    return buffer


def roomy_cache(config: PreTrainedConfig, *, keeps_all: bool = False) -> DynamicCache:
    """Return the cache that Transformers makes for a model, with its plain layers made roomy.

    Layers of other kinds (sliding windows, recurrent states) stay as they are; they can drop rows
    too, by copying. With `keeps_all`, sliding windows become roomy as well: they keep the positions
    behind the window, which a mask hides.
    """
    roomy = (DynamicLayer, DynamicSlidingWindowLayer) if keeps_all else (DynamicLayer,)
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer() if type(it) in roomy else it for it in cache.layers]
    return cache
