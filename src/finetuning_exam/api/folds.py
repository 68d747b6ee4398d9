"""Cross-validate: train and examine on each fold, then train the saved adapter on all rows.

The folder of the whole is marked as a run before the first fold, with the choices that all
trainings share. Each fold is a run in a folder of its own. Whatever interrupts the whole, a resume
reads finished folds back, goes on with the one that was interrupted, and starts the others.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from finetuning_exam import run_file
from finetuning_exam.api.command import Command
from finetuning_exam.api.events import (
    CostPredicted,
    DataRead,
    Event,
    ExamStage,
    FoldBegun,
    FoldEnded,
    Notice,
    OnEvent,
    RunBegun,
    RunPrepared,
)
from finetuning_exam.api.fold_parts import ANEW, FoldSplits, find_parts, total_cost, with_costs
from finetuning_exam.api.heavy_imports import rare_collections
from finetuning_exam.api.resume import data_inputs, how_to_go_on, stop_hint
from finetuning_exam.api.run_part import RunPart
from finetuning_exam.api.run_start import check_new_run, run_inputs
from finetuning_exam.data.check import Check
from finetuning_exam.errors import StoppedError, UsageError
from finetuning_exam.evaluation.outlook import pooled_outlook
from finetuning_exam.heap import trim_heap
from finetuning_exam.run_file import check_same_inputs, machine_changes
from finetuning_exam.run_record import Fold, RunInputs
from finetuning_exam.run_settings import settings_by_name
from finetuning_exam.settings import TrainSettings
from finetuning_exam.training import run_folder
from finetuning_exam.training.checkpoint.find import needed_space
from finetuning_exam.training.parallel import Process
from finetuning_exam.training.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from finetuning_exam.api.train import TrainedRun
    from finetuning_exam.evaluation.folds import ExaminedFold


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """A cross-validation whose data is read and whose `folder` is locked.

    `do_part` trains and examines one part, with settings and events of its own.
    """

    settings: TrainSettings
    folder: Path
    check: Check
    splits: FoldSplits
    command: Command
    on_event: OnEvent
    process: Process
    do_part: Callable[[TrainSettings, OnEvent, RunPart], TrainedRun]

    def train_and_examine(self) -> TrainedRun:
        """Train and examine all folds, then train on all rows and conclude.

        Raises:
            UsageError: the folder holds another run, or this one has other inputs.
            StoppedError: a signal stopped one of the trainings.
        """
        earlier = self._earlier()
        if earlier is None:
            check_new_run(self.settings, self.folder, None, self.command)
        is_own = earlier is not None
        with stop_hint(lambda: how_to_go_on(self.command, self.folder, is_own=is_own)):
            parts = self._begin(earlier)
            _free_memory()  # of the model by which the costs were predicted
        with stop_hint(lambda: how_to_go_on(self.command, self.folder, is_own=True)):
            examined = tuple(self._examined(part) for part in parts[:-1])
            return self._last(replace(parts[-1], folds=examined))

    def _earlier(self) -> RunInputs | None:
        """Return the inputs of the cross-validation that is resumed; None for a new one.

        Raises:
            UsageError: there is none, or it has other inputs.
        """
        wanted = self.settings.resume_from_checkpoint
        if wanted is None:
            return None
        if wanted != "latest":
            raise UsageError(
                f"--resume_from_checkpoint {wanted}: a cross-validation has the checkpoints of "
                "several trainings.",
                'Pass "latest" to resume all of it.',
            )
        run = run_file.read(self.folder)
        if run is None or not run.inputs.settings or not run_folder.saved_work(self.folder):
            raise UsageError(
                f"{self.folder}: no checkpoint to resume from.",
                "Remove --resume_from_checkpoint to start from the beginning.",
            )
        now = RunInputs(settings_by_name(self.settings), data_inputs(self.check))
        check_same_inputs(run.inputs, now, str(self.folder), ANEW)
        return run.inputs

    def _begin(self, earlier: RunInputs | None) -> tuple[RunPart, ...]:
        """Prepare the training on all rows, predict the cost of all parts, and make the folder the
        cross-validation's own.
        """
        rows = self.check.train.examples
        everything = replace(self.splits.whole, exam=rows)
        self.on_event(DataRead(self.check, everything, pooled_outlook(rows), self.splits.folds))
        with rare_collections():
            from finetuning_exam.training.prepare import prepare
        prepared = prepare(self.settings, everything, earlier.pinned if earlier else None)
        self.on_event(RunPrepared(prepared))
        inputs = run_inputs(prepared, self.check)
        if earlier is not None:
            check_same_inputs(earlier, inputs, str(self.folder), ANEW)
        used, is_resumed = prepared.rows.split, earlier is not None
        parts = find_parts(self.splits, used, self.folder, inputs, is_resumed=is_resumed)
        parts, answers = with_costs(parts, prepared)
        inputs = run_inputs(prepared.with_answers(answers), self.check)
        has_validation = any(part.split.validation for part in parts)
        can_stop = has_validation and self.settings.early_stopping_patience is not None
        n_left = sum(part.examined is None for part in parts)
        n_asking = prepared.rows.n_asking
        self.on_event(CostPredicted(total_cost(parts), can_stop, answers, n_asking, n_left))
        n_bytes = 4 * prepared.n_adapter_parameters
        self.process.on_main(lambda: self._make_own(inputs, earlier, parts, n_bytes))
        return parts

    def _make_own(
        self,
        inputs: RunInputs,
        earlier: RunInputs | None,
        parts: tuple[RunPart, ...],
        adapter_bytes: int,
    ) -> None:
        """Write down what goes into the whole; a new one first removes an earlier run's files."""
        keep = self.settings.save_total_limit
        needed = sum(
            needed_space(adapter_bytes, keep, resumed=part.resumed is not None)
            for part in parts
            if part.examined is None
        )
        run_folder.check_space(self.folder, needed)
        if earlier is not None:
            if changes := ", ".join(machine_changes(earlier, inputs)):
                self.on_event(Notice(f"Warning: the last bits may differ: {changes}."))
        elif run_folder.clear_run(self.folder):
            self.on_event(Notice(f"{self.folder}: replacing the earlier run"))
        run_folder.begin(self.folder, inputs)

    def _examined(self, part: RunPart) -> ExaminedFold:
        """Return the exam of a fold, which is trained now unless an earlier sitting did it."""
        assert part.fold is not None
        examined = part.examined or self._train_fold(part, part.fold)
        self.on_event(FoldEnded(part.fold, examined.figures, part.examined is not None))
        return examined

    def _train_fold(self, part: RunPart, fold: Fold) -> ExaminedFold:
        from finetuning_exam.evaluation.folds import ExaminedFold

        def on_event(event: Event) -> None:
            match event:
                case RunBegun():
                    self.on_event(FoldBegun(fold, event))
                case Progress() | ExamStage() | Notice():
                    self.on_event(event)
                case _:  # the whole has reported it, or the summary of the fold does
                    pass

        answered = self.settings.answered_examples
        settings = replace(
            self.settings,
            output_dir=str(part.folder),
            answered_examples="auto" if answered == "auto" else -(-answered // fold.n_folds),
            skills="none",  # they are asked of the adapter that is saved
            resume_from_checkpoint=None,
        )
        self.process.on_main(
            lambda: run_folder.check_output_dir(part.folder)
        )  # it makes the folder
        try:
            rows = self.do_part(settings, on_event, part).exam.rows
        except StoppedError as error:
            error.what = f"{fold}: {error.what}"
            raise
        _free_memory()
        return ExaminedFold(len(part.split.train), rows)

    def _last(self, part: RunPart) -> TrainedRun:
        """Train on all rows, and conclude the exams of the folds."""

        def on_event(event: Event) -> None:
            if not isinstance(event, RunPrepared):
                self.on_event(event)

        self.on_event(Notice("All folds are examined. Training the adapter to keep on all rows."))
        return self.do_part(self.settings, on_event, part)


def _free_memory() -> None:
    """Free the model of a finished part, before the next one is loaded."""
    gc.collect()
    trim_heap()
