"""Specification of the meter and of metrics.jsonl."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetuning_exam.training.progress import Meter, MetricsFile, read_metrics


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def test_a_meter_counts_tokens_per_second_of_training() -> None:
    """Time before the start and pauses do not count; tokens over the rest is the speed."""
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


def test_a_new_start_forgets_pauses() -> None:
    """`start` begins again from nothing."""
    clock = Clock()
    meter = Meter(clock)
    meter.pause(3)
    meter.start()
    clock.now += 2
    assert meter.seconds == pytest.approx(2)


def test_a_meter_never_divides_by_zero() -> None:
    """With no time passed, or more paused than passed, the seconds are tiny and positive."""
    meter = Meter(Clock())
    meter.pause(10)
    assert 0 < meter.seconds < 1e-6
    assert meter.tokens_per_second == 0


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    """metrics.jsonl holds one JSON object a line, in order, readable after every line."""
    path = tmp_path / "metrics.jsonl"
    rows: list[dict[str, float | int]] = [{"step": 1, "loss": 2.5}, {"step": 2, "eval_loss": 1e-9}]
    for count, row in enumerate(rows, start=1):
        MetricsFile(path).append(row)
        assert read_metrics(path) == tuple(rows[:count])
    assert [json.loads(line) for line in path.read_bytes().split(b"\n") if line] == rows
    assert path.read_bytes().endswith(b"\n")


def test_no_file_is_no_rows(tmp_path: Path) -> None:
    """A run that logged nothing has no metrics."""
    assert read_metrics(tmp_path / "metrics.jsonl") == ()


def test_a_line_that_was_cut_by_a_kill_does_not_end_a_resumed_run(tmp_path: Path) -> None:
    """After a kill in the middle of a line, a resumed run appends and its metrics can be read."""
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "lo', encoding="utf-8")
    MetricsFile(path).append({"step": 2, "loss": 2.0})
    assert read_metrics(path) == ({"step": 1, "loss": 2.5}, {"step": 2, "loss": 2.0})
