"""Fine-tune a model on a file, then examine it: check, split, train, exam, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
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
from finetuning_exam.api.heavy_imports import rare_collections
from finetuning_exam.api.late_steps import LateFailure, attempt
from finetuning_exam.api.out_of_memory import LESS_IN_EXAM, LESS_IN_TRAINING, out_of_memory_hint
from finetuning_exam.api.resume import (
    checkpoint_to_resume,
    how_to_go_on,
    pinned_choices,
    stop_hint,
)
from finetuning_exam.api.run_start import begin_run, check_new_run
from finetuning_exam.data.check import Check, check_files, split_checked
from finetuning_exam.data.reading.hub import absolute_path
from finetuning_exam.data.reading.read import SKIP_BAD_ROWS, refuse_errors
from finetuning_exam.data.split import Split
from finetuning_exam.durable import write_json, write_text
from finetuning_exam.errors import DataError, StoppedError, UsageError
from finetuning_exam.evaluation.general import read_general_text
from finetuning_exam.evaluation.outlook import exam_outlook
from finetuning_exam.evaluation.skills import chosen_skills
from finetuning_exam.launch import is_under_uv
from finetuning_exam.model.folder import check_local_model
from finetuning_exam.report.data_check import finding_to_json
from finetuning_exam.run_record import Cost, DataRecord, RunRecord, TrainingResult
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
    _check_trackers(settings)
    read_general_text(settings.general_file)  # errors are reported before the work
    chosen_skills(settings.skills)
    check, split = _read_data(settings)
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
        resumed = checkpoint_to_resume(settings, check)
        check_new_run(settings, folder, resumed, run.command)
        return run.train_and_examine(resumed)


def _check_trackers(settings: TrainSettings) -> None:
    missing = [name for name in settings.report_to if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"--report_to {missing[0]}: not installed.",
            f"Install it: {'uv pip' if is_under_uv() else 'pip'} install {missing[0]}",
        )


def _read_data(settings: TrainSettings) -> tuple[Check, Split]:
    """Read the data as `check` does.

    Raises:
        DataError: records have errors, unless they are to be skipped, or none is left.
    """
    check = check_files(settings)
    if not settings.skip_bad_rows:
        refuse_errors(check.findings, SKIP_BAD_ROWS)
    for records in filter(None, (check.train, check.exam)):
        if not records.examples:
            raise DataError([f"{records.path}: no record can be used."])
    return check, split_checked(check, settings.eval_fraction, settings.seed)


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

    def train_and_examine(self, resumed: CheckpointRef | None) -> TrainedRun:
        """Do all the work; the folder is locked."""
        settings = self.settings
        outlook = exam_outlook(self.check, self.split, settings.eval_fraction, settings.seed)
        with self._stop_hint(is_own=resumed is not None):
            self.on_event(DataRead(self.check, self.split, outlook))
            with rare_collections():
                from finetuning_exam.training.prepare import prepare
                from finetuning_exam.training.run import make_record

            with self._timed("load"):
                prepared = prepare(self.settings, self.split, pinned_choices(resumed))
            self.on_event(RunPrepared(prepared))
            predicted = self._predict(prepared, resumed)
            self.process.on_main(lambda: self._begin(prepared, resumed))
        with self._stop_hint(is_own=True):
            result = self._train(prepared, predicted, resumed)
            exam = self._examine(prepared, predicted)
        record = make_record(
            prepared,
            self._data_record(prepared),
            result,
            self.command.from_the_start,
            self.seconds,
            predicted,
        )
        self.process.on_main(lambda: self._write_results(prepared, exam, record))
        return TrainedRun(self.folder, exam, record, tuple(self.failures))

    def _stop_hint(self, *, is_own: bool) -> AbstractContextManager[None]:
        return stop_hint(lambda: how_to_go_on(self.command, self.folder, is_own=is_own))

    def _predict(self, prepared: Prepared, resumed: CheckpointRef | None) -> Cost:
        from finetuning_exam.training.cost.predict import predict

        with self._timed("estimate"):
            predicted = predict(prepared, resumed.step if resumed else 0)
        patience = self.settings.early_stopping_patience
        can_stop_early = bool(self.split.validation) and patience is not None
        self.on_event(CostPredicted(predicted, can_stop_early))
        return predicted

    def _begin(self, prepared: Prepared, resumed: CheckpointRef | None) -> None:
        """Make the folder this run's own."""
        self.on_event(begin_run(prepared, self.check, resumed))
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
        from finetuning_exam.training.run import examine

        hint = f"{LESS_IN_EXAM} The training is done. To resume: {self.command.to_resume}"
        with out_of_memory_hint(predicted.peak_bytes, hint), self._timed("exam"):
            try:
                return examine(prepared, lambda stage: self.on_event(ExamStage(stage)))
            except Exception as error:
                error.add_note(f"The adapter is trained and saved in {self.folder}.")
                raise

    def _write_results(self, prepared: Prepared, exam: Exam, record: RunRecord) -> None:
        """Write exam and record, and then what a run can do without, each on its own."""
        from finetuning_exam.evaluation import exam_file
        from finetuning_exam.training.run import save_tokenizer

        folder = self.folder
        self._try("the tokenizer", lambda: save_tokenizer(prepared, folder))
        exam_file.write(folder / run_folder.EXAM, exam)
        run_file.write(folder, record)
        run_folder.seal(folder)
        self._try(run_folder.REPORT, lambda: _write_report(folder, exam, record))
        self._try(run_folder.CARD, lambda: _write_card(folder, exam, record))

    def _try(self, file: str, write: Callable[[], None]) -> None:
        failure = attempt(file, write)
        if failure:
            self.failures.append(failure)
            self.on_event(Notice(f"Warning: {failure} The adapter and the exam are kept."))

    def _data_record(self, prepared: Prepared) -> DataRecord:
        train, exam, split = self.check.train, self.check.exam, prepared.rows.split
        return DataRecord(
            paths=tuple(absolute_path(source.path) for source in train.sources),
            sha256=train.sha256,
            exam_path=absolute_path(exam.path) if exam else None,
            exam_sha256=exam.sha256 if exam else None,
            n_train=len(split.train),
            n_validation=len(split.validation),
            n_exam=len(split.exam),
            exam_is_training=split.exam_is_training,
            exam_rows_also_taught=len(split.taught),
            rows_sha256=prepared.rows_sha256,
        )

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[part] = round(time.perf_counter() - started, 2)


def _write_report(folder: Path, exam: Exam, record: RunRecord) -> None:
    from finetuning_exam.report.html import render_report
    from finetuning_exam.training.progress import read_metrics

    metrics = read_metrics(folder / run_folder.METRICS)
    write_text(folder / run_folder.REPORT, render_report(exam, record, metrics))


def _write_card(folder: Path, exam: Exam, record: RunRecord) -> None:
    from finetuning_exam.report.card import model_card

    write_text(folder / run_folder.CARD, model_card(exam, record))
