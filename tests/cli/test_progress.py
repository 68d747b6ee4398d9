"""Specification of the live progress line."""

from __future__ import annotations

import io
import math

from rich.console import Console

from finetuning_exam.cli.progress import ProgressView
from finetuning_exam.training.progress import Progress


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
    view = ProgressView(Console(file=out, width=200))
    view.start()
    for step, loss in [(0, None), (0, 2.5), (1, 2.5), (2, 2.0), (3, 2.0)]:
        view.show(_progress(step, loss))
    view.stop()
    assert out.getvalue().splitlines() == [
        "  step    0/20 · validation loss 2.500",
        "  step    2/20 · loss 1.250 · validation loss 2.000 · 1,234 tokens/s · 1 min 01 s left",
    ]
