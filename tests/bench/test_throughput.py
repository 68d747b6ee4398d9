"""Specification of bench/throughput.py, bench/roofline.py and bench/loss_curves.py: how figures are
made of what was recorded, and what stops a comparison that would not be fair.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import runs
import throughput_report
from loss_curves import curves_of
from roofline import Rate, combine
from runs import ARMS, Run, Step
from throughput_report import Measured

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.encoding.labels import IGNORED

ROWS = (Encoded((5, 6, 7), (IGNORED, 6, 7), 1, 2), Encoded((8, 9), (IGNORED, 9), 1, 1))
IDS = [[5, 6, 7], [8, 9]]
LABELS = [[IGNORED, 6, 7], [IGNORED, 9]]


def _steps(*ended_and_tokens: tuple[float, int]) -> tuple[Step, ...]:
    return tuple(Step(ended, tokens, 2.0) for ended, tokens in ended_and_tokens)


def _run(speed: float, steps: tuple[Step, ...]) -> Run:
    return Run(speed, None, 20.0, 2_000_000_000, 60.0, 2, "float32", steps)


STEPS = _steps((10, 100), (12, 200), (13, 300), (16, 500))


def test_the_first_two_steps_are_not_counted() -> None:
    """Speed is the tokens after the second step over the seconds after it."""
    assert runs.tokens_per_second(STEPS) == (500 - 200) / (16 - 12)


def test_of_two_steps_one_is_counted() -> None:
    """Where there are fewer than three steps, all but the first count; of one, none could."""
    assert runs.tokens_per_second(STEPS[:2]) == (200 - 100) / (12 - 10)
    with pytest.raises(SystemExit, match="at least two steps"):
        runs.tokens_per_second(STEPS[:1])


def test_steps_of_metrics() -> None:
    """A training row's seconds are its tokens over its rate; rows of validation are no steps."""
    rows = [
        {"step": 1, "loss": 3.0, "tokens": 100, "tokens_per_second": 50.0},
        {"step": 1, "eval_loss": 3.1},
        {"step": 2, "loss": 2.5, "tokens": 300, "tokens_per_second": 75.0},
    ]
    own, seen = runs.steps_of_metrics(rows, [11.0, 11.5, 13.0])
    assert own == (Step(2.0, 100, 3.0), Step(4.0, 300, 2.5))
    assert seen == (Step(11.0, 100, 3.0), Step(13.0, 300, 2.5))


def test_the_same_rows_in_both() -> None:
    """Equal ids and labels pass."""
    runs.check_same_rows(ROWS, IDS, LABELS)


@pytest.mark.parametrize(
    ("ids", "labels", "expected"),
    [
        (IDS[:1], LABELS[:1], "TRL trains on 1 rows, fte on 2"),
        ([[5, 6, 7], [8, 9, 0]], [LABELS[0], [IGNORED, 9, 0]], "row 1 .* TRL has 3 tokens, 2 su"),
        (IDS, [[IGNORED, IGNORED, 7], LABELS[1]], "row 0 .* 1 supervised; fte 3, 2 supervised"),
        ([[5, 6, 7], [8, 4]], [LABELS[0], [IGNORED, 4]], "row 1 differs"),
    ],
)
def test_other_rows_end_the_benchmark(
    ids: list[list[int]], labels: list[list[int]], expected: str
) -> None:
    """The message names a row that is missing, or differs in length, labels or ids."""
    with pytest.raises(SystemExit, match=expected):
        runs.check_same_rows(ROWS, ids, labels)


def test_a_command_that_fails_ends_the_benchmark(tmp_path: Path) -> None:
    """The benchmark shows the end of the command's log and its exit code."""
    command = [sys.executable, "-c", "print(6 * 7); raise SystemExit(3)"]
    with pytest.raises(SystemExit, match=r"^42\s+.*: exited with 3$"):
        runs.run_child(command, tmp_path, 1, None)


def _measured() -> Measured:
    """Return 1 GFLOP per token on a machine with 1,000 GFLOP/s; ours is three times as fast."""
    speeds = {"TRL 1×2": (90.0, 110.0, 100.0), "TRL 8×1": (50.0,), "fte 2": (300.0,)}
    runs = tuple(
        (arm, tuple(_run(speed, STEPS) for speed in speeds[arm.name]))
        for arm in ARMS
        if arm.name in speeds
    )
    roofline = {"total": 1e12, "forward": 1e12, "backward": 1e12, "head": 1e12}
    return Measured("smollm2-135m", 32, 160.0, 240.0, 0.8, 1000, 1e9, (roofline,), runs)


def test_an_arm_is_the_median_of_its_repetitions() -> None:
    """Speed is the median; LoRA-MFU is speed times operations over the machine's rate."""
    assert _measured().speed("TRL 1×2") == 100.0
    assert _measured().mfu("fte 2") == pytest.approx(300 * 1e9 / 1e12)


def test_the_table() -> None:
    """The table has one line per arm, with its ratios to plain TRL, in 80 columns."""
    lines = throughput_report.table([_measured()]).splitlines()
    assert max(map(len, lines)) <= 80
    row = next(line for line in lines if " fte 2 " in line).split()
    assert row[3:] == ["300", "300–300", "3.00", "6.00", "30%", "2.00", "20.0"]
    assert not any(" fte 8 " in line for line in lines)


def test_there_is_no_ratio_to_an_arm_that_was_not_run() -> None:
    """Its column shows a dash."""
    measured = _measured()
    lines = throughput_report.table([replace(measured, runs=measured.runs[1:])]).splitlines()
    row = next(line for line in lines if " fte 2 " in line).split()
    assert row[5:7] == ["–", "6.00"]


def test_the_table_notes_differences() -> None:
    """Notes under the table name different rows, number formats and clocks."""
    measured = _measured()
    odd = replace(_run(300.0, STEPS[:3]), dtype="bfloat16", seen_tokens_per_second=200.0)
    runs = ((ARMS[0], (_run(100.0, STEPS),)), (ARMS[2], (odd,)))
    noted = throughput_report.table([replace(measured, runs=runs, flops_per_token=5e9)])
    assert "LoRA-MFU above 100%" in noted
    assert "fte 2 computes in bfloat16" in noted
    assert "fte 2: 200 tokens/s by the wall clock" in noted
    assert "TRL 1×2 and fte 2 did not have the same rows in the same steps" in noted
    plain = throughput_report.table([measured])
    assert "did not have the same" not in plain
    assert "above 100%" not in plain


def test_the_plot(tmp_path: Path) -> None:
    """Every arm that ran has a bar with its name, speed and LoRA-MFU."""
    throughput_report.plot([_measured()], tmp_path / "plot.svg")
    drawn = (tmp_path / "plot.svg").read_text(encoding="utf-8")
    texts = ["smollm2-135m", "plain TRL, batch 8 × 1", "fte train, batch of 2", "300 · MFU 30%"]
    assert [text for text in texts if f">{text}<" not in drawn] == []
    assert "fte train, batch of 8" not in drawn


def test_the_machine_rate_weighs_shapes_by_their_operations() -> None:
    """All operations of a token over the time they take, forward and backward; a shape met three
    times as often counts three times.
    """
    body = Rate(outputs=10, inputs=10, times=3.0, forward=100.0, backward=50.0)
    head = Rate(outputs=20, inputs=10, times=0.5, forward=25.0, backward=100.0)
    found = combine([body, head], threads=2)
    forward_s, backward_s = 300 / 100 + 100 / 25, 300 / 50 + 100 / 100
    assert found.forward == pytest.approx(400 / forward_s)
    assert found.backward == pytest.approx(400 / backward_s)
    assert found.total == pytest.approx(800 / (forward_s + backward_s))
    assert found.head == pytest.approx(2 * 200 / (200 / 25 + 200 / 100))


def test_differences_of_losses() -> None:
    """Largest and mean difference are of absolute values."""
    ours, theirs = _run(1.0, STEPS[:3]), _run(1.0, STEPS[:3])
    changed = tuple(
        replace(step, loss=loss) for step, loss in zip(ours.steps, (2.25, 1.5, 2.0), strict=True)
    )
    curves = curves_of(replace(ours, steps=changed), theirs)
    assert curves.differences == (0.25, -0.5, 0.0)
    assert (curves.largest, curves.largest_at, curves.mean) == (0.5, 2, 0.25)


@pytest.mark.parametrize(
    ("other", "step"),
    [(_steps((10, 100), (12, 201), (13, 300), (16, 500)), 2), (STEPS[:3], 4)],
)
def test_curves_of_other_batches_are_not_compared(other: tuple[Step, ...], step: int) -> None:
    """The message names the first step whose tokens differ."""
    with pytest.raises(SystemExit, match=f"did not have the same rows in step {step}$"):
        curves_of(_run(1.0, STEPS), _run(1.0, other))
