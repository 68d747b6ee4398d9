"""Turn flags and YAML files into settings; every error names the flag, or the file and key."""

from __future__ import annotations

import re
import shlex
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar, cast

from finetuning_exam.cli.names import answer_for, guess_for, name_elsewhere
from finetuning_exam.cli.registry import COMMANDS
from finetuning_exam.errors import UsageError
from finetuning_exam.setting_values import (
    Flag,
    alternatives,
    expected,
    flags_of,
    full_name,
    value_of,
)
from finetuning_exam.settings import CommonSettings

Settings = TypeVar("Settings", bound=CommonSettings)


@dataclass(frozen=True, slots=True)
class Parsed(Generic[Settings]):
    """Settings, the keys of the YAML file that belong to other commands, and the whole command."""

    settings: Settings
    unused_keys: tuple[str, ...]
    command_line: str


def parse(kind: type[Settings], command: str, arguments: Sequence[str]) -> Parsed[Settings]:
    """Read the settings of one command from its arguments and from the YAML file they name.

    Raises:
        UsageError: an unknown flag or key, or a value that the setting cannot have.
    """
    flags = flags_of(kind)
    values: dict[str, object] = {}
    for name, words in _sort_words(flags, command, arguments).items():
        flag = flags[name]
        where = flag.metavar if flag.is_positional else f"--{name}"
        values[name] = value_of(flag, words if flag.is_list else words[-1], where)
    unused: tuple[str, ...] = ()
    if values.get("config") is not None:
        in_file, unused = _read_yaml(flags, str(values["config"]))
        values = {**in_file, **values}
    settings = cast("Callable[..., Settings]", kind)(**values)
    return Parsed(settings, unused, shlex.join(["fte", command, *arguments]))


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
    positional: list[str] = []
    rest = deque(arguments)
    while rest:
        word = rest.popleft()
        if word == "--":
            positional += rest
            break
        if _is_flag(word):
            flag, values = _read_flag(flags, command, word, rest)
            given.setdefault(flag.name, []).extend(values)
        else:
            positional.append(word)
    for flag in flags.values():
        if flag.is_positional and positional:
            if len(positional) > 1 and not flag.is_list:
                raise UsageError(f"unexpected argument {positional[1]!r}.", _see_help(command))
            given[flag.name] = positional
    return given


def _is_flag(word: str) -> bool:
    """Return whether a word is meant as a flag: not a negative number, nor `- such a question`."""
    return word.startswith("-") and not re.match(r"-$|-[\d.]|[^=]*\s", word)


def _read_flag(
    flags: Mapping[str, Flag], command: str, word: str, rest: deque[str]
) -> tuple[Flag, list[str]]:
    """Read one flag, and take its values from the words after it.

    A boolean stands alone, before true or false (or auto, where it has that), or after `no_`.
    """
    written, equals, value = word.partition("=")
    name = full_name(flags, written.removeprefix("--")) if written.startswith("--") else ""
    flag = flags.get(name)
    if flag is not None and not flag.is_positional:
        return flag, [value] if equals else _take_values(flag, rest)
    negated = flags.get(name.removeprefix("no_"))
    if name.startswith("no_") and negated is not None and negated.is_boolean:
        if equals:
            raise UsageError(f"{written}: takes no value.", f"Use --{negated.name} {value}.")
        return negated, ["false"]
    raise _unknown_flag(flags, command, written)


def _take_values(flag: Flag, rest: deque[str]) -> list[str]:
    if flag.is_boolean:
        is_value = bool(rest) and rest[0].lower() in alternatives(flag.type, {})
        return [rest.popleft()] if is_value else ["true"]
    values: list[str] = []
    while rest and not _is_flag(rest[0]) and (flag.is_list or not values):
        values.append(rest.popleft())
    if not values:
        wanted = expected(flag.type, text=flag.metavar or "text")
        raise UsageError(f"--{flag.name}: expected {wanted}, got no value.")
    return values


def _unknown_flag(flags: Mapping[str, Flag], command: str, written: str) -> UsageError:
    name = written.lstrip("-").replace("-", "_")
    names = _flag_names(flags)
    here = flags.get(name_elsewhere(name))
    having = [it.name for it in COMMANDS.values() if name in _flag_names(flags_of(it.settings))]
    if here is not None and here.is_positional:
        answer = f"Give it without a flag: fte {command} {here.metavar}."
    elif having and name not in names:
        answer = f"It belongs to {' and '.join(f'fte {it}' for it in having)}."
    else:
        answer = answer_for(name, names, "--")
    guess = f"{guess_for(name, names, '--')} {_see_help(command)}".strip()
    return UsageError(f"unknown flag {written}.", answer or guess)


def _flag_names(flags: Mapping[str, Flag]) -> list[str]:
    """Return the names after `--`, with aliases and negated booleans."""
    named = [flag for flag in flags.values() if not flag.is_positional]
    negated = [f"no_{flag.name}" for flag in named if flag.is_boolean]
    return [*(flag.name for flag in named), *(it.alias for it in named if it.alias), *negated]


def _see_help(command: str) -> str:
    return f"See fte {command} --help."


def _read_yaml(flags: Mapping[str, Flag], path: str) -> tuple[dict[str, object], tuple[str, ...]]:
    """Read settings from a YAML file; also return its keys that only other commands know."""
    known = {
        name: flag
        for command in COMMANDS.values()
        for name, flag in flags_of(command.settings).items()
        if name != "config"
    }
    aliases = [flag.alias for flag in known.values() if flag.alias]
    content, keys = _load_yaml(path)
    values: dict[str, object] = {}
    unused: list[str] = []
    for key, value in content.items():
        name = full_name(known, key)
        if name not in known:
            names = [*known, *aliases]
            hint = answer_for(name, names) or guess_for(name, names)
            raise UsageError(f"{path}: unknown setting {key!r}.", hint)
        if name in flags:
            values[name] = value_of(flags[name], value, f"{path}: {name}")
        else:
            unused.append(name)
    for name, times in Counter(full_name(known, key) for key in keys).items():
        if times > 1:
            raise UsageError(f"{path}: {name}: given {times} times.", "Keep one of them.")
    return values, tuple(unused)


def _load_yaml(path: str) -> tuple[dict[str, object], list[str]]:
    """Read a YAML mapping; also return its keys as written (the loader drops repeated ones)."""
    import yaml

    try:
        text = Path(path).read_text(encoding="utf-8")
        content = yaml.safe_load(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        raise UsageError(f"--config {path}: cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"--config {path}: not valid YAML ({reason}).") from error
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        # PyYAML lets such errors of Python through, as for the date 2026-13-01.
        raise UsageError(
            f"--config {path}: holds a value that is not what it looks like, such as a date that "
            "does not exist, or that is nested too deeply.",
            "Write each value as a plain number or text.",
        ) from error
    if not isinstance(content, dict) or not isinstance(node, yaml.MappingNode):
        raise UsageError(
            f"--config {path}: holds no settings.", "Write one `name: value` per line."
        )
    return {str(key): value for key, value in content.items()}, [
        str(key.value) for key, _ in node.value
    ]
