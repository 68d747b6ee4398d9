"""Turn flags and YAML files into settings; every error names the flag, or the file and key."""

from __future__ import annotations

import shlex
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from finetuning_exam.cli.config_file import ConfigFile, read_config
from finetuning_exam.cli.registry import COMMANDS
from finetuning_exam.cli.translation import (
    checked_value,
    guess_for,
    is_flag,
    is_item,
    takes_word,
    translate,
)
from finetuning_exam.errors import UsageError
from finetuning_exam.setting_values import (
    Flag,
    alternatives,
    expected,
    flags_of,
    full_name,
)
from finetuning_exam.settings import CommonSettings

Settings = TypeVar("Settings", bound=CommonSettings)


@dataclass(frozen=True, slots=True)
class Parsed(Generic[Settings]):
    """Settings, what was given beside them, and the whole command in the names of this project."""

    settings: Settings
    unused_keys: tuple[str, ...]
    """Keys of the YAML file that belong to other commands."""
    without_effect: tuple[str, ...]
    """Flags and keys of other tools that say what is done anyway."""
    command_line: str


def parse(kind: type[Settings], command: str, arguments: Sequence[str]) -> Parsed[Settings]:
    """Read the settings of one command from its arguments and from the YAML file they name.

    Raises:
        UsageError: an unknown flag or key, or a value that the setting cannot have.
    """
    flags = flags_of(kind)
    translation = translate(flags, command, arguments)
    values: dict[str, object] = {}
    for name, words in _sort_words(flags, command, translation.words).items():
        flag = flags[name]
        where = flag.metavar if flag.is_positional else f"--{name}"
        values[name] = checked_value(flag, words if flag.is_list else words[-1], where)
    file = ConfigFile()
    if values.get("config") is not None:
        file = read_config(flags, command, str(values["config"]))
        values = {**file.values, **values}
    settings = cast("Callable[..., Settings]", kind)(**values)
    without_effect = translation.without_effect
    if file.without_effect:
        without_effect.append(f"{', '.join(file.without_effect)} (in {values['config']})")
    line = shlex.join(["fte", command, *translation.words])
    return Parsed(settings, tuple(file.unused_keys), tuple(without_effect), line)


def asks_for_help(arguments: Sequence[str]) -> bool:
    """Return whether `--help` or `-h` is among the flags."""
    flags = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--help" in flags or "-h" in flags


def _sort_words(
    flags: Mapping[str, Flag], command: str, arguments: Sequence[str]
) -> dict[str, list[str]]:
    """Sort the words of a command line by the settings they belong to.

    A repeated flag adds to its list; the last of several single values counts. Everything after a
    bare `--` is an argument.
    """
    given: dict[str, list[str]] = {}
    positional = next(flag for flag in flags.values() if flag.is_positional)
    rest = deque(arguments)
    while rest:
        word = rest.popleft()
        if word == "--":
            if rest:
                given.setdefault(positional.name, []).extend(rest)
            break
        if is_flag(word):
            flag, values = _read_flag(flags, command, word, rest)
        else:
            flag, values = positional, [word]
        given.setdefault(flag.name, []).extend(values)
    words = given.get(positional.name, [])
    if len(words) > 1 and not positional.is_list:
        raise UsageError(f"unexpected argument {words[1]!r}.", _see_help(command))
    return given


def _read_flag(
    flags: Mapping[str, Flag], command: str, word: str, rest: deque[str]
) -> tuple[Flag, list[str]]:
    """Read one flag, and take its values from the words after it.

    A boolean stands alone, before true or false (or auto, where it has that), or after `no_`.
    """
    written, equals, value = word.partition("=")
    name = full_name(flags, written.removeprefix("--")) if written.startswith("--") else ""
    flag = flags.get(name)
    if flag is not None:
        return flag, [value] if equals else _take_values(flag, rest)
    negated = flags.get(name.removeprefix("no_"))
    if name.startswith("no_") and negated is not None and negated.is_boolean:
        if equals:
            raise UsageError(f"{written}: takes no value.", f"Use --{negated.name} {value}.")
        return negated, ["false"]
    raise _unknown_flag(flags, command, written)


def _take_values(flag: Flag, rest: deque[str]) -> list[str]:
    if flag.is_boolean:
        words = alternatives(flag.type, {})
        is_value = bool(rest) and (rest[0].lower() in words or takes_word(flag, rest[0]))
        return [rest.popleft()] if is_value else ["true"]
    values: list[str] = []
    while rest and not is_flag(rest[0]) and (flag.is_list or not values):
        if flag.is_list and not is_item(flag, rest[0]):
            break
        values.append(rest.popleft())
    if not values:
        wanted = expected(flag.type, text=flag.metavar or "text")
        raise UsageError(f"--{flag.name}: expected {wanted}, got no value.")
    return values


def _unknown_flag(flags: Mapping[str, Flag], command: str, written: str) -> UsageError:
    name = written.lstrip("-").replace("-", "_")
    names = _flag_names(flags)
    having = [it.name for it in COMMANDS.values() if name in _flag_names(flags_of(it.settings))]
    if having and name not in names:
        answer = f"It belongs to {' and '.join(f'fte {it}' for it in having)}."
    else:
        answer = f"{guess_for(name, names, '--')} {_see_help(command)}".strip()
    return UsageError(f"unknown flag {written}.", answer)


def _flag_names(flags: Mapping[str, Flag]) -> list[str]:
    """Return the names after `--`, with aliases and negated booleans."""
    negated = [f"no_{flag.name}" for flag in flags.values() if flag.is_boolean]
    return [*flags, *(it.alias for it in flags.values() if it.alias), *negated]


def _see_help(command: str) -> str:
    return f"See fte {command} --help."
