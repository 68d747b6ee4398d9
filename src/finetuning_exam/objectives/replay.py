"""Replay: texts on which training holds the tuned model to its base, so that it forgets little."""

from __future__ import annotations

import random
from dataclasses import dataclass

from finetuning_exam.model.replay_row import ReplayRow

TEXT_TOKENS = 128
"""Tokens of a text, at most: in shorter ones a base says little (docs/experiments.md)."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Rows that are added to optimizer steps, and how much they count.

    A step's loss grows, on average, by `weight` times the mean KL(base‖tuned) per token of a row,
    in nats. Steps have `tokens_per_step` tokens of replay on average: with fewer than
    `TEXT_TOKENS` some have a row that counts for those that have none. Forward KL on the base's
    own distribution predicts forgetting (arXiv 2509.04259), and texts that the base wrote itself
    stand for what it knows (arXiv 2605.26097).
    """

    rows: tuple[ReplayRow, ...] = ()
    weight: float = 0.0
    tokens_per_step: int = TEXT_TOKENS
    seed: int = 0

    @property
    def row_weight(self) -> float:
        """What a row's mean KL counts in the loss of its step."""
        return self.weight * TEXT_TOKENS / self.tokens_per_step

    def of_step(self, step: int) -> tuple[ReplayRow, ...]:
        """Return the rows of a step, counted from 0: each row once before any comes again."""
        if not self.rows:
            return ()
        return tuple(self._at(place) for place in range(self._before(step), self._before(step + 1)))

    def _before(self, step: int) -> int:
        """Return the number of rows in all steps before this one; the first step has one."""
        return -(-step * self.tokens_per_step // TEXT_TOKENS)

    def _at(self, place: int) -> ReplayRow:
        round_number, index = divmod(place, len(self.rows))
        order = list(range(len(self.rows)))
        random.Random(f"{self.seed} {round_number}").shuffle(order)
        return self.rows[order[index]]
