"""Weights of records and of turns: factors of the loss, where 0 means not to train."""

from __future__ import annotations

import math
from collections.abc import Mapping

from finetuning_exam.data.findings import Fault
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.cells import is_nothing
from finetuning_exam.data.reading.json_values import json_type

WEIGHTS = ("weight", "weights", "loss_weight", "sample_weight", "example_weight")
"""Factors of a record's loss; the default is 1."""
SWITCHES = ("train", "training", "is_train", "trainable")
"""Whether a record is trained; the default is true."""
TURN_WEIGHTS = ("weight", "loss_weight", "train", "training", "trainable", "loss")
"""The same of a turn, as OpenAI (`weight`), Axolotl (`train`) and ms-swift (`loss`) name it."""
_MOST = 1e30
"""Above it a product of weights may be more than a float32 can hold."""
_WORDS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}


def record_weight(value: Mapping[str, object], named: tuple[str, ...] = ()) -> float:
    """Return the product of a record's weights; cells of a table may hold them as text.

    `named` are fields that hold the prompt and the answer.

    Raises:
        Fault: a weight is no number, negative or not finite.
    """
    return math.prod(
        _factor(value[name], f"field {name!r}", as_text=True)
        for name in (*WEIGHTS, *SWITCHES)
        if name not in named and not is_nothing(value.get(name))
    )


def turn_weight(turn: Mapping[str, object], *, is_answer: bool, where: str) -> float:
    """Return the product of a turn's weights; for a turn that is no answer, 0 and 1 say the same.

    Raises:
        Fault: a weight is no number, negative or not finite, or would train a prompt.
    """
    weight = 1.0
    for name in TURN_WEIGHTS:
        if is_nothing(turn.get(name)):
            continue
        found = _factor(turn[name], f"field {name!r} of {where}", as_text=False)
        if not is_answer and found and (turn[name] is True or name != "weight"):
            raise Fault(
                Kind.CHANGES_TRAINING,
                f"{where} has {name!r}: {str(turn[name]).lower()}, but only answers can be trained "
                "by turn (--completion_only_loss false trains everything)",
            )
        weight *= found
    return weight if is_answer else 1.0


def _factor(value: object, what: str, *, as_text: bool) -> float:
    number: float | None = None
    if isinstance(value, bool | int | float):
        number = float(value) if abs(value) < _MOST else math.inf
    elif isinstance(value, str) and as_text:
        number = _WORDS.get(value.strip().casefold())
        if number is None:
            try:
                number = float(value)
            except ValueError:
                number = None
    if number is None:
        raise Fault(Kind.WRONG_TYPE, f"{what} is {json_type(value)}; expected a number")
    if not math.isfinite(number) or number < 0:
        raise Fault(Kind.WRONG_TYPE, f"{what} is {number:g}; expected a number from 0 up")
    return number
