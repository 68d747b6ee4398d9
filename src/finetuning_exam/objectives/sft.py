"""Supervised fine-tuning: the likelihood of answers given their prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from finetuning_exam.data.encoding.encoder import Encoded, Encoder
from finetuning_exam.data.encoding.rows import EncodedRows, encode_all
from finetuning_exam.data.records import Example
from finetuning_exam.model.fast.path import FastPath


@dataclass(frozen=True, slots=True)
class SupervisedFineTuning:
    """Cross-entropy of the supervised tokens, in nats; a row's weight is their number.

    Validation scores only the last answer, as the exam does, whatever training supervises.
    """

    training_encoder: Encoder
    validation_encoder: Encoder

    def training_rows(self, examples: Sequence[Example], max_length: int) -> EncodedRows[Encoded]:
        """Encode the training examples."""
        return encode_all(self.training_encoder, examples, max_length)

    def validation_rows(self, examples: Sequence[Example], max_length: int) -> EncodedRows[Encoded]:
        """Encode the validation examples, which decide the best step."""
        return encode_all(self.validation_encoder, examples, max_length)

    def losses(self, path: FastPath, rows: Sequence[Encoded]) -> Tensor:
        """Return the summed negative log-likelihood of each row's supervised tokens."""
        return path.row_nll(rows)

    def weight(self, row: Encoded) -> int:
        """Return the number of supervised tokens."""
        return row.n_supervised

    def sequences(self, row: Encoded) -> tuple[Encoded, ...]:
        """Return the row itself."""
        return (row,)

    def tail(self, row: Encoded, n_tokens: int) -> Encoded:
        """Return the last `n_tokens` tokens of the row."""
        return row.last(n_tokens)
