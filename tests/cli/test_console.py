"""Specification of how the commands say things."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from finetuning_exam.cli.console import (
    ProgressView,
    duration,
    make_console,
    print_line,
    print_unused_keys,
)
from finetuning_exam.training.progress import Progress


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


def _progress(step: int, validation_loss: float | None) -> Progress:
    return Progress(
        step=step,
        total_steps=20,
        epoch=0.5,
        loss=1.25 if step else None,
        validation_loss=validation_loss,
        tokens_per_second=1234.5,
        seconds_left=61.0 if step else math.nan,
    )


def test_progress_without_a_terminal_is_a_line_a_validation() -> None:
    """Where nobody watches, every new validation loss is one line, and steps are silent."""
    out = io.StringIO()
    with ProgressView(Console(file=out, width=200)) as view:
        for step, loss in [(0, None), (0, 2.5), (1, 2.5), (2, 2.0), (3, 2.0)]:
            view.show(_progress(step, loss))
    assert out.getvalue().splitlines() == [
        "  step    0/20 · validation loss 2.500",
        "  step    2/20 · loss 1.250 · validation loss 2.000 · 1,234 tokens/s · 1 min 01 s left",
    ]
