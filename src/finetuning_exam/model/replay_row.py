"""Rows on which the tuned model is held to its base, by the divergence of what both predict."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import Tensor

from finetuning_exam.data.encoding.encoder import Encoded


@dataclass(frozen=True, slots=True, eq=False)
class ReplayRow(Encoded):
    """A text whose every token but the first is predicted, and what the base predicts there.

    `base` is the base's last hidden state before each of these tokens, (tokens - 1, width): with
    the output head that both models share it gives the base's whole distribution, exactly, in the
    space of a hidden state instead of a vocabulary.
    """

    base: Tensor = field(kw_only=True)

    def last(self, length: int) -> ReplayRow:
        """Return the last `length` positions of the row, as a sample of its cost."""
        n_predicted = min(length, len(self.ids)) - 1
        return replace(
            self,
            ids=self.ids[-length:],
            labels=self.labels[-length:],
            base=self.base[len(self.base) - n_predicted :],
        )
