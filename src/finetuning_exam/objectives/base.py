"""The seam between a training method and the code that trains, estimates costs and resumes.

An objective turns records into rows, gives the loss of some rows, and tells the size of a row.
Everything in training/ asks it and knows nothing else of the method.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from torch import Tensor

from finetuning_exam.data.encoding.encode import Encoded, EncodedRows
from finetuning_exam.data.records import Example
from finetuning_exam.model.fast.path import FastPath
from finetuning_exam.model.score import values_in_batches

Row = TypeVar("Row")
"""One record as an objective trains on it."""


class Objective(Protocol[Row]):
    """A training method.

    The loss of an optimizer batch is the sum of its rows' losses divided by the sum of their
    weights, however the batch is split into passes.
    """

    def training_rows(self, examples: Sequence[Example], max_length: int) -> EncodedRows[Row]:
        """Encode the examples to train on, each in at most `max_length` tokens."""
        ...

    def validation_rows(self, examples: Sequence[Example], max_length: int) -> EncodedRows[Row]:
        """Encode the examples that choose the best step."""
        ...

    def losses(self, path: FastPath, rows: Sequence[Row]) -> Tensor:
        """Return the summed loss of each row: (rows,) float32, with gradients to the adapter."""
        ...

    def weight(self, row: Row) -> int:
        """Return a row's share in the divisor of the loss, such as its supervised tokens."""
        ...

    def sequences(self, row: Row) -> tuple[Encoded, ...]:
        """Return the token sequences that a pass over the row computes with gradients.

        Memory, time and micro-batches go by them, and so does the hash of the rows.
        """
        ...

    def tail(self, row: Row, n_tokens: int) -> Row:
        """Return the end of a row, about `n_tokens` long, for a timing trial."""
        ...


def n_tokens(objective: Objective[Row], rows: Iterable[Row]) -> int:
    """Count the tokens of rows, without padding."""
    return sum(len(it.ids) for row in rows for it in objective.sequences(row))


def sequences_of(objective: Objective[Row], rows: Iterable[Row]) -> tuple[Encoded, ...]:
    """Return the token sequences of all rows, in their order."""
    return tuple(sequence for row in rows for sequence in objective.sequences(row))


def mean_loss(
    objective: Objective[Row], path: FastPath, rows: Sequence[Row], batch_size: int
) -> float:
    """Return the loss over rows without dropout or gradients; it does not depend on the batches."""
    lengths = [n_tokens(objective, [row]) for row in rows]
    losses = values_in_batches(
        path.model,
        lengths,
        lambda indices: objective.losses(path, [rows[index] for index in indices]),
        batch_size,
    )
    return math.fsum(losses) / sum(map(objective.weight, rows))


def hash_of_sequences(sequences: Iterable[Encoded]) -> str:
    """Return the SHA-256 of ids and labels.

    It changes with every change of tokenizer, template, data and limits.
    """
    digest = hashlib.sha256()
    for it in sequences:
        digest.update(array("q", (len(it.ids), *it.ids, *it.labels)).tobytes())
    return digest.hexdigest()
