"""The interface between a training method and the code that trains, estimates costs and resumes.

An objective turns records into rows, computes the loss of a set of rows, and reports a row's size.
training/ uses this interface and knows nothing else about the method.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from torch import Tensor

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.encoding.rows import EncodedRows
from finetuning_exam.data.records import Example
from finetuning_exam.model.fast.path import FastPath
from finetuning_exam.model.score import values_in_batches
from finetuning_exam.objectives.replay import Replay

Row = TypeVar("Row")
"""One record in the form that an objective trains on."""


@dataclass(frozen=True, slots=True)
class StepLoss:
    """The loss of a pass as its share of the optimizer step's: the part that is reported, and what
    is added to it.
    """

    reported: Tensor
    extra: Tensor | None = None

    @property
    def total(self) -> Tensor:
        """The loss to minimize."""
        return self.reported if self.extra is None else self.reported + self.extra


class Objective(Protocol[Row]):
    """A training method.

    An optimizer batch has the rows that are drawn and the extra rows of its step. Its loss does not
    depend on how it is split into passes.
    """

    def training_rows(self, examples: Sequence[Example], max_length: int) -> EncodedRows[Row]:
        """Encode the training examples, each into at most `max_length` tokens."""
        ...

    def validation_rows(self, examples: Sequence[Example], max_length: int) -> EncodedRows[Row]:
        """Encode the validation examples, which decide the best step."""
        ...

    def with_replay(self, replay: Replay) -> Objective[Row]:
        """Return the objective that also holds the tuned model to its base on these rows."""
        ...

    def extra_rows(self, step: int) -> tuple[Row, ...]:
        """Return the rows that are added to the batch of a step, counted from 0."""
        ...

    def losses(self, path: FastPath, rows: Sequence[Row]) -> Tensor:
        """Return the summed loss of each row: (rows,) float32, differentiable by the adapter."""
        ...

    def step_loss(self, losses: Tensor, rows: Sequence[Row], total_weight: int) -> StepLoss:
        """Return the share of some rows' losses in the loss of a step with that sum of weights."""
        ...

    def weight(self, row: Row) -> int:
        """Return what a row adds to the divisor of the loss, such as its supervised tokens."""
        ...

    def sequences(self, row: Row) -> tuple[Encoded, ...]:
        """Return the token sequences that a pass over the row computes with gradients.

        They determine memory, time and micro-batches, and the hash of the rows.
        """
        ...

    def tail(self, row: Row, n_tokens: int) -> Row:
        """Return the end of a row, about `n_tokens` long, for a timed trial."""
        ...


def n_tokens(objective: Objective[Row], rows: Iterable[Row]) -> int:
    """Return the number of tokens in rows, without padding."""
    return sum(len(it.ids) for row in rows for it in objective.sequences(row))


def sequences_of(objective: Objective[Row], rows: Iterable[Row]) -> tuple[Encoded, ...]:
    """Return the token sequences of all rows, in order."""
    return tuple(sequence for row in rows for sequence in objective.sequences(row))


def mean_loss(
    objective: Objective[Row], path: FastPath, rows: Sequence[Row], batch_size: int
) -> float:
    """Return the loss over rows, without dropout or gradients, whatever the batch size."""
    lengths = [n_tokens(objective, [row]) for row in rows]
    losses = values_in_batches(
        path.model,
        lengths,
        lambda indices: objective.losses(path, [rows[index] for index in indices]),
        batch_size,
    )
    return math.fsum(losses) / sum(map(objective.weight, rows))
