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
        roles = _roles(turns, name)
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
    texts = [it for it in held if isinstance(it, str)] if isinstance(held, list) else []
    if texts and all(it.lstrip().startswith("{") for it in texts):  # each turn is a text
        return _turns(f"[{','.join(texts)}]")
    return held if isinstance(held, list) else []


def _roles(turns: list[object], field: str) -> list[str]:
    """Return the role of each turn; "" for one that has none."""
    try:
        read = as_objects(turns, field, ROLES)
    except Fault:
        return []
    written = [it.get("role", it.get("from")) if isinstance(it, dict) else None for it in read]
    return [ROLES.get(it.strip().casefold(), "") if isinstance(it, str) else "" for it in written]
