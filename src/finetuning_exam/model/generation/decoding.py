"""Decoding: its settings, and the choice of each row's next token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

from finetuning_exam.model.generation.loops import LoopWatch


@dataclass(frozen=True, slots=True)
class Decoding:
    """Settings of decoding: greedy without `do_sample`, and then the rest of them has no effect."""

    max_new_tokens: int
    stop_ids: tuple[int, ...]
    pad_id: int
    do_sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    stop_text: str = ""
    """Text that ends an answer besides the `stop_ids`, where a template has no token for it."""
    context: int | None = None
    """Positions of the model, which a prompt and its answer never exceed; absent: no limit."""
    loop_tokens: int | None = None
    """Tokens of a cycle at which a greedy answer ends (see `loops`); None: it goes on."""

    def new_watch(self) -> LoopWatch | None:
        """Return what watches a new answer; None if nothing does."""
        if self.loop_tokens is None or self.do_sample:
            return None
        return LoopWatch(self.loop_tokens)

    def room(self, prompt_length: int) -> int:
        """Return how many tokens an answer may have after a prompt of this length: at least one."""
        if self.context is None:
            return self.max_new_tokens
        return max(1, min(self.max_new_tokens, self.context - prompt_length))


def random_numbers(seed: int, questions: Sequence[int], n_tokens: int) -> Tensor:
    """Return numbers in [0, 1) that choose each row's tokens: (rows, n_tokens) float32.

    They depend on the seed and the row's question alone, not on its batch, and base and tuned model
    share them.
    """
    rows = [np.random.default_rng((seed, it)).random(n_tokens, np.float32) for it in questions]
    return torch.from_numpy(np.stack(rows))


def choose_tokens(logits: Tensor, numbers: Tensor, decoding: Decoding) -> Tensor:
    """Return each row's next token, (rows,), for logits (rows, vocabulary) and numbers (rows,).

    A token is drawn where the sum of the probabilities up to it first exceeds the row's number.
    """
    if not decoding.do_sample:
        return logits.argmax(dim=-1)
    warpers = LogitsProcessorList([TemperatureLogitsWarper(decoding.temperature)])
    if decoding.top_p < 1.0:
        warpers.append(TopPLogitsWarper(decoding.top_p))
    sums = warpers(None, logits).softmax(dim=-1).cumsum(dim=-1)
    sums = sums / sums[:, -1:]  # rounding: the last must be 1, above every number
    chosen = torch.searchsorted(sums, numbers[:, None], right=True).squeeze(1)
    return chosen.clamp(max=logits.shape[-1] - 1)  # logits of NaN
