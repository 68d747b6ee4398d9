"""Specification of how the commands say things."""

from __future__ import annotations

import pytest

from finetuning_exam.cli.console import (
    duration,
    make_console,
    print_line,
    print_unused_keys,
    print_without_effect,
)


@pytest.mark.parametrize(
    "text",
    ["x[ab].jsonl: [red]3[/red] records [/b]", ":smile: 100% 'text'", "word " * 100 + "end"],
)
def test_a_line_is_said_as_it_is(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No markup, no emoji codes, no line breaks: what is said can be copied whole."""
    print_line(make_console(), text)
    assert capsys.readouterr().out == f"{text}\n"


def test_unused_keys_are_said_with_their_file(capsys: pytest.CaptureFixture[str]) -> None:
    """Keys of the YAML file that a command does not use are named; without any nothing is said."""
    print_unused_keys(make_console(), "c.yaml", ("lora_r", "seed"), "compare")
    print_unused_keys(make_console(), "c.yaml", (), "compare")
    assert capsys.readouterr().out == "c.yaml: not used by fte compare: lora_r, seed\n"


def test_what_has_no_effect_is_said_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Flags of other tools that say what is done anyway are named; without any nothing is said."""
    print_without_effect(make_console(), ("--packing False", "strict (in c.yaml)"))
    print_without_effect(make_console(), ())
    assert capsys.readouterr().out == "Without effect here: --packing False, strict (in c.yaml)\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.6, "1 h 00 min"),
        (7800, "2 h 10 min"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    """Seconds, minutes and seconds, hours and minutes."""
    assert duration(seconds) == text
