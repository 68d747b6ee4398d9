"""Fine-tune a model on a file, then examine it: check, split, train, exam, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from finetuning_exam import run_file
from finetuning_exam.api.command import Command, command_of
from finetuning_exam.api.events import (
    CostPredicted,
    DataRead,
    ExamStage,
    Notice,
    OnEvent,
    RunPrepared,
    TrainingEnded,
    ignore,
)
from finetuning_exam.api.fold_parts import FoldSplits, exam_of, splits_of
from finetuning_exam.api.folds import CrossValidation
from finetuning_exam.api.heavy_imports import rare_collections
from finetuning_exam.api.late_steps import LateFailure, attempt, write_card, write_report
from finetuning_exam.api.out_of_memory import LESS_IN_EXAM, LESS_IN_TRAINING, out_of_memory_hint
from finetuning_exam.api.resume import (
    checkpoint_to_resume,
    how_to_go_on,
    pinned_choices,
    settings_of,
    stop_hint,
)
from finetuning_exam.api.run_part import RunPart
from finetuning_exam.api.run_start import begin_run, check_new_run, check_trackers, data_record
from finetuning_exam.data.check import Check, check_files, split_checked
from finetuning_exam.data.reading.read import SKIP_BAD_ROWS, refuse_errors
from finetuning_exam.data.split import Split
from finetuning_exam.durable import write_json
from finetuning_exam.errors import DataError, StoppedError
from finetuning_exam.evaluation.general import read_general_text
from finetuning_exam.evaluation.outlook import exam_outlook
from finetuning_exam.evaluation.skills import chosen_skills
from finetuning_exam.model.folder import check_local_model
from finetuning_exam.report.data_check import finding_to_json
from finetuning_exam.run_record import Cost, RunRecord, TrainingResult
from finetuning_exam.setting_values import validated
from finetuning_exam.settings import TrainSettings
from finetuning_exam.training import run_folder
from finetuning_exam.training.checkpoint.find import CheckpointRef
from finetuning_exam.training.interrupt import Interrupts
from finetuning_exam.training.parallel import Process, this_process

if TYPE_CHECKING:
    from finetuning_exam.evaluation.exam import Exam
    from finetuning_exam.training.prepare import Prepared


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """A finished run: its folder, its exam, and its record as run.json has it.

    `failures` are the files besides adapter and exam that could not be written.
    """

    folder: Path
    exam: Exam
    record: RunRecord
    failures: tuple[LateFailure, ...] = ()


def train(
    settings: TrainSettings | None = None,
    *,
    on_event: OnEvent = ignore,
    interrupts: Interrupts | None = None,
    command: Command | None = None,
) -> TrainedRun:
    """Fine-tune a model with LoRA and examine it against its base.

    The adapter, the exam, the report and the checkpoints are in `settings.output_dir` afterwards.
    A file that could not be written, other than adapter and exam, is in the result's `failures`.
    `on_event` gets the progress. `interrupts` may stop the training after a step, which is saved.
    `fail_if_worse` only concerns the exit code of the command.

    Raises:
        UsageError, DataError, ModelError, AdapterError: a file or setting cannot be used.
        DiskError: no space is left, or the disk fails.
        DivergedError: the loss or a gradient is no longer finite.
        InUseError: another run works in the output folder.
        StoppedError: a signal stopped the training.
    """
    settings = validated(settings or TrainSettings())
    command = command or command_of(settings)
    folder = Path(settings.output_dir)
    with stop_hint(lambda: how_to_go_on(command, folder, is_own=False)):
        return _train(settings, command, on_event, interrupts or Interrupts())


def _train(
    settings: TrainSettings, command: Command, on_event: OnEvent, interrupts: Interrupts
) -> TrainedRun:
    """Read the data and check the folder, then do the work in it."""
    process = this_process()
    folder = Path(settings.output_dir)
    check_trackers(settings)
    read_general_text(settings.general_file)  # errors are reported before the work
    chosen_skills(settings.skills)
    check, split, folds = _read_data(settings)
    process.on_main(lambda: run_folder.check_output_dir(folder))  # it makes the folder
    check_local_model(settings.model_name_or_path)
    run = _Run(
        settings,
        folder,
        check,
        split,
        command,
        on_event if process.is_main else ignore,
        interrupts,
        process,
    )
    with process.main_only(run_folder.locked(folder)):
        if folds is not None:
            return CrossValidation(
                settings, folder, check, folds, command, run.on_event, process, run.do_part
            ).train_and_examine()
        resumed = checkpoint_to_resume(settings, check)
        run = replace(run, settings=settings_of(resumed, settings))
        check_new_run(settings, folder, resumed, run.command)
        return run.train_and_examine(resumed)


def _read_data(settings: TrainSettings) -> tuple[Check, Split, FoldSplits | None]:
    """Read the data as `check` does, and split it, with `--folds` also into folds.

    Raises:
        DataError: records have errors, unless they are to be skipped, or none is left.
    """
    check = check_files(settings)
    if not settings.skip_bad_rows:
        refuse_errors(check.findings, SKIP_BAD_ROWS)
    for records in filter(None, (check.train, check.exam)):
        if not records.examples:
            raise DataError([f"{records.path}: no record can be used."])
    if settings.folds is not None:
        folds = splits_of(check, settings, settings.folds)
        return check, folds.whole, folds
    return check, split_checked(check, settings.eval_fraction, settings.seed), None


@dataclass(frozen=True, slots=True)
class _Run:
    """A run whose data is read; `seconds` holds the wall time of its parts."""

    settings: TrainSettings
    folder: Path
    check: Check
    split: Split
    command: Command
    on_event: OnEvent
    interrupts: Interrupts
    process: Process
    seconds: dict[str, float] = field(default_factory=dict)
    failures: list[LateFailure] = field(default_factory=list)
    part: RunPart | None = None

    def do_part(self, settings: TrainSettings, on_event: OnEvent, part: RunPart) -> TrainedRun:
        """Do one training of a cross-validation; the folder of the whole is locked."""
        own = replace(
            self,
            settings=settings,
            folder=part.folder,
            split=part.split,
            on_event=on_event,
            seconds={},
            failures=[],
            part=part,
        )
        return own.train_and_examine(part.resumed)

    def train_and_examine(self, resumed: CheckpointRef | None) -> TrainedRun:
        """Do all the work; the folder is locked."""
        settings = self.settings
        with self._stop_hint(is_own=resumed is not None):
            if self.part is None:
                outlook = exam_outlook(
                    self.check, self.split, settings.eval_fraction, settings.seed
                )
                self.on_event(DataRead(self.check, self.split, outlook))
            with rare_collections():
                from finetuning_exam.training.prepare import prepare
                from finetuning_exam.training.run import make_record

            with self._timed("load"):
                pinned = self.part.pinned if self.part else pinned_choices(resumed)
                prepared = prepare(settings, self.split, pinned)
            self.on_event(RunPrepared(prepared))
            predicted = self.part.predicted if self.part else None
            if predicted is None:
                prepared, predicted = self._predict(prepared, resumed)
            self.process.on_main(lambda: self._begin(prepared, resumed))
        with self._stop_hint(is_own=True):
            result = self._train(prepared, predicted, resumed)
            exam = self._examine(prepared, predicted)
        record = make_record(
            prepared,
            data_record(self.check, prepared, len(exam.rows)),
            result,
            self.command.from_the_start,
            self.seconds,
            predicted,
        )
        if self.part and self.part.fold:
            record = replace(record, fold=self.part.fold)
        self.process.on_main(lambda: self._write_results(prepared, exam, record))
        return TrainedRun(self.folder, exam, record, tuple(self.failures))

    def _stop_hint(self, *, is_own: bool) -> AbstractContextManager[None]:
        # The folder of a cross-validation is its own before the first part begins.
        home, is_own = (self.part.home, True) if self.part else (self.folder, is_own)
        return stop_hint(lambda: how_to_go_on(self.command, home, is_own=is_own))

    def _predict(self, prepared: Prepared, resumed: CheckpointRef | None) -> tuple[Prepared, Cost]:
        """Predict the cost, and choose by it how many examples the exam answers."""
        from finetuning_exam.training.cost.predict import predict

        with self._timed("estimate"):
            predicted = predict(prepared, resumed.step if resumed else 0)
        patience = self.settings.early_stopping_patience
        can_stop_early = bool(self.split.validation) and patience is not None
        n_asking = prepared.rows.n_asking
        self.on_event(CostPredicted(predicted.cost, can_stop_early, predicted.answers, n_asking))
        return prepared.with_answers(predicted.answers), predicted.cost

    def _begin(self, prepared: Prepared, resumed: CheckpointRef | None) -> None:
        """Make the folder this run's own."""
        self.on_event(begin_run(prepared, self.check, resumed, self.part))
        findings = (*self.check.findings, *prepared.rows.findings)
        write_json(self.folder / run_folder.DATA_CHECK, [finding_to_json(it) for it in findings])

    def _train(
        self, prepared: Prepared, predicted: Cost, resumed: CheckpointRef | None
    ) -> TrainingResult:
        from finetuning_exam.training.checkpoint.save import CheckpointConfig
        from finetuning_exam.training.run import train

        checkpoints = CheckpointConfig(
            self.folder, self.settings.save_total_limit, resumed, self.interrupts, self.process
        )
        with (
            out_of_memory_hint(predicted.peak_bytes, LESS_IN_TRAINING),
            self._timed("train"),
            self.interrupts as signals,
        ):
            result = train(prepared, checkpoints, self.on_event)
        self.on_event(TrainingEnded(result, self.seconds["train"]))
        if signals.received is not None:
            raise StoppedError(signals.received, result.steps, prepared.plan.total_steps)
        return result

    def _examine(self, prepared: Prepared, predicted: Cost) -> Exam:
        hint = f"{LESS_IN_EXAM} The training is done. To resume: {self.command.to_resume}"
        with out_of_memory_hint(predicted.peak_bytes, hint), self._timed("exam"):
            try:
                on_event = self.on_event
                return exam_of(prepared, self.check, self.part, lambda it: on_event(ExamStage(it)))
            except Exception as error:
                error.add_note(f"The adapter is trained and saved in {self.folder}.")
                raise

    def _write_results(self, prepared: Prepared, exam: Exam, record: RunRecord) -> None:
        """Write exam and record, and then what a run can do without, each on its own."""
        from finetuning_exam.evaluation import exam_file, folds
        from finetuning_exam.training.run import save_tokenizer

        folder = self.folder
        self._try("the tokenizer", lambda: save_tokenizer(prepared, folder))
        exam_file.write(folder / run_folder.EXAM, exam)
        if record.fold:
            folds.write_rows(folder / run_folder.EXAM_ROWS, exam.rows)
        run_file.write(folder, record)
        run_folder.seal(folder)
        if record.fold:
            return  # the report and the card of the whole are enough
        self._try(run_folder.REPORT, lambda: write_report(folder, exam, record))
        self._try(run_folder.CARD, lambda: write_card(folder, exam, record))

    def _try(self, file: str, write: Callable[[], None]) -> None:
        failure = attempt(file, write)
        if failure:
            self.failures.append(failure)
            self.on_event(Notice(f"Warning: {failure} The adapter and the exam are kept."))

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[part] = round(time.perf_counter() - started, 2)
