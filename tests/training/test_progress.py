"""The throughput meter and metrics.jsonl."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetuning_exam.training.progress import Meter, MetricsFile, read_metrics


class Clock:
    """A clock that is advanced by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the current time in seconds."""
        return self.now


def test_a_meter_counts_tokens_per_second_of_training() -> None:
    """The speed is tokens over time, without the time before the start and during pauses."""
    clock = Clock()
    meter = Meter(clock)
    meter.tokens = 999
    clock.now += 50
    meter.start()
    assert meter.tokens == 0
    clock.now += 10
    meter.tokens += 300
    meter.pause(4)
    assert meter.seconds == pytest.approx(6)
    assert meter.tokens_per_second == pytest.approx(50)


def test_a_new_start_discards_pauses() -> None:
    """`start` resets everything."""
    clock = Clock()
    meter = Meter(clock)
    meter.pause(3)
    meter.start()
    clock.now += 2
    assert meter.seconds == pytest.approx(2)


def test_a_meter_never_divides_by_zero() -> None:
    """If no time has passed, or less than was paused, the seconds are tiny and positive."""
    meter = Meter(Clock())
    meter.pause(10)
    assert 0 < meter.seconds < 1e-6
    assert meter.tokens_per_second == 0


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    """metrics.jsonl holds one JSON object per line, in order, and is readable after every line."""
    path = tmp_path / "metrics.jsonl"
    rows: list[dict[str, float | int]] = [{"step": 1, "loss": 2.5}, {"step": 2, "eval_loss": 1e-9}]
    for count, row in enumerate(rows, start=1):
        MetricsFile(path).append(row)
        assert read_metrics(path) == tuple(rows[:count])
    assert [json.loads(line) for line in path.read_bytes().split(b"\n") if line] == rows
    assert path.read_bytes().endswith(b"\n")


def test_no_file_is_no_rows(tmp_path: Path) -> None:
    """A missing file is read as no rows."""
    assert read_metrics(tmp_path / "metrics.jsonl") == ()


def test_a_partial_line_is_replaced(tmp_path: Path) -> None:
    """After a kill in the middle of a line, a resumed run appends, and its metrics are readable."""
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "lo', encoding="utf-8")
    MetricsFile(path).append({"step": 2, "loss": 2.0})
    assert read_metrics(path) == ({"step": 1, "loss": 2.5}, {"step": 2, "loss": 2.0})
