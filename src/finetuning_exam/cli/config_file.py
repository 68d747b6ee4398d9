"""Read settings from a YAML file; every error names the file and the key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from finetuning_exam.cli.registry import COMMANDS
from finetuning_exam.cli.translation import (
    checked_value,
    guess_for,
    is_foreign_key,
    translate_key,
)
from finetuning_exam.errors import UsageError
from finetuning_exam.setting_values import Flag, flags_of, full_name


@dataclass(slots=True)
class ConfigFile:
    """What a YAML file gives to a command."""

    values: dict[str, object] = field(default_factory=dict)
    unused_keys: list[str] = field(default_factory=list)
    """Settings that only other commands know."""
    without_effect: list[str] = field(default_factory=list)
    """Keys of other tools that say what is done anyway."""


def read_config(flags: Mapping[str, Flag], command: str, path: str) -> ConfigFile:
    """Read the settings of a command from a YAML file, in our names or those of other tools.

    Raises:
        UsageError: the file cannot be read, a key is unknown or given twice, or a value cannot be.
    """
    known = {
        name: flag
        for other in COMMANDS.values()
        for name, flag in flags_of(other.settings).items()
        if name != "config"
    }
    content, keys = _load_yaml(path)
    lines = dict(keys)
    found, names = ConfigFile(), dict[str, str]()
    for key, given in content.items():
        name, value = full_name(known, key), given
        where, is_used = f"{path}: {name}", name in flags
        if not is_used and is_foreign_key(key, given, name, name in known):
            try:
                entry = translate_key(key, given, flags, command)
            except UsageError as error:
                place = f"{path}:{lines[key]}" if key in lines else path
                raise UsageError(f"{place}: {error.what}", error.hint) from None
            if entry is None:
                found.without_effect += [] if given is None else [key]
                continue
            name, value, is_used = entry
            where = f"{path}: {name} ({key})"
        if name not in known:
            aliases = [flag.alias for flag in known.values() if flag.alias]
            hint = guess_for(name, [*known, *aliases])
            raise UsageError(f"{path}: unknown setting {key!r}.", hint)
        names[key] = name
        if is_used:
            found.values[name] = checked_value(flags[name], value, where)
        else:
            found.unused_keys.append(name)
    _check_repeats(path, [(key, names[key]) for key, _ in keys if key in names])
    return found


def _check_repeats(path: str, keys: list[tuple[str, str]]) -> None:
    """Raise an error if two keys, each with its setting, are about the same setting."""
    by_name: dict[str, list[str]] = {}
    for key, name in keys:
        by_name.setdefault(name, []).append(key)
    for name, given in by_name.items():
        if len(given) > 1:
            others = [key for key in given if key.replace("-", "_") != name]
            also = f" ({', '.join(given)})" if others else ""
            times = f"given {len(given)} times{also}"
            raise UsageError(f"{path}: {name}: {times}.", "Keep one of them.")


def _load_yaml(path: str) -> tuple[dict[str, object], list[tuple[str, int]]]:
    """Read a YAML mapping; also return its keys with their lines (the loader drops repeats)."""
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
        (str(key.value), key.start_mark.line + 1) for key, _ in node.value
    ]
