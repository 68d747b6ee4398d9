"""Specification of `fte --help` and `fte COMMAND --help`."""

from __future__ import annotations

import inspect
import re
from typing import get_args

import pytest

from finetuning_exam.cli import main, run_command
from finetuning_exam.cli.help import MAX_WIDTH, command_help, help_texts, overview
from finetuning_exam.cli.registry import COMMANDS, Command
from finetuning_exam.setting import Group
from finetuning_exam.setting_values import Flag, flags_of
from finetuning_exam.settings import TrainSettings

each_command = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)


@pytest.fixture(autouse=True)
def started_as_fte(monkeypatch: pytest.MonkeyPatch) -> None:
    """The help is that of a user who types `fte`, in a wide terminal."""
    monkeypatch.delenv("UV_RUN_RECURSION_DEPTH", raising=False)
    monkeypatch.setattr("sys.argv", ["/usr/bin/fte"])
    monkeypatch.setenv("COLUMNS", "200")


def _groups(help_text: str) -> dict[str, list[str]]:
    """The full names of the flags below each heading."""
    found: dict[str, list[str]] = {}
    for block in help_text.split("\n\n"):
        title, _, body = block.partition(":\n")
        names = re.findall(r"^  (?:--\w+, )?--(\w+) ", body, flags=re.MULTILINE)
        if names:
            found[title] = names
    return found


def _flags(command: Command) -> dict[str, Flag]:
    return flags_of(command.settings)


@each_command
def test_every_flag_is_in_exactly_one_group(command: Command) -> None:
    """Each flag stands once, below the heading of its group, and groups come in one order."""
    groups = _groups(command_help(command))
    assert list(groups) == [group for group in get_args(Group) if group in groups]
    shown = [(name, group) for group, names in groups.items() for name in names]
    flags = [flag for flag in _flags(command).values() if not flag.is_positional]
    assert sorted(shown) == sorted((flag.name, flag.group) for flag in flags)


@each_command
def test_help_shows_every_setting_with_its_text(command: Command) -> None:
    """The help has every flag's whole text, its alias and default, and the command's purpose."""
    shown = " ".join(command_help(command).split())
    for name, flag in _flags(command).items():
        assert help_texts(command.settings)[name] in shown
        assert not flag.alias or f"--{flag.alias}, --{name} " in shown
        if flag.is_positional:
            assert f"[{flag.metavar}" in shown
    assert shown.startswith(f"{command.purpose}. Usage: fte {command.name} [")
    for line, _ in command.examples:
        assert f"fte {line} " in shown


@each_command
@pytest.mark.parametrize("columns", ["80", "200"])
def test_help_fits_the_terminal(
    command: Command, columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line is wider than the terminal, nor than is easy to read; all of it is ASCII."""
    monkeypatch.setenv("COLUMNS", columns)
    for text in (overview(), command_help(command)):
        assert max(map(len, text.splitlines())) <= min(int(columns), MAX_WIDTH)
        assert text.isascii()
        assert not [line for line in text.splitlines() if line != line.rstrip()]


@pytest.mark.parametrize(
    "line",
    [
        "--model, --model_name_or_path MODEL",
        "--seed INT  Seed",
        "--template auto|plain|chat",
        "--learning_rate FLOAT|auto",
        "--early_stopping_patience INT|None",
        "--max_steps INT  Opt",
        "--gradient_checkpointing [true|false|auto]",
        "--skip_bad_rows [true|false]",
        "--lora_target_modules NAME ...",
        "Choices: linear, cosine, constant, constant_with_warmup. Default: cosine.",
        "in which",
    ],
)
def test_a_flag_shows_its_value_and_default(line: str) -> None:
    """The value's type stands beside the flag; long lists of choices stand in the text."""
    shown = re.sub(r" +", " ", command_help(COMMANDS["train"]).replace("\n", " "))
    assert (re.sub(r" +", " ", line) in shown) == (line != "in which")


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("seed", "Default: 42."),
        ("lora_dropout", "Default: 0."),
        ("skip_bad_rows", "Default: false."),
        ("lora_target_modules", "Default: all-linear."),
        ("report_to", "Choices: tensorboard, wandb, mlflow, trackio. Default: none."),
        ("general_file", "Default: built-in sample."),
    ],
)
def test_every_text_ends_with_the_default(name: str, end: str) -> None:
    """The default is written as a user would give it."""
    shown = " ".join(command_help(COMMANDS["train"]).split())
    text = help_texts(TrainSettings)[name].removesuffix(f" {end}")
    assert f"{text} {end}" in shown


def test_help_starts_as_the_user_did(monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples can be typed as they stand."""
    monkeypatch.setenv("UV_RUN_RECURSION_DEPTH", "1")
    assert "\n  uv run fte train mine.jsonl --model path/to/model" in command_help(
        COMMANDS["train"]
    )
    assert "Usage: uv run fte COMMAND" in overview()


def test_help_without_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only compiled modules are installed, the flags stand without their texts."""

    def without_source(module: object) -> str:
        raise OSError("could not get source code")

    monkeypatch.setattr(inspect, "getsource", without_source)
    assert help_texts(TrainSettings) == {}
    shown = command_help(COMMANDS["train"])
    assert re.search(r"^  --seed INT +Default: 42\.$", shown, flags=re.MULTILINE)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["-h"], ["x.jsonl", "--nonsense", "--help"], ["--seed", "-h"]]
)
def test_help_wins(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Help is shown whatever else is on the command line, and nothing is done."""
    assert run_command("train", arguments) == 0
    assert capsys.readouterr().out == f"{command_help(COMMANDS['train'])}\n"


def test_help_after_two_hyphens_is_an_argument(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `--`, a file may be called --help."""
    assert main(["check", "--", "--help"]) == 2
    assert capsys.readouterr().err.startswith("fte check: --help: no such file.")
