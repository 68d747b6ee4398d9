"""A conversation without the assistant's turn before the first question."""

from __future__ import annotations

from finetuning_exam.data.findings import Fault
from finetuning_exam.data.reading.conversation import ROLES
from finetuning_exam.data.reading.packed_text import value_of_text
from finetuning_exam.data.reading.turn_forms import as_objects


def without_greeting(value: dict[str, object]) -> dict[str, object]:
    """Return a record whose conversation begins with its first question; all else is kept.

    A conversation that is stored as text becomes its list. A record whose conversation does not
    begin with the assistant, after a system turn, is returned as it is.
    """
    for name, held in value.items():
        turns = _turns(held)
        roles = [_role(turn) for turn in turns]
        first = 1 if roles[:1] == ["system"] else 0
        if roles[first : first + 2] == ["assistant", "user"]:
            return {**value, name: [*turns[:first], *turns[first + 1 :]]}
    return value


def _turns(held: object) -> list[object]:
    if isinstance(held, str) and held.lstrip()[:1] in ("[", '"', "("):
        try:
            held = value_of_text(held)
        except Fault:
            return []
    if isinstance(held, list) and held and all(isinstance(it, str) for it in held):
        return _turns(f"[{','.join(held)}]") if held[0].lstrip().startswith("{") else []
    return held if isinstance(held, list) else []


def _role(turn: object) -> str:
    """Return the role of a turn; "" if it has none."""
    (read,) = as_objects([turn], "", ROLES) if not isinstance(turn, str) else (None,)
    written = (read.get("role") or read.get("from")) if isinstance(read, dict) else None
    return ROLES.get(written.strip().casefold(), "") if isinstance(written, str) else ""
