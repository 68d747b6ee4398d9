"""The text of `fte --help` and of `fte COMMAND --help`."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from textwrap import fill
from types import NoneType
from typing import TYPE_CHECKING, get_args

from finetuning_exam.cli.registry import COMMANDS, EXIT_CODES, Command
from finetuning_exam.launch import command_prefix

if TYPE_CHECKING:
    from finetuning_exam.setting_values import Flag
    from finetuning_exam.settings import CommonSettings

TEXT_COLUMN = 32
"""Where the text beside a flag starts."""
MAX_WIDTH = 100
"""Longer lines are hard to read, however wide the terminal is."""

_NO_BREAK = "\N{NO-BREAK SPACE}"
_PURPOSE = "Fine-tune a small language model on your own examples, then examine what it learned."
_TRAIN_DEFAULTS = "train.jsonl, the built-in base model and ./output"
_FLAG_RULES = (
    "Flags may be written with - or _, and lists with spaces or commas. A flag with [true|false] "
    "may stand alone (true) or start with --no_ (false). A YAML file given with --config "
    "holds the same names, without the leading hyphens. Flags of TRL, LlamaFactory, Axolotl, "
    "Unsloth and OpenAI are accepted where they mean the same, or answered."
)


def overview() -> str:
    """Return the commands, and how to learn more about one."""
    prefix = command_prefix()
    return "\n\n".join(
        [
            fill(_PURPOSE, _width()),
            f"Usage: {prefix} COMMAND [ARGUMENTS] [FLAGS]",
            "\n".join(["Commands:", *(f"  {it.name:<9}{it.purpose}" for it in COMMANDS.values())]),
            fill(f"Without arguments, `{prefix} train` uses {_TRAIN_DEFAULTS}.", _width()),
            fill(f"`{prefix} COMMAND --help` explains a command and its flags.", _width()),
            fill(f"Exit codes: {EXIT_CODES}", _width()),
        ]
    )


def command_help(command: Command) -> str:
    """Return the purpose of a command, examples, and its flags by groups."""
    from finetuning_exam.setting import Group
    from finetuning_exam.setting_values import flags_of

    prefix = command_prefix()
    texts = help_texts(command.settings)
    entries = [
        (flag, (_label(flag), _text(flag, texts.get(name, ""))))
        for name, flag in flags_of(command.settings).items()
    ]
    # A flag with an alias is used most, so it comes first in its group.
    entries.sort(key=lambda entry: not entry[0].alias)
    arguments = [entry for flag, entry in entries if flag.is_positional]
    parts = [
        fill(f"{command.purpose}.", _width()),
        f"Usage: {prefix} {' '.join([command.name, *(label for label, _ in arguments)])} [FLAGS]",
        _section("Examples", [(f"{prefix} {line}", does) for line, does in command.examples]),
        _section("Arguments", arguments),
    ]
    for group in get_args(Group):
        own = [entry for flag, entry in entries if flag.group == group and not flag.is_positional]
        if own:
            parts.append(_section(group, own))
    return "\n\n".join([*parts, fill(_FLAG_RULES, _width()), f"Exit codes: see {prefix} --help."])


def help_texts(kind: type[CommonSettings]) -> dict[str, str]:
    """Return the texts under the fields of settings, by name, each on one line.

    They are read from the source; where that was not installed, there are none.
    """
    import ast
    import inspect

    from finetuning_exam import settings

    try:
        tree = ast.parse(inspect.getsource(settings))
    except OSError:
        return {}
    bodies = {node.name: node.body for node in tree.body if isinstance(node, ast.ClassDef)}
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        body = bodies.get(base.__name__, [])
        for statement, below in pairwise(body):
            match statement, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found[name] = " ".join(text.split())
    return found


def _section(title: str, entries: Iterable[tuple[str, str]]) -> str:
    """Return a title, and below it labels with their texts beside or under them."""
    lines = [f"{title}:"]
    indent = " " * TEXT_COLUMN
    for label, text in entries:
        beside = fill(
            text.replace("Default: ", f"Default:{_NO_BREAK}"),
            _width(),
            initial_indent=indent,
            subsequent_indent=indent,
            break_on_hyphens=False,
        ).replace(_NO_BREAK, " ")
        if len(label) + 4 <= TEXT_COLUMN:
            lines.append(f"  {label}".ljust(TEXT_COLUMN) + beside.lstrip())
        else:
            lines += [f"  {label}", beside]
    return "\n".join(lines)


def _label(flag: Flag) -> str:
    """Return a flag's names and its value, such as `--seed INT`."""
    from finetuning_exam.setting_values import alternatives

    words = alternatives(flag.type, {int: "INT", float: "FLOAT", str: "TEXT", NoneType: "None"})
    if flag.default is None:
        words = tuple(word for word in words if word != "None")
    value = flag.metavar or "|".join(words)
    if flag.is_boolean:
        value = f"[{value}]"
    if flag.is_list:
        value += " ..."
    if flag.is_positional:
        return f"[{value}]"
    alias = f"--{flag.alias}, " if flag.alias else ""
    return f"{alias}--{flag.name} {value}"


def _text(flag: Flag, text: str) -> str:
    """Add the choices that do not stand beside the flag, and the default, to a flag's text."""
    from finetuning_exam.setting_values import alternatives

    words = alternatives(flag.type, {int: "", float: "", str: "", NoneType: ""})
    if flag.metavar and "" not in words:
        text += f" Choices: {', '.join(words)}."
    default = flag.default
    if default is None or default == ():
        return text if "Default: " in text else f"{text} Default: none."
    if isinstance(default, bool):
        return f"{text} Default: {str(default).lower()}."
    if isinstance(default, float):
        return f"{text} Default: {default:g}."
    return f"{text} Default: {' '.join(default) if isinstance(default, tuple) else default}."


def _width() -> int:
    import shutil

    return max(TEXT_COLUMN + 20, min(MAX_WIDTH, shutil.get_terminal_size().columns))
