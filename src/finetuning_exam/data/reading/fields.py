"""Read the fields of a record, or raise the fault that names a missing or misspelled one."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from finetuning_exam.data.findings import Fault
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.json_values import json_type

Record = Mapping[str, object]

_MOST_LISTED = 30
_MOST_QUOTED = 40
_NEAR = 0.8
"""The least similarity, from 0 to 1, of a misspelled name to the known one."""
_LIST_FIELDS = frozenset(
    {"messages", "conversations", "conversation", "history", "instances", "prompt", "completion"}
)
_PREFERENCES = ("chosen", "rejected", "rejected_response", "rejected_messages")
_VERDICTS = ("label", "kto_tag")
_LISTS_OF_OTHERS = (
    "completions",
    "responses",
    "labels",
    "scores",
    "rewards",
    "segments",
    "input_ids",
)
_INVISIBLE = re.compile(
    "[\\s\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb"
    "\U000e0000-\U000e0fff]*"
)
"""Whitespace, control and format characters, fillers and selectors: nothing that can be seen."""
_NEEDED = "expected one prompt and one answer, as text"


def listed(names: Iterable[str]) -> str:
    """Return the names of fields in quotes, at most thirty of them."""
    quotes = [quoted(name) for name in names]
    more = [f"and {len(quotes) - _MOST_LISTED} more"] if len(quotes) > _MOST_LISTED else []
    return ", ".join(quotes[:_MOST_LISTED] + more) or "none"


def quoted(text: str) -> str:
    """Return a text in quotes, shortened if it is long."""
    return repr(text if len(text) <= _MOST_QUOTED else f"{text[:_MOST_QUOTED]}…")


def as_argument(text: str) -> str:
    """Return a text as an argument of a command in a shell, on one line whatever is in it."""
    if text.isprintable():
        return shlex.quote(text)
    signs = (it if it.isprintable() and it not in "\\'" else f"\\U{ord(it):08x}" for it in text)
    return f"$'{''.join(signs)}'"


def emptiness(text: str) -> str | None:
    """Return in what way a text is empty, as the end of a sentence; None if it can be seen."""
    if not _INVISIBLE.fullmatch(text):
        return None
    hidden = text.strip()
    code = f" (U+{ord(hidden[0]):04X})" if hidden else ""
    return f"contains only invisible characters{code}" if hidden else "is empty"


def as_text(value: object, what: str) -> str:
    """Return the value if it is text; `what` names it in messages.

    Raises:
        Fault: it is not a string, or contains an unpaired surrogate.
    """
    if not isinstance(value, str):
        raise Fault(Kind.WRONG_TYPE, f"{what} is {json_type(value)}; expected a string")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise Fault(Kind.LONE_SURROGATE, f"{what} contains an unpaired surrogate") from None
    return value


def as_list(value: object, what: str) -> list[object]:
    """Return the value if it is a list.

    Raises:
        Fault: it is not a list.
    """
    if not isinstance(value, list):
        raise Fault(Kind.WRONG_TYPE, f"{what} is {json_type(value)}; expected a list")
    return value


def read_field(value: Record, name: str) -> str:
    """Return the text in a required field.

    Raises:
        Fault: the field is missing or not text.
    """
    if name not in value:
        raise Fault(Kind.MISSING_FIELD, f"missing field {name!r} (fields: {listed(value)})")
    return as_text(value[name], f"field {name!r}")


def read_optional(value: Record, names: Sequence[str]) -> str:
    """Return the text in one of several equivalent fields.

    It is "" if all are absent or null, or hold nothing that can be seen, as blank cells do.

    Raises:
        Fault: a value is not text, or two of the fields are filled.
    """
    texts = {
        name: as_text(value[name], f"field {name!r}")
        for name in names
        if value.get(name) is not None
    }
    filled = [name for name, text in texts.items() if not emptiness(text)]
    if len(filled) > 1:
        detail = f"fields {filled[0]!r} and {filled[1]!r} have the same meaning"
        raise Fault(Kind.DUPLICATE_KEY, detail)
    return texts[filled[0]] if filled else ""


def read_name(value: Record, name: str) -> str:
    """Return the text or integer in a field that names something.

    It is "" as in `read_optional`.

    Raises:
        Fault: the value is neither text nor an integer.
    """
    number = value.get(name)
    if isinstance(number, int) and not isinstance(number, bool):
        return str(number)
    return read_optional(value, (name,))


def refuse_other_training(
    value: Record, named: Sequence[str], required: Sequence[str], *, has_turns: bool
) -> None:
    """Refuse a record for another training method, of which a part would otherwise be read.

    `named` are the fields that hold prompt and answer, which are never refused; `required` are
    those of them that must be present. Lists of answers, scores or tokens count only if one of
    these is absent, because next to a complete record they are notes about it.

    Raises:
        Fault: the record has preferences, verdicts or the like.
    """
    present = [name for name, it in value.items() if it is not None and name not in named]
    lists = [name for name in present if isinstance(value[name], list) and value[name]]
    is_whole = all(value.get(name) is not None for name in required)
    preferences = [name for name in present if name in _PREFERENCES]
    if not (set(_PREFERENCES) & set(named) or (is_whole and preferences == ["chosen"])):
        _refuse(preferences, "for preference training")
    if has_turns or len(named) > 1:
        verdicts = [name for name in present if name in _VERDICTS and isinstance(value[name], bool)]
        _refuse(verdicts, "for training on rated answers")
    if not is_whole:
        others = [name for name in lists if name in _LISTS_OF_OTHERS]
        _refuse(others, "for training on scores, steps or tokens")


def _refuse(names: Sequence[str], purpose: str) -> None:
    if names:
        what = " and ".join(repr(name) for name in names)
        plural = "fields" if len(names) > 1 else "field"
        verb = "are" if len(names) > 1 else "is"
        raise Fault(Kind.NOT_INSTRUCTIONS, f"{plural} {what} {verb} {purpose}; {_NEEDED}")


def refuse_misspelt(value: Record, needed: Sequence[str], used: frozenset[str]) -> None:
    """Refuse a field whose name is nearly that of an absent one.

    Only a value that would fit there counts, so that a list of `tags` is not taken for `tag`.
    Optional fields are considered if all `needed` ones are present.

    Raises:
        Fault: a field name is misspelled.
    """
    unknown = [name for name in value if name not in used]
    if not unknown:
        return
    missing = tuple(name for name in needed if name not in value)
    absent = missing or tuple(sorted(name for name in used if name not in value))
    for name in unknown:  # a very long name is not a misspelling and stays out of the cache
        near = _nearest(name, absent) if len(name) <= _MOST_QUOTED else None
        if near is not None and _fits(value[name], near):
            raise Fault(Kind.MISSPELT_FIELD, f"unknown field {name!r}; did you mean {near!r}?")


@lru_cache(maxsize=1024)
def _nearest(name: str, known: tuple[str, ...]) -> str | None:
    folded = {it.casefold(): it for it in known}
    near = difflib.get_close_matches(name.strip().casefold(), folded, n=1, cutoff=_NEAR)
    return folded[near[0]] if near else None


def _fits(value: object, name: str) -> bool:
    """Return whether the field of that name may have such a value."""
    if isinstance(value, list):
        return name in _LIST_FIELDS
    if isinstance(value, int) and not isinstance(value, bool):
        return name in ("tag", "group")
    return isinstance(value, str)
