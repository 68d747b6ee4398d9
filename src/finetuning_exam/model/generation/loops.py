"""Answers that repeat themselves without end.

A greedy answer repeats itself if its last tokens are one cycle of up to `LONGEST_CYCLE` tokens, at
least `FEWEST_REPEATS` times in a row and at least `FEWEST_TOKENS` tokens long in all. Each copy
makes the next one more likely, and greedy decoding takes the likeliest token, so such an answer
goes on to the limit. Sampled answers may leave a cycle by chance; they are never watched.

Nothing rules out that an answer repeats itself so long and then ends. The limits are above what was
seen to end: SmolLM2-135M-Instruct wrote a sentence of 18 tokens four times, 73 tokens in all, and
stopped (docs/experiments.md). What is known to repeat, the references of an exam, raises the limit:
see `tokens_of_loop`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

LONGEST_CYCLE = 128
FEWEST_REPEATS = 6
FEWEST_TOKENS = 96


class LoopWatch:
    """Watches the tokens of one answer for a cycle that fills at least `n_tokens` at its end."""

    def __init__(self, n_tokens: int = FEWEST_TOKENS) -> None:
        lengths = np.arange(1, LONGEST_CYCLE + 1)
        self._needed = np.maximum(n_tokens, FEWEST_REPEATS * lengths) - lengths
        self._equal = np.zeros(LONGEST_CYCLE, dtype=np.int64)
        """For each length of a cycle, how many of the last tokens equal the one a cycle before."""
        self._latest = np.full(LONGEST_CYCLE, -1, dtype=np.int64)
        """The latest tokens, newest first."""

    def add(self, token: int) -> bool:
        """Add a token; return whether the answer repeats itself now."""
        self._equal = (self._equal + 1) * (self._latest == token)
        self._latest[1:] = self._latest[:-1]
        self._latest[0] = token
        return bool((self._equal >= self._needed).any())

    @property
    def longest(self) -> int:
        """Tokens at the end that are one cycle, at least twice in a row; 0 if there is none."""
        lengths = np.arange(1, LONGEST_CYCLE + 1)
        repeats = self._equal >= lengths
        return int((self._equal + lengths)[repeats].max(initial=0))


def tokens_of_loop(references: Iterable[Sequence[int]]) -> int:
    """Return how many tokens of a cycle are a loop where these are right answers.

    It is twice as long as the longest cycle in any of them, and at least `FEWEST_TOKENS`, so that
    an answer like its reference is never taken for a loop.
    """
    longest = 0
    for ids in references:
        watch = LoopWatch()
        for token in ids:
            watch.add(token)
            longest = max(longest, watch.longest)
    return max(FEWEST_TOKENS, 2 * longest)
