"""How far an export may be from the trained model, by the number format of its weights.

They are set above what was measured on the built-in base and on SmolLM2-135M (docs/guide/use.md has
the table), and far below what the known faults of exports make.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Largest differences, in nats per token, and the least share of equal answers.

    `nll` bounds the change of the mean over all answer tokens, beyond three standard errors of what
    rounding adds to single tokens; `token` bounds the mean of the changes of single tokens.
    `tie` is how much less likely than the likeliest a token may be that is written instead of it.
    """

    nll: float
    token: float
    tie: float
    same_answers: float
    stopped: float = 0.1


_EXACT = Limits(nll=1e-3, token=1e-3, tie=1e-2, same_answers=0.99, stopped=0.02)
_HALF = Limits(nll=2e-3, token=2e-2, tie=0.05, same_answers=0.0)
_BRAIN = Limits(nll=2e-2, token=0.2, tie=0.3, same_answers=0.0)
_LIMITS = {
    "float32": _EXACT,
    "f32": _EXACT,
    "float16": _HALF,
    "f16": _HALF,
    "bfloat16": _BRAIN,
    "bf16": _BRAIN,
    "q8_0": Limits(nll=2e-2, token=0.25, tie=0.5, same_answers=0.0),
}


def limits_of(number_format: str) -> Limits:
    """Return the limits for a number format of weights."""
    return _LIMITS[number_format]
