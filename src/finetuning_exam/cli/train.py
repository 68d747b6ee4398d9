"""`fte train`: check, split, train, exam, report."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from finetuning_exam import run_file
from finetuning_exam.cli.arguments import Parsed
from finetuning_exam.cli.console import (
    ProgressView,
    duration,
    make_console,
    print_context_limit,
    print_line,
    print_sources,
    print_unused_keys,
)
from finetuning_exam.cli.heavy_imports import rare_collections
from finetuning_exam.cli.out_of_memory import LESS_IN_EXAM, LESS_IN_TRAINING, out_of_memory_hint
from finetuning_exam.cli.resume import (
    checkpoint_to_resume,
    command_without_resume,
    pinned_choices,
    print_stopping,
    resume_command,
    resume_hint,
)
from finetuning_exam.cli.run_start import begin_run, check_new_run
from finetuning_exam.cli.run_summary import print_cost, print_memory, print_plan
from finetuning_exam.data.check import Check, check_files, split_checked
from finetuning_exam.data.findings import Finding, errors
from finetuning_exam.data.reading.hub import is_hub_name
from finetuning_exam.data.reading.read import SKIP_BAD_ROWS, refuse_errors
from finetuning_exam.data.split import Split
from finetuning_exam.durable import write_json, write_text
from finetuning_exam.errors import DataError, StoppedError, UsageError, WorseError
from finetuning_exam.evaluation.general import read_general_text
from finetuning_exam.model.folder import check_local_model
from finetuning_exam.report.data_check import finding_to_json, kinds_lines, split_line
from finetuning_exam.report.text import counted
from finetuning_exam.run_record import DataRecord, RunRecord, TrainingResult
from finetuning_exam.settings import TrainSettings
from finetuning_exam.training import run_folder
from finetuning_exam.training.checkpoint.find import CheckpointRef
from finetuning_exam.training.interrupt import Interrupts

if TYPE_CHECKING:
    from finetuning_exam.evaluation.exam import Exam
    from finetuning_exam.training.run import Prepared


@dataclass(frozen=True, slots=True)
class Data:
    """The checked data of a run and who trains and is examined."""

    check: Check
    split: Split


class Stopwatch:
    """Wall time of each part of a run, in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time a part."""
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 2)


def run(parsed: Parsed[TrainSettings]) -> int:
    """Run the command; returns its exit code.

    Raises:
        UserError: anything the user can hint.
    """
    settings = parsed.settings
    console = make_console()
    folder = Path(settings.output_dir)
    _check_trackers(settings)
    read_general_text(settings.general_file)  # an error there is told before the work
    data = _read_data(settings)
    run_folder.check_output_dir(folder)
    check_local_model(settings.model_name_or_path)
    with run_folder.locked(folder):
        found = checkpoint_to_resume(settings, data.check)
        check_new_run(parsed, folder, found)
        print_unused_keys(console, settings.config, parsed.unused_keys, "train")
        _print_data(console, data)
        exam, record = _train_and_examine(parsed, data, found, console)
        _write_results(folder, exam, record)
    _print_end(console, exam, folder)
    if settings.fail_if_worse and exam.verdict == "worse":
        raise WorseError("The exam found the tuned model worse than its base.")
    return 0


def _check_trackers(settings: TrainSettings) -> None:
    missing = [name for name in settings.report_to if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"--report_to {missing[0]}: not installed.", f"Install it: uv pip install {missing[0]}"
        )


def _read_data(settings: TrainSettings) -> Data:
    """The data as `fte check` reads it.

    Raises:
        DataError: records have errors, unless they are to be skipped, or none is left.
    """
    check = check_files(settings)
    if not settings.skip_bad_rows:
        refuse_errors(check.findings, SKIP_BAD_ROWS)
    if not check.train.examples:
        raise DataError([f"{check.train.path}: no record can be used."])
    if check.exam and not check.exam.examples:
        raise DataError([f"{check.exam.path}: no record can be used."])
    return Data(check, split_checked(check, settings.eval_fraction, settings.seed))


def _print_data(console: Console, data: Data) -> None:
    check, split = data.check, data.split
    print_sources(console, check)
    skipped = len(errors(check.findings))
    if skipped:
        print_line(console, f"Warning: {counted(skipped, 'error')}: these records are left out.")
    _print_findings(console, check.findings)
    print_line(console, split_line(split, check.exam))
    if not split.validation:
        print_line(console, "Without validation rows the last step is kept.")
    if split.exam_is_training:
        print_line(
            console, "Warning: the exam is of rows that are trained on; it cannot tell anything."
        )
    if split.taught:
        first = ", ".join(example.where for example in split.taught[:3])
        print_line(
            console,
            f"Warning: {counted(len(split.taught), 'exam question')} also in the training file: "
            f"left out, such as {first}.",
        )


def _print_findings(console: Console, findings: Sequence[Finding]) -> None:
    for line in kinds_lines(findings):
        print_line(console, f"  {line}")


def _train_and_examine(
    parsed: Parsed[TrainSettings], data: Data, found: CheckpointRef | None, console: Console
) -> tuple[Exam, RunRecord]:
    """Load, train, examine, and say what happens; the adapter is in the run's folder afterwards."""
    settings = parsed.settings
    folder = Path(settings.output_dir)
    with console.status("loading the model"):
        with rare_collections():
            from finetuning_exam.training.checkpoint.save import CheckpointConfig
            from finetuning_exam.training.cost.predict import predict
            from finetuning_exam.training.run import examine, make_record, prepare, train

        watch = Stopwatch()
        with watch.part("load"):
            prepared = prepare(settings, data.split, pinned_choices(found))
    print_plan(console, prepared)
    print_context_limit(console, settings.max_length, prepared.base.context)
    _print_findings(console, prepared.rows.findings)
    print_memory(console, prepared.memory)
    with watch.part("estimate"), console.status("estimating time and memory"):
        predicted = predict(prepared, found.step if found else 0)
    can_stop = bool(data.split.validation) and settings.early_stopping_patience is not None
    print_cost(console, predicted, can_stop=can_stop)
    begin_run(console, prepared, data.check, found)
    findings = (*data.check.findings, *prepared.rows.findings)
    write_json(folder / run_folder.DATA_CHECK, [finding_to_json(finding) for finding in findings])
    go_on = f"Go on with: {resume_command(parsed.command_line)}"
    with resume_hint(go_on):
        with (
            out_of_memory_hint(predicted.peak_bytes, LESS_IN_TRAINING),
            watch.part("train"),
            ProgressView(console) as view,
            Interrupts(print_stopping) as signals,
        ):
            checkpoints = CheckpointConfig(
                folder,
                settings.save_total_limit,
                found,
                signals,
            )
            result = train(prepared, checkpoints, view.show)
        _print_training(console, result, watch.seconds["train"])
        if signals.received is not None:
            raise StoppedError(signals.received, result.steps, prepared.plan.total_steps)
        with (
            out_of_memory_hint(
                predicted.peak_bytes, f"{LESS_IN_EXAM} The training is done. {go_on}"
            ),
            watch.part("exam"),
            console.status("exam") as status,
        ):
            exam = examine(prepared, lambda stage: status.update(f"exam: {stage}"))
    record = make_record(
        prepared,
        _data_record(data.check, prepared),
        result,
        folder,
        command_without_resume(parsed.command_line),
        watch.seconds,
        predicted,
    )
    return exam, record


def _print_training(console: Console, result: TrainingResult, seconds: float) -> None:
    early = ", stopped early" if result.stopped_early else ""
    kept = f"step {result.best_step} kept" if result.best_step != result.steps else "last step kept"
    print_line(
        console,
        f"{result.steps} steps in {duration(seconds)}{early}, "
        f"{result.tokens_per_second:,.0f} tokens/s, {kept}",
    )
    first, best = result.first_validation_loss, result.best_validation_loss
    if first is not None and best is not None and best >= first:
        print_line(
            console, "Warning: no step was better on the validation rows than the untrained model."
        )


def _data_record(check: Check, prepared: Prepared) -> DataRecord:
    train, exam, split = check.train, check.exam, prepared.rows.split
    return DataRecord(
        paths=tuple(_absolute(source.path) for source in train.sources),
        sha256=train.sha256,
        exam_path=_absolute(exam.path) if exam else None,
        exam_sha256=exam.sha256 if exam else None,
        n_train=len(split.train),
        n_validation=len(split.validation),
        n_exam=len(split.exam),
        exam_is_training=split.exam_is_training,
        exam_rows_also_taught=len(split.taught),
        rows_sha256=prepared.rows_sha256,
    )


def _absolute(path: str) -> str:
    """A file's whole path; a hub dataset's name as it is."""
    return path if is_hub_name(path) else str(Path(path).resolve())


def _write_results(folder: Path, exam: Exam, record: RunRecord) -> None:
    from finetuning_exam.evaluation import exam_file
    from finetuning_exam.report.card import model_card
    from finetuning_exam.report.html import render_report
    from finetuning_exam.training.progress import read_metrics

    metrics = read_metrics(folder / run_folder.METRICS)
    exam_file.write(folder / run_folder.EXAM, exam)
    write_text(folder / run_folder.REPORT, render_report(exam, record, metrics))
    write_text(folder / run_folder.CARD, model_card(exam, record))
    run_file.write(folder, record)
    run_folder.seal(folder)


def _print_end(console: Console, exam: Exam, folder: Path) -> None:
    from finetuning_exam.report.terminal import exam_summary

    console.print()
    console.print(exam_summary(exam))
    print_line(console, f"Adapter, exam.json and report.html are in {folder}.")
    print_line(
        console, f'Try it: uv run fte compare --adapter {shlex.quote(str(folder))} "your question"'
    )
