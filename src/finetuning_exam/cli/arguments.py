"""Flags and YAML files become settings; every mistake names the flag and its hint."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Generic, TypeVar, get_args, get_type_hints

import tyro

from finetuning_exam.errors import UsageError
from finetuning_exam.settings import (
    SHORT_NAMES,
    CheckSettings,
    CommonSettings,
    CompareSettings,
    ExamCommandSettings,
    TrainSettings,
)

Settings = TypeVar("Settings", bound=CommonSettings)

KINDS: dict[str, type[CommonSettings]] = {
    "check": CheckSettings,
    "train": TrainSettings,
    "exam": ExamCommandSettings,
    "compare": CompareSettings,
}
"""The settings of each command."""


@dataclass(frozen=True, slots=True)
class Parsed(Generic[Settings]):
    """Settings, the keys of the YAML file that belong to other commands, and the whole command."""

    settings: Settings
    unused_keys: tuple[str, ...]
    command_line: str


def parse(kind: type[Settings], command: str, arguments: Sequence[str]) -> Parsed[Settings]:
    """Settings of one command from its arguments and from the YAML file they name.

    Raises:
        UsageError: an unknown flag or key (with the nearest name), or a value of the wrong kind.
        SystemExit: after printing the help that was asked for.
    """
    command_line = shlex.join(["fte", command, *arguments])
    settings = _from_flags(kind, command, arguments, kind())
    if settings.config is None:
        return Parsed(_validated(kind, _values(settings), "--"), (), command_line)
    defaults, unused = _from_yaml(kind, settings.config)
    settings = _from_flags(kind, command, arguments, defaults)
    return Parsed(_validated(kind, _values(settings), "--"), unused, command_line)


def _from_flags(
    kind: type[Settings], command: str, arguments: Sequence[str], default: Settings
) -> Settings:
    words = _with_bare_booleans(kind, arguments)
    if {"-h", "--help"} & set(words):
        tyro.cli(kind, prog=f"fte {command}", args=words, default=default, use_underscores=True)
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            settings, unknown = tyro.cli(
                kind,
                prog=f"fte {command}",
                args=words,
                default=default,
                use_underscores=True,
                return_unknown_args=True,
            )
    except SystemExit:
        raise UsageError(_fault_in(said.getvalue()), f"See fte {command} --help.") from None
    if unknown:
        flag = next((word for word in unknown if word.startswith("-")), unknown[0])
        raise UsageError(_unknown_flag(flag, kind), f"See fte {command} --help.")
    return settings


def _with_bare_booleans(kind: type[CommonSettings], arguments: Sequence[str]) -> list[str]:
    """Flags with `True` or `false` after them, as Transformers writes them, as tyro reads them.

    Where a setting may be `auto` too, tyro wants a value, capitalized.
    """
    hints = get_type_hints(kind)
    booleans = {name for name, hint in hints.items() if hint is bool}
    with_auto = {name for name, hint in hints.items() if bool in get_args(hint)}
    words: list[str] = []
    rest = list(arguments)
    while rest:
        flag, equals, value = rest.pop(0).partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if flag.startswith("--") and name in booleans:
            if not equals and rest and rest[0].lower() in ("true", "false"):
                value = rest.pop(0)
            words.append(f"--no_{name}" if value.lower() == "false" else f"--{name}")
            if equals and value.lower() not in ("true", "false"):
                raise UsageError(f"--{name}: {value!r} is not true or false.")
        elif flag.startswith("--") and name in with_auto:
            if not equals:
                is_given = rest and rest[0].lower() in ("true", "false", "auto")
                value = rest.pop(0) if is_given else "true"
            is_boolean = value.lower() in ("true", "false")
            words += [f"--{name}", value.capitalize() if is_boolean else value]
        elif flag.startswith("--no") and name.removeprefix("no_") in with_auto:
            words += [f"--{name.removeprefix('no_')}", "False"]
        else:
            words.append(f"{flag}{equals}{value}")
    return words


def _from_yaml(kind: type[Settings], path: str) -> tuple[Settings, tuple[str, ...]]:
    """Settings from a YAML file, and which of its keys only other commands know."""
    import yaml

    try:
        text = Path(path).read_text(encoding="utf-8")
        content = yaml.safe_load(text)
    except OSError as error:
        raise UsageError(f"--config {path}: cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"--config {path}: not valid YAML ({reason}).") from error
    if not isinstance(content, dict):
        raise UsageError(f"--config {path}: holds no settings.", "Write one `name: value` a line.")
    known = {field.name for settings in KINDS.values() for field in fields(settings)} - {"config"}
    own = {field.name for field in fields(kind)}
    lists = {field.name for field in fields(kind) if isinstance(field.default, tuple)}
    values: dict[str, object] = {}
    unused: list[str] = []
    twice = [name for name, times in Counter(_yaml_names(text)).items() if times > 1]
    if twice:
        raise UsageError(f"{path}: the setting {twice[0]!r} occurs twice.")
    for key, value in content.items():
        name = _full_name(str(key))
        if name not in known:
            raise UsageError(f"{path}: unknown setting {str(key)!r}.{_did_you_mean(name, known)}")
        if name in own:
            values[name] = _as_tuple(value) if name in lists else value
        else:
            unused.append(name)
    return _validated(kind, values, f"{path}: "), tuple(unused)


def _validated(kind: type[Settings], values: dict[str, object], prefix: str) -> Settings:
    """Settings of which pydantic finds every value of its kind and in its range."""
    from pydantic import TypeAdapter, ValidationError

    hints = get_type_hints(kind)
    for name in (name for name, value in values.items() if isinstance(value, bool)):
        if bool not in (hints[name], *get_args(hints[name])):  # pydantic would take true for 1
            raise UsageError(f"{prefix}{name}: true or false is no value for it.")
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        setting = first["loc"][0] if first["loc"] else ""
        told = first["msg"][:1].lower() + first["msg"][1:]
        raise UsageError(f"{prefix}{setting}: {told}, not {first['input']!r}.") from None


def _yaml_names(text: str) -> list[str]:
    """The settings a YAML mapping names, those that occur twice too (the parser drops one)."""
    import yaml

    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(node, yaml.MappingNode):
        return []
    return [_full_name(str(key.value)) for key, _ in node.value]


def _full_name(key: str) -> str:
    return SHORT_NAMES.get(key, key.replace("-", "_"))


def _as_tuple(value: object) -> object:
    """A YAML list, or a single text that stands for a list of one."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _values(settings: CommonSettings) -> dict[str, object]:
    return {field.name: getattr(settings, field.name) for field in fields(settings)}


def _unknown_flag(flag: str, kind: type[CommonSettings]) -> str:
    if not flag.startswith("-"):
        return f"unexpected argument {flag!r}."
    name = flag.lstrip("-").split("=")[0].replace("-", "_")
    names = [field.name for field in fields(kind)]
    names += [short for short, long in SHORT_NAMES.items() if long in names]
    return f"unknown flag {flag}.{_did_you_mean(name, names, '--')}"


def _did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    found = get_close_matches(name, list(known), n=1)
    return f" Did you mean {prefix}{found[0]}?" if found else ""


def _fault_in(boxed: str) -> str:
    """The fault in tyro's box as one line, such as `--seed: 'x' is not INT.`."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", boxed)
    text = " ".join(line.strip("│╭╰─╮╯|+ ") for line in plain.splitlines())
    flag = re.search(r"Error parsing (--\w+)", text)
    value = re.search(r"instantiated from \['(.*?)'\]|: '(.*?)'(?: |$)", text)
    kind = re.search(r"Argument helptext:\s+--\w+ (\S+) ", text)
    if flag and value and kind:
        wanted = kind[1].replace("{", "").replace("}", "").replace("|", " or ")
        return f"{flag[1]}: {(value[1] or value[2])!r} is not {wanted}."
    told = re.search(r"(?:Missing argument|Invalid choice)[\W_]+(\w.*?)[\s─-]*For full", text)
    return (told[1] if told else text).strip()
