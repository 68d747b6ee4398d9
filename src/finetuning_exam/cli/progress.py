"""The live progress line of a training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Console

from finetuning_exam.cli.console import duration, print_line
from finetuning_exam.training.progress import Progress as TrainingProgress

if TYPE_CHECKING:
    from rich.progress import TaskID


class ProgressView:
    """A live line in a terminal; elsewhere a line at every validation, if it `has_lines`."""

    def __init__(self, console: Console, name: str = "training", *, has_lines: bool = True) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._console = console
        self._has_lines = has_lines
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[state]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID = self._bar.add_task(name, total=None, state="starting")
        self._validation_loss: float | None = None

    def start(self) -> None:
        """Show the line."""
        self._bar.start()

    def stop(self) -> None:
        """Remove the line."""
        self._bar.stop()

    def show(self, progress: TrainingProgress) -> None:
        """Show the state after a step."""
        self._bar.update(
            self._task,
            total=progress.total_steps,
            completed=progress.step,
            state=_state(progress),
        )
        if progress.validation_loss != self._validation_loss:
            self._validation_loss = progress.validation_loss
            if self._has_lines:
                print_line(self._console, f"  {_validation(progress)}")


def _state(progress: TrainingProgress) -> str:
    parts = [f"step {progress.step}/{progress.total_steps}"]
    if progress.loss is not None:
        parts += [f"loss {progress.loss:.3f}", f"{progress.tokens_per_second:,.0f} tokens/s"]
    if not math.isnan(progress.seconds_left):
        parts.append(f"{duration(progress.seconds_left)} left")
    return " · ".join(parts)


def _validation(progress: TrainingProgress) -> str:
    loss = "" if progress.loss is None else f"loss {progress.loss:.3f} · "
    left = "" if math.isnan(progress.seconds_left) else f" · {duration(progress.seconds_left)} left"
    speed = f" · {progress.tokens_per_second:,.0f} tokens/s" if progress.loss is not None else ""
    return (
        f"step {progress.step:>4}/{progress.total_steps} · {loss}"
        f"validation loss {progress.validation_loss:.3f}{speed}{left}"
    )
