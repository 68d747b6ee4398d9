"""Print the events of a run as they arrive."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console

from finetuning_exam.api.events import (
    CostPredicted,
    DataRead,
    Event,
    ExamStage,
    ExportStage,
    FoldBegun,
    FoldEnded,
    Notice,
    RunBegun,
    RunPrepared,
    SessionLoaded,
    TrainingEnded,
)
from finetuning_exam.cli.console import print_context_limit, print_line
from finetuning_exam.cli.progress import ProgressView
from finetuning_exam.cli.run_summary import (
    print_begun,
    print_cost,
    print_data,
    print_findings,
    print_fold,
    print_memory,
    print_plan,
    print_training,
    print_used,
)
from finetuning_exam.report.text import answers_words
from finetuning_exam.training.progress import Progress

if TYPE_CHECKING:
    from finetuning_exam.model.session import Session


class EventPrinter:
    """A callback that prints events; in a terminal a spinner says what is going on between them."""

    def __init__(self, console: Console, folder: str) -> None:
        self._console = console
        self._folder = folder
        self._status = console.status("loading the model")
        self._progress: ProgressView | None = None
        self._data: DataRead | None = None

    def __enter__(self) -> EventPrinter:
        self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._status.stop()
        self._stop_progress()

    def __call__(self, event: Event) -> None:
        """Print an event."""
        console = self._console
        match event:
            case Notice(text):
                print_line(console, text)
            case DataRead():
                self._data = event
                print_data(console, event)
            case RunPrepared(prepared):
                print_plan(console, prepared)
                limit, longest = prepared.base.context, prepared.settings.max_length
                print_context_limit(console, longest, limit)
                print_findings(console, prepared.rows.findings)
                if self._data:
                    print_used(console, self._data, prepared.rows.split)
                print_memory(console, prepared.memory)
                self._status.update("estimating time and memory")
            case CostPredicted(cost, can_stop_early):
                n_trainings = event.n_trainings
                print_cost(console, cost, can_stop=can_stop_early, n_trainings=n_trainings)
                if words := answers_words(event.answers, event.n_asking):
                    print_line(console, words)
            case RunBegun():
                print_begun(console, self._folder, event)
                self._start_progress(ProgressView(console))
            case FoldBegun(fold, begun):
                print_begun(console, self._folder, replace(begun, replaced=False))
                self._start_progress(ProgressView(console, str(fold), has_lines=False))
            case FoldEnded():
                self._status.stop()
                print_fold(console, event)
                self._status.update("loading the model")
                self._status.start()
            case Progress():
                if self._progress:
                    self._progress.show(event)
            case TrainingEnded(result, seconds):
                self._stop_progress()
                print_training(console, result, seconds)
            case SessionLoaded(session):
                self._print_session(session)
                self._status.update("answering")
            case ExamStage(stage):
                self._stop_progress()
                self._status.update(f"exam: {stage}")
                self._status.start()
            case ExportStage(stage):
                self._status.update(stage)

    def _start_progress(self, progress: ProgressView) -> None:
        self._status.stop()
        self._progress = progress
        self._progress.start()

    def _stop_progress(self) -> None:
        if self._progress:
            self._progress.stop()

    def _print_session(self, session: Session) -> None:
        print_line(
            self._console,
            f"base {session.base.name}, adapter {self._folder}, {session.encoder.template} "
            f"template, {session.compute.device.type}",
        )
        if session.base.source_note:
            print_line(self._console, f"{session.base.name}: {session.base.source_note}")
        for note in session.base.notes:
            print_line(self._console, f"Warning: {session.base.name}: {note}.")
