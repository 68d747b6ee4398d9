"""The default learning rate and number of epochs: what `auto` means, by the size of the model."""

from __future__ import annotations

from dataclasses import dataclass

SMALLEST = 6_000_000
"""Parameters up to which a model counts as smallest; the built-in base has about as many."""
EXPONENT = -0.4
LEARNING_RATE = 4e-3
ROWS_SEEN = 10_000
MIN_EPOCHS, MAX_EPOCHS = 3, 16
_STEP = 50_000_000


@dataclass(frozen=True, slots=True)
class SizeDefaults:
    """What `auto` means for models of one size.

    The number of epochs is chosen to train on about `rows_seen` rows in all, within `MIN_EPOCHS`
    and `max_epochs`.
    """

    learning_rate: float
    rows_seen: int
    max_epochs: int

    def epochs(self, n_rows: int) -> int:
        """Return the number of epochs for `n_rows` training rows."""
        return min(self.max_epochs, max(MIN_EPOCHS, round(self.rows_seen / n_rows)))


def defaults_for(n_parameters: int) -> SizeDefaults:
    """Return the defaults for a base model with this many parameters.

    All of them are highest for the smallest models and shrink with (N / `SMALLEST`)^`EXPONENT`. The
    exponent connects what was measured best for the built-in base and for two models of 135 and
    268 million parameters (docs/experiments.md); at 7 billion parameters the learning rate is near
    the usual one for LoRA, 2e-4 (Hu et al. 2021; TRL's examples).
    """
    share = max(1.0, n_parameters / SMALLEST) ** EXPONENT
    return SizeDefaults(
        float(f"{LEARNING_RATE * share:.2g}"),
        round(ROWS_SEEN * share),
        max(MIN_EPOCHS, round(MAX_EPOCHS * share)),
    )


def defaults_before(n_parameters: int) -> SizeDefaults:
    """Return the defaults of runs that do not record theirs: two sizes, with a step between."""
    if n_parameters < _STEP:
        return SizeDefaults(3e-3, ROWS_SEEN, MAX_EPOCHS)
    return SizeDefaults(2e-4, 0, MIN_EPOCHS)
