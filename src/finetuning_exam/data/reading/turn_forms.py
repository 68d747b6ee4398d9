"""Turns in other forms than objects with a role: read as such objects where the meaning is sure.

These are texts that take turns (UltraChat's `data`) or begin with a role (`Human: …`), pairs of a
question and its answer, lists of a role and a text, and objects with a role as the name of the
text's field (`{"user": "…"}`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from finetuning_exam.data.findings import Fault, Finding
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.files import RawRecord
from finetuning_exam.data.reading.packed_text import is_json, is_python

Form = Literal["labelled", "texts", "pairs"]
_READ_AS: dict[Form, str] = {
    "labelled": "texts that begin with a role and a colon, which are taken off and give the role",
    "texts": "texts without roles; they are read as user and assistant in turn",
    "pairs": "pairs of texts without roles; each is read as a user's turn and its answer",
}
_LABEL = re.compile(r"\s*(?:#{1,4} ?)?([A-Za-z][A-Za-z_ ]{0,18}[A-Za-z]) ?:\s*")
"""A role before a text: `Human: `, `### Assistant:`."""


def as_objects(items: Sequence[object], field: str, roles: Collection[str]) -> list[object]:
    """Return turns as objects with `role` and `content`, or `human` and `assistant`.

    What has none of these forms is returned as it is. `roles` are the known names of roles.

    Raises:
        Fault: texts take turns, but their number is odd.
    """
    if all(isinstance(it, dict) and ("role" in it or "from" in it) for it in items):
        return [*items]
    form = _form(items, roles)
    if form == "labelled":
        found = [_LABEL.match(it) for it in items if isinstance(it, str)]
        return [{"role": it[1], "content": it.string[it.end() :]} for it in found if it]
    if form == "texts":
        if len(items) % 2:
            count = "one text" if len(items) == 1 else f"{len(items)} texts"
            raise Fault(
                Kind.NO_ROLES,
                f"field {field!r} holds {count} without roles; expected an even number, as user "
                "and assistant take turns",
            )
        names = ("user", "assistant")
        return [{"role": names[it % 2], "content": text} for it, text in enumerate(items)]
    if form == "pairs":
        pairs = [it for it in items if isinstance(it, list)]
        return [{"human": question, "assistant": answer} for question, answer in pairs]
    return [_with_role(it, roles) for it in items]


def turn_form_notes(
    records: Sequence[RawRecord], field: str, roles: Collection[str], path: str
) -> list[Finding]:
    """Return a note for each form without roles that the turns of a field have."""
    first: dict[Form, RawRecord] = {}
    for record in records:
        value = record.value.get(field)
        form = _form(value, roles) if isinstance(value, list) else None
        is_odd = form == "texts" and isinstance(value, list) and len(value) % 2
        if form is not None and not is_odd:  # an odd number of texts is a fault
            first.setdefault(form, record)
    return [
        Finding(
            Kind.TAKING_TURNS,
            f"field {field!r} holds {_READ_AS[form]}",
            path,
            record.line,
            record.column,
        )
        for form, record in first.items()
    ]


def are_texts(value: object) -> bool:
    """Return whether a value is a list of several texts, none of which is itself a record."""
    return (
        isinstance(value, list)
        and len(value) > 1
        and all(isinstance(it, str) and not _is_packed(it) for it in value)
    )


def _form(items: Sequence[object], roles: Collection[str]) -> Form | None:
    if not items or isinstance(items[0], Mapping):
        return None
    if all(isinstance(it, str) and not _is_packed(it) for it in items):
        labels = [_LABEL.match(it) for it in items if isinstance(it, str)]
        is_labelled = all(it and _is_role(it[1], roles) for it in labels)
        return "labelled" if is_labelled else "texts"
    pairs = [it for it in items if isinstance(it, list) and len(it) == 2]
    if len(pairs) < len(items) or not all(isinstance(text, str) for it in pairs for text in it):
        return None
    return None if any(_is_role(it[0], roles) for it in pairs) else "pairs"


def _with_role(turn: object, roles: Collection[str]) -> object:
    """Return a turn as an object with a role if its role is written in another place."""
    if isinstance(turn, list) and len(turn) == 2 and _is_role(turn[0], roles):
        return {"role": turn[0], "content": turn[1]}
    if not isinstance(turn, Mapping) or {"role", "from", "human"} & turn.keys():
        return turn
    filled = [name for name, text in turn.items() if text is not None]
    if not filled or not all(_is_role(name, roles) for name in filled):
        return turn
    if filled == ["user", "assistant"]:
        return {"human": turn["user"], "assistant": turn["assistant"]}
    return {"role": filled[0], "content": turn[filled[0]]} if len(filled) == 1 else turn


def _is_role(text: object, roles: Collection[str]) -> bool:
    return isinstance(text, str) and len(text) < 40 and text.strip().casefold() in roles


def _is_packed(text: str) -> bool:
    """Return whether a text is that of a list or an object, in JSON or in Python's notation."""
    start = text.lstrip()[:1]
    return start in ("{", "[") and (is_python(text) or is_json(text))
