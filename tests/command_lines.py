"""Command lines and YAML files as settings, and the message for a wrong one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from finetuning_exam.cli.arguments import Parsed, parse
from finetuning_exam.errors import UsageError
from finetuning_exam.settings import CompareSettings, TrainSettings


def train(*arguments: str) -> TrainSettings:
    """Return the settings of `fte train` with these arguments."""
    return parse(TrainSettings, "train", arguments).settings


def compare(*arguments: str) -> CompareSettings:
    """Return the settings of `fte compare` with these arguments."""
    return parse(CompareSettings, "compare", arguments).settings


def config(text: str | bytes, *arguments: str) -> Parsed[TrainSettings]:
    """`fte train --config c.yaml …` with this text in the file."""
    Path("c.yaml").write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return parse(TrainSettings, "train", ["--config", "c.yaml", *arguments])


def from_file(text: str, *arguments: str) -> TrainSettings:
    """The same settings, without the name of the file, to compare with others."""
    return replace(config(text, *arguments).settings, config=None)


def complaint(*arguments: str) -> str:
    """Return the message for a wrong command line."""
    with pytest.raises(UsageError) as caught:
        train(*arguments)
    assert caught.value.exit_code == 2
    return str(caught.value)


def config_complaint(text: str | bytes) -> str:
    """Return the message for a wrong YAML file."""
    with pytest.raises(UsageError) as caught:
        config(text)
    return str(caught.value)
