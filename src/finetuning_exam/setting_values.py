"""A setting as a flag or YAML key: the values that it accepts, and how to parse them from text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from types import NoneType
from typing import Annotated, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from finetuning_exam.errors import UsageError
from finetuning_exam.settings import CommonSettings

Settings = TypeVar("Settings", bound=CommonSettings)


@dataclass(frozen=True, slots=True)
class Flag:
    """One setting of a command; `type` is its annotation in settings.py."""

    name: str
    type: object
    default: object
    group: str
    metavar: str
    alias: str
    is_positional: bool

    @property
    def is_list(self) -> bool:
        """Whether it takes several values."""
        return get_origin(self.type) is tuple

    @property
    def is_boolean(self) -> bool:
        """Whether it is true or false, or perhaps auto."""
        return bool in (self.type, *get_args(self.type))

    @property
    def is_optional(self) -> bool:
        """Whether None is one of its values."""
        return NoneType in get_args(self.type)


def flags_of(kind: type[CommonSettings]) -> dict[str, Flag]:
    """Return the settings of a command by their full names."""
    types = get_type_hints(kind, include_extras=True)
    return {
        field.name: Flag(
            field.name,
            types[field.name],
            field.default,
            field.metadata["group"],
            field.metadata["metavar"],
            field.metadata["flag_alias"],
            field.metadata["positional"],
        )
        for field in fields(kind)
    }


def full_name(flags: Mapping[str, Flag], word: str) -> str:
    """Return a setting's name as settings.py has it: without hyphens, and not its alias."""
    name = word.replace("-", "_")
    return next((it.name for it in flags.values() if it.alias and it.alias == name), name)


def value_of(flag: Flag, raw: object, where: str) -> object:
    """Return the value that a flag's text, or a value of a YAML file, stands for.

    Raises:
        UsageError: it stands for none; the message starts with `where`.
    """
    from pydantic import TypeAdapter, ValidationError

    given = _without_words(flag, raw)
    # pydantic takes true for 1, and "yes" for true.
    is_allowed = isinstance(given, bool) == flag.is_boolean or given == "auto"
    is_empty = given == () and flag.default != () and not flag.is_positional
    try:
        value: object = TypeAdapter(cast("type[object]", flag.type)).validate_python(given)
    except ValidationError as error:
        first = error.errors()[0]
        is_out_of_range = any(it["type"].startswith(("greater", "less")) for it in error.errors())
        wanted = expected(flag.type, with_range=is_out_of_range)
        raise UsageError(f"{where}: expected {wanted}, got {_shown(first['input'])}.") from None
    if is_empty or not is_allowed:
        raise UsageError(f"{where}: expected {expected(flag.type)}, got {_shown(raw)}.")
    return value


def validated(settings: Settings) -> Settings:
    """Return settings made in Python with every value as a flag would give it.

    A text that stands for a number becomes one, and one word or a list becomes a tuple.

    Raises:
        UsageError: a value is not of its setting's type, or out of its range.
    """
    values: dict[str, object] = {}
    for flag in flags_of(type(settings)).values():
        value = getattr(settings, flag.name)
        values[flag.name] = value_of(
            flag, list(value) if isinstance(value, tuple) else value, flag.name
        )
    return cast("Callable[..., Settings]", replace)(settings, **values)


def _without_words(flag: Flag, raw: object) -> object:
    """Replace None, true and false as words, and lists as text."""
    word = raw.lower() if isinstance(raw, str) else ""
    if flag.is_list:
        return _items(flag, raw if isinstance(raw, list) else [raw])
    if word == "none" and flag.is_optional:
        return None
    if word in ("true", "false") and flag.is_boolean:
        return word == "true"
    return raw


def _items(flag: Flag, parts: list[object]) -> tuple[object, ...]:
    """Split the words of a list at spaces and commas, which files and questions may contain."""
    if flag.is_positional:
        return tuple(parts)
    if parts in (["None"], ["none"]) and flag.default == ():
        return ()
    split = (re.split(r"[\s,]+", it) if isinstance(it, str) else [it] for it in parts)
    return tuple(item for group in split for item in group if item != "")


def expected(kind: object, *, text: str = "text", with_range: bool = False) -> str:
    """Describe the values of a type: `an integer or auto`, `auto, plain or chat`."""
    names = {int: "an integer", float: "a number", str: text, NoneType: "None"}
    *others, last = alternatives(kind, names, with_range=with_range)
    return f"{', '.join(others)} or {last}" if others else last


def alternatives(
    kind: object, names: Mapping[type, str], *, with_range: bool = False
) -> tuple[str, ...]:
    """Return the words of a type, and its kinds of values by their `names`."""
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return tuple(map(str, parts))
    if get_origin(kind) is Annotated:
        (name,) = alternatives(parts[0], names)
        return (_limited(name, parts[1:]) if with_range else name,)
    if parts:  # of a union, or of a list's items
        return tuple(
            word
            for part in parts
            if part is not Ellipsis
            for word in alternatives(part, names, with_range=with_range)
        )
    return ("true", "false") if kind is bool else (names[cast("type", kind)],)


def _limited(name: str, limits: tuple[object, ...]) -> str:
    """Add limits of annotated-types to a name: `an integer of at least 1`."""
    of = {
        key: value
        for limit in limits
        for key in ("ge", "gt", "le", "lt")
        if (value := getattr(limit, key, None)) is not None
    }
    if of.get("lt") == math.inf:
        name, of = name.replace("a number", "a finite number"), {**of, "lt": None}
    if isinstance(of.get("lt"), int) and name == "an integer":
        of = {**of, "le": of["lt"] - 1, "lt": None}
    if "ge" in of and "le" in of:
        return f"{name} from {of['ge']} to {of['le']}"
    words = {"ge": "of at least", "gt": "above", "le": "at most", "lt": "below"}
    named = [f"{words[key]} {value}" for key, value in of.items() if value is not None]
    return f"{name} {' and '.join(named)}"


def _shown(value: object) -> str:
    """Show a wrong value as the user wrote it: numbers bare, other text in quotes."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return repr(value)
    return str(value)
