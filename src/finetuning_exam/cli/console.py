"""What the commands share in showing things: the console and the live progress of a training."""

from __future__ import annotations

import math
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console

from finetuning_exam.cli.heavy_imports import rare_collections
from finetuning_exam.model.folder import (
    adapter_origin,
    check_adapter_folder,
    check_local_model,
)
from finetuning_exam.report.text import counted, visible
from finetuning_exam.settings import RunSettings
from finetuning_exam.training.progress import Progress as TrainingProgress

if TYPE_CHECKING:
    from rich.progress import TaskID

    from finetuning_exam.data.check import Check
    from finetuning_exam.model.tuned import Tuned


def make_console() -> Console:
    """A console for results on standard output; plain text when that is no terminal."""
    return Console(highlight=False, markup=False, emoji=False)


def print_line(console: Console, text: str) -> None:
    """Print a line as it is; the terminal wraps it, so that it can be copied whole."""
    console.print(visible(text), soft_wrap=True)


def print_sources(console: Console, check: Check) -> None:
    """Say which files were read and in which form their records were found."""
    for records in filter(None, (check.train, check.exam)):
        for source in records.sources:
            print_line(
                console,
                f"{source.path}: {counted(source.n_records, 'record')} ({source.container}, "
                f"{source.layout})",
            )


def print_context_limit(console: Console, max_length: int, limit: int) -> None:
    """Say that rows may be no longer than the model's context, where more was asked for."""
    if max_length > limit:
        print_line(
            console,
            f"--max_length {max_length:,} is more than the model's context: {limit:,} is used.",
        )


def print_unused_keys(
    console: Console, config: str | None, keys: tuple[str, ...], command: str
) -> None:
    """Say which keys of a YAML file belong to other commands."""
    if keys:
        print_line(console, f"{config}: not used by fte {command}: {', '.join(keys)}")


def load_session_for_command(
    console: Console, settings: RunSettings, adapter: str, base_name: str | None
) -> Tuned:
    """Load an adapter on its base and say which; mistakes in the folders are told before torch.

    Raises:
        ModelError, AdapterError, UsageError: the adapter or the base cannot be used.
    """
    folder = Path(adapter)
    check_adapter_folder(folder)
    name = base_name or adapter_origin(folder).base_name
    check_local_model(name)
    with console.status("loading the model"):
        with rare_collections():
            from finetuning_exam.model.tuned import load_tuned

        tuned = load_tuned(folder, name, settings.device, settings.dtype, settings.template)
    print_line(
        console,
        f"base {tuned.base.name}, adapter {folder}, {tuned.encoder.template} template, "
        f"{tuned.compute.device.type}",
    )
    return tuned


class ProgressView:
    """Shows a training live in a terminal, or as a line at every validation elsewhere."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[state]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID = self._bar.add_task("training", total=None, state="starting")
        self._validation_loss: float | None = None

    def __enter__(self) -> ProgressView:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def show(self, progress: TrainingProgress) -> None:
        """Take in the state after a step."""
        self._bar.update(
            self._task,
            total=progress.total_steps,
            completed=progress.step,
            state=_state(progress),
        )
        if progress.validation_loss != self._validation_loss:
            self._validation_loss = progress.validation_loss
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


def duration(seconds: float) -> str:
    """Seconds as people say them: `48 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
