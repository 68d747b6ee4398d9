"""Specification of the list of commands, and of the way the user started one."""

from __future__ import annotations

import re
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import finetuning_exam
from finetuning_exam.cli.arguments import parse
from finetuning_exam.cli.registry import COMMANDS, Command
from finetuning_exam.launch import command_prefix, is_under_uv

SOURCES = sorted(Path(finetuning_exam.__file__).parent.rglob("*.py"))
each_command = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)


@each_command
def test_a_command_has_its_module_and_settings(command: Command) -> None:
    """A command is run by the module of its name, with the settings that it names."""
    assert find_spec(f"finetuning_exam.cli.{command.name}") is not None
    assert command.settings.__name__ == command.settings_name
    assert command.purpose[0].isupper()
    assert len(command.purpose) <= 68  # one line in the list of commands


@each_command
def test_the_examples_are_valid(command: Command) -> None:
    """Every example in the help is a command line that the command accepts."""
    assert command.examples
    for line, purpose in command.examples:
        name, *arguments = shlex.split(line)
        assert name == command.name
        assert purpose
        parse(command.settings, name, arguments)


@pytest.mark.parametrize(
    ("under_uv", "program", "prefix"),
    [
        (True, "/x/.venv/bin/fte", "uv run fte"),
        (True, "/x/src/finetuning_exam/__main__.py", "uv run fte"),
        (True, "train_model.py", "uv run fte"),
        (False, "/usr/bin/fte", "fte"),
        (False, "train_model.py", "fte"),
        (False, "/x/src/finetuning_exam/__main__.py", "python -m finetuning_exam"),
        (False, "/x/pytest/__main__.py", "fte"),
        (False, "", "fte"),
    ],
)
def test_hints_start_as_the_user_did(
    under_uv: bool, program: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hint can be typed as it stands: it starts with what the user typed before the command."""
    monkeypatch.delenv("UV_RUN_RECURSION_DEPTH", raising=False)
    if under_uv:
        monkeypatch.setenv("UV_RUN_RECURSION_DEPTH", "1")
    monkeypatch.setattr(sys, "argv", [program, "train"])
    assert command_prefix() == prefix
    assert is_under_uv() == under_uv


def test_only_the_registry_knows_uv() -> None:
    """No other module assumes that the user has uv."""
    knowing = [it.name for it in SOURCES if re.search(r"\buv run\b", it.read_text("utf-8"))]
    assert knowing == ["launch.py"]


def test_no_module_imports_tyro() -> None:
    """Flags come from the settings without tyro."""
    assert not [it for it in SOURCES if re.search(r"^\s*(import|from) tyro", it.read_text("utf-8"))]
