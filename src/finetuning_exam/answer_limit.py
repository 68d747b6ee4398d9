"""How many examples an exam answers: as many as tell something, at a price in proportion.

Answers take most of an exam's time, and say less than the likelihoods of all examples, on which the
verdict rests.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

MOST = 200
"""With 200 answers, the 95% interval of a share is at most 7 points wide to either side; twice as
many would make it 5.
"""
FEWEST = 30
"""With fewer, the interval of a share is wider than 18 points to either side."""
UNKNOWN = 100
"""Examples that are answered where the training's time is not known: 10 points to either side."""
STEP = 10
"""The number is a multiple of this, so that a run timed again mostly answers the same examples."""
SHARE_OF_TRAINING = 0.15
"""Most that answers take of the training's predicted time, if more than `FEWEST` fit into it."""

AnswerReason = Literal["requested", "enough", "time", "fewest", "unknown"]
"""Why an exam answers no more examples: the setting says so; more would add little; they would take
longer than the training is worth, or even these do; or the training's time is not known.
"""


@dataclass(frozen=True, slots=True)
class AnswerLimit:
    """The most examples that an exam answers, and why there are no more."""

    n: int
    reason: AnswerReason


WITHOUT_LIMIT = AnswerLimit(MOST, "enough")
WITHOUT_TIME = AnswerLimit(UNKNOWN, "unknown")


def affordable_answers(train_seconds: float, seconds_per_answer: float) -> AnswerLimit:
    """Return how many answers are worth their time after a training of so many seconds."""
    budget = SHARE_OF_TRAINING * train_seconds
    if budget >= MOST * seconds_per_answer:
        return WITHOUT_LIMIT
    n = math.floor(budget / seconds_per_answer)
    if n < FEWEST:
        return AnswerLimit(FEWEST, "fewest")
    return AnswerLimit(n // STEP * STEP, "time")
