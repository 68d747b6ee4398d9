"""How far an export may be from the trained model, by the number format of its weights.

Measured on three models (docs/guide/use.md has the table); each limit is several times what was
found there, and far below what any of the faults in tests/exporting/test_faults.py does.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Largest differences, in nats per token, and the least share of equal answers.

    `nll` bounds the change of the mean over all answer tokens, `token` the mean of the changes.
    `tie` is how much less likely than the likeliest a token may be that is written instead of it.
    """

    nll: float
    token: float
    tie: float
    same_answers: float
    stopped: float = 0.1


_EXACT = Limits(nll=1e-3, token=1e-3, tie=1e-2, same_answers=0.99, stopped=0.02)
_LIMITS = {
    "float32": _EXACT,
    "f32": _EXACT,
    "float16": Limits(nll=2e-3, token=5e-3, tie=0.05, same_answers=0.0),
    "f16": Limits(nll=2e-3, token=5e-3, tie=0.05, same_answers=0.0),
    "bfloat16": Limits(nll=1e-2, token=5e-2, tie=0.2, same_answers=0.0),
    "bf16": Limits(nll=1e-2, token=5e-2, tie=0.2, same_answers=0.0),
    "q8_0": Limits(nll=2e-2, token=8e-2, tie=0.5, same_answers=0.0),
}


def limits_of(number_format: str) -> Limits:
    """Return the limits for a number format of weights."""
    return _LIMITS[number_format]
