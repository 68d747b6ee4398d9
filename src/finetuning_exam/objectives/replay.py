"""Replay: texts on which training holds the tuned model to its base, so that it forgets little."""

from __future__ import annotations

import random
from dataclasses import dataclass

from finetuning_exam.model.replay_row import ReplayRow


@dataclass(frozen=True, slots=True)
class Replay:
    """Rows that are added to optimizer steps, and how much they count.

    A step's loss grows by `weight` times the mean KL(base‖tuned) per token of its rows, in nats:
    forward KL on the base's own distribution predicts forgetting (arXiv 2509.04259), and texts that
    the base wrote itself stand for what it knows (arXiv 2605.26097).
    """

    rows: tuple[ReplayRow, ...] = ()
    weight: float = 0.0
    rows_per_step: int = 1
    seed: int = 0

    def of_step(self, step: int) -> tuple[ReplayRow, ...]:
        """Return the rows of a step, counted from 0: each row once before any comes again."""
        places = range(step * self.rows_per_step, (step + 1) * self.rows_per_step)
        return tuple(self._at(place) for place in places) if self.rows else ()

    def _at(self, place: int) -> ReplayRow:
        round_number, index = divmod(place, len(self.rows))
        order = list(range(len(self.rows)))
        random.Random(f"{self.seed} {round_number}").shuffle(order)
        return self.rows[order[index]]
