"""Supervised fine-tuning: the likelihood of answers given their prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from finetuning_exam.data.encoding.encoder import Encoded, Encoder
from finetuning_exam.data.encoding.rows import EncodedRows, encode_all
from finetuning_exam.data.records import Example
from finetuning_exam.model.fast.path import FastPath
from finetuning_exam.model.replay_row import ReplayRow
from finetuning_exam.objectives.base import StepLoss
from finetuning_exam.objectives.replay import Replay


@dataclass(frozen=True, slots=True)
class SupervisedFineTuning:
    """Cross-entropy of the supervised tokens, in nats; a row's weight is their number.

    With `replay`, the rows that it adds to a step count by their divergence from the base.
    Validation scores only the last answer, as the exam does, whatever training supervises.
    """

    training_encoder: Encoder
    validation_encoder: Encoder
    replay: Replay = field(default_factory=Replay)

    def training_rows(self, examples: Sequence[Example], max_length: int) -> EncodedRows[Encoded]:
        """Encode the training examples."""
        return encode_all(self.training_encoder, examples, max_length)

    def validation_rows(self, examples: Sequence[Example], max_length: int) -> EncodedRows[Encoded]:
        """Encode the validation examples, which decide the best step."""
        return encode_all(self.validation_encoder, examples, max_length)

    def with_replay(self, replay: Replay) -> SupervisedFineTuning:
        """Return the objective with these replay rows."""
        return replace(self, replay=replay)

    def extra_rows(self, step: int) -> tuple[Encoded, ...]:
        """Return the replay rows of a step."""
        return self.replay.of_step(step)

    def losses(self, path: FastPath, rows: Sequence[Encoded]) -> Tensor:
        """Return each row's summed negative log-likelihood, or its summed KL from the base."""
        return path.row_losses(rows)

    def step_loss(self, losses: Tensor, rows: Sequence[Encoded], total_weight: int) -> StepLoss:
        """Return the mean per supervised token of the step, and what replay adds to it."""
        replayed = [index for index, row in enumerate(rows) if isinstance(row, ReplayRow)]
        if not replayed:
            return StepLoss(losses.sum() / total_weight)
        lengths = [len(row.base) for row in rows if isinstance(row, ReplayRow)]
        per_token = losses[replayed] / torch.tensor(lengths, device=losses.device)
        extra = per_token.sum() * self.replay.row_weight
        others = [index for index in range(len(rows)) if index not in set(replayed)]
        return StepLoss(losses[others].sum() / total_weight, extra)

    def weight(self, row: Encoded) -> int:
        """Return the number of supervised tokens; replay adds nothing to the divisor."""
        return 0 if isinstance(row, ReplayRow) else row.n_supervised

    def sequences(self, row: Encoded) -> tuple[Encoded, ...]:
        """Return the row itself."""
        return (row,)

    def tail(self, row: Encoded, n_tokens: int) -> Encoded:
        """Return the last `n_tokens` tokens of the row."""
        return row.last(n_tokens)
