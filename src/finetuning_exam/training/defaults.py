"""Defaults that depend on the model's size: the learning rate and epochs behind `auto`."""

from __future__ import annotations

from dataclasses import dataclass

SMALL_MODEL_PARAMETERS = 50_000_000


@dataclass(frozen=True, slots=True)
class SizeDefaults:
    """Values of `auto` for models of one size.

    The epochs show the model about `rows_seen` rows, but are at least `min_epochs` and at most
    `max_epochs`.
    """

    learning_rate: float
    rows_seen: int
    min_epochs: int
    max_epochs: int

    def epochs(self, n_rows: int) -> int:
        """Return the passes over a file of `n_rows` training rows."""
        return min(self.max_epochs, max(self.min_epochs, round(self.rows_seen / n_rows)))


SMALL = SizeDefaults(learning_rate=3e-3, rows_seen=10_000, min_epochs=3, max_epochs=16)
"""Below `SMALL_MODEL_PARAMETERS`: measured on the built-in base (docs/experiments.md)."""
LARGE = SizeDefaults(learning_rate=2e-4, rows_seen=0, min_epochs=3, max_epochs=3)
"""The usual choice for LoRA on models of a billion parameters (Hu et al. 2021; TRL's examples)."""


def defaults_for(n_parameters: int) -> SizeDefaults:
    """Return the defaults for a base of this many parameters."""
    return SMALL if n_parameters < SMALL_MODEL_PARAMETERS else LARGE
