"""A field of a record as text, or the fault that names it: missing, misspelt, for another use."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from finetuning_exam.data.findings import Fault, Kind
from finetuning_exam.data.reading.json_values import json_type

Record = Mapping[str, object]

_MOST_LISTED = 30
_MOST_SHOWN = 40
_NEAR = 0.8
"""How alike, from 0 to 1, a name must be to a known one to be taken for a misspelling."""
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
_MEDIA = ("images", "videos", "audios")
_NEEDED = "what is needed is one prompt with one answer, as text"


def listed(names: Iterable[str]) -> str:
    """Names of fields in quotes, the first thirty of them."""
    quoted = [shown(name) for name in names]
    more = [f"and {len(quoted) - _MOST_LISTED} more"] if len(quoted) > _MOST_LISTED else []
    return ", ".join(quoted[:_MOST_LISTED] + more) or "none"


def shown(text: str) -> str:
    """A short text in quotes, a long one cut."""
    return repr(text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…")


def as_text(value: object, what: str) -> str:
    """The value if it is text; `what` names it in messages.

    Raises:
        Fault: it is no string, or holds half of a surrogate pair.
    """
    if not isinstance(value, str):
        raise Fault(Kind.WRONG_TYPE, f"{what} is {json_type(value)} where text belongs")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise Fault(Kind.LONE_SURROGATE, f"{what} holds half of a surrogate pair") from None
    return value


def as_list(value: object, what: str) -> list[object]:
    """The value if it is a list.

    Raises:
        Fault: it is none.
    """
    if not isinstance(value, list):
        raise Fault(Kind.WRONG_TYPE, f"{what} is {json_type(value)} where a list belongs")
    return value


def read_field(value: Record, name: str) -> str:
    """The text in a field that must be there.

    Raises:
        Fault: it is missing or no text.
    """
    if name not in value:
        raise Fault(Kind.MISSING_FIELD, f"the field {name!r} is missing (fields: {listed(value)})")
    return as_text(value[name], f"the field {name!r}")


def read_optional(value: Record, names: Sequence[str]) -> str:
    """The text in one of several fields that mean the same, "" where all are absent or null.

    Raises:
        Fault: no text, or two of them say something.
    """
    texts = {
        name: as_text(value[name], f"the field {name!r}")
        for name in names
        if value.get(name) is not None
    }
    said = [name for name, text in texts.items() if text.strip()]
    if len(said) > 1:
        raise Fault(Kind.DUPLICATE_KEY, f"the fields {said[0]!r} and {said[1]!r} mean the same")
    return texts[said[0]] if said else next(iter(texts.values()), "")


def read_name(value: Record, name: str) -> str:
    """The text or whole number in a field that names something, "" where absent or null.

    Raises:
        Fault: neither text nor a whole number.
    """
    number = value.get(name)
    if isinstance(number, int) and not isinstance(number, bool):
        return str(number)
    return read_optional(value, (name,))


def refuse_other_training(
    value: Record, named: Sequence[str], required: Sequence[str], *, has_turns: bool
) -> None:
    """Refuse a record made for another training, of which a part would otherwise be read.

    `named` are the fields that hold prompt and answer, which are never refused; `required` are
    those of them that must be there. Lists of answers, scores or tokens count only where one of
    these is absent, because beside a whole record they are notes about it.

    Raises:
        Fault: it holds preferences, verdicts, tool definitions, images or the like.
    """
    there = [name for name, it in value.items() if it is not None and name not in named]
    lists = [name for name in there if isinstance(value[name], list) and value[name]]
    is_whole = all(value.get(name) is not None for name in required)
    preferences = [name for name in there if name in _PREFERENCES]
    if not (set(_PREFERENCES) & set(named) or (is_whole and preferences == ["chosen"])):
        _refuse(preferences, "for training on preferences")
    if has_turns:
        for name in ("tools", "functions"):
            if value.get(name) and value[name] != "[]":
                raise Fault(Kind.TOOL_TURN, f"the field {name!r} defines tools")
    if has_turns or len(named) > 1:
        verdicts = [name for name in there if name in _VERDICTS and isinstance(value[name], bool)]
        _refuse(verdicts, "for training on good and bad answers")
    _refuse(
        [name for name in lists if name in _MEDIA],
        "for training on more than text",
        Kind.UNSUPPORTED,
    )
    if not is_whole:
        others = [name for name in lists if name in _LISTS_OF_OTHERS]
        _refuse(others, "for training on scores, steps or tokens")


def _refuse(names: Sequence[str], purpose: str, kind: Kind = Kind.NOT_INSTRUCTIONS) -> None:
    if names:
        what = " and ".join(repr(name) for name in names)
        plural = "fields" if len(names) > 1 else "field"
        verb = "are" if len(names) > 1 else "is"
        raise Fault(kind, f"the {plural} {what} {verb} {purpose}; {_NEEDED}")


def refuse_misspelt(value: Record, needed: Sequence[str], used: frozenset[str]) -> None:
    """Refuse a field whose name is almost that of an absent one.

    Only a value that would fit there counts, so that a list of `tags` is no misspelt `tag`.
    Optional fields are looked at where all `needed` are there.

    Raises:
        Fault: a field is misspelt.
    """
    unknown = [name for name in value if name not in used]
    if not unknown:
        return
    missing = tuple(name for name in needed if name not in value)
    absent = missing or tuple(sorted(name for name in used if name not in value))
    for name in unknown:  # a very long name is no misspelling, and is kept out of the cache
        near = _nearest(name, absent) if len(name) <= _MOST_SHOWN else None
        if near is not None and _fits(value[name], near):
            raise Fault(
                Kind.MISSPELT_FIELD, f"the field {name!r} is not known; did you mean {near!r}?"
            )


@lru_cache(maxsize=1024)
def _nearest(name: str, known: tuple[str, ...]) -> str | None:
    folded = {it.casefold(): it for it in known}
    near = difflib.get_close_matches(name.strip().casefold(), folded, n=1, cutoff=_NEAR)
    return folded[near[0]] if near else None


def _fits(value: object, name: str) -> bool:
    """Whether a value may stand in the field of that name."""
    if isinstance(value, list):
        return name in _LIST_FIELDS
    if isinstance(value, int) and not isinstance(value, bool):
        return name in ("tag", "group")
    return isinstance(value, str)
