"""Start a run without overwriting an unfinished one, and resume only with the same inputs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from finetuning_exam.api.command import Command
from finetuning_exam.api.events import RunBegun
from finetuning_exam.api.resume import data_inputs, earlier_inputs
from finetuning_exam.api.run_part import RunPart
from finetuning_exam.data.check import Check
from finetuning_exam.data.reading.hub import absolute_path
from finetuning_exam.errors import UsageError
from finetuning_exam.launch import is_under_uv
from finetuning_exam.machine import machine_facts
from finetuning_exam.model.folder import check_adapter_folder
from finetuning_exam.run_file import check_same_inputs, machine_changes
from finetuning_exam.run_record import (
    BaseInputs,
    DataRecord,
    Fold,
    PlanInputs,
    RunInputs,
)
from finetuning_exam.run_settings import settings_by_name
from finetuning_exam.settings import TrainSettings
from finetuning_exam.training import run_folder
from finetuning_exam.training.checkpoint.find import CheckpointRef, needed_space
from finetuning_exam.training.replay_file import write_texts

if TYPE_CHECKING:
    from finetuning_exam.training.prepare import Prepared


def check_trackers(settings: TrainSettings) -> None:
    """Refuse trackers that are not installed.

    Raises:
        UsageError: one is missing.
    """
    missing = [name for name in settings.report_to if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"--report_to {missing[0]}: not installed.",
            f"Install it: {'uv pip' if is_under_uv() else 'pip'} install {missing[0]}",
        )


def check_new_run(
    settings: TrainSettings, folder: Path, resumed: CheckpointRef | None, command: Command
) -> None:
    """Refuse a new run where it would destroy an unfinished run, or the adapter it starts from.

    Raises:
        UsageError: the output folder holds an unfinished run, or the adapter that --fork names.
    """
    source = Path(settings.fork) if settings.fork is not None else None
    if source is not None:
        check_adapter_folder(source)
        if folder.resolve() in (source.resolve(), *source.resolve().parents):
            raise UsageError(
                f"--fork {source}: is inside the output folder, which a new run clears.",
                "Give another --output_dir.",
            )
    if _continues_in(folder, resumed) or settings.overwrite_output_dir:
        return
    saved = run_folder.saved_work(folder)
    if saved and run_folder.is_unfinished(folder):
        raise UsageError(
            f"{folder}: holds an unfinished run ({saved}).",
            f"To resume: {command.to_resume} (to start over: --overwrite_output_dir).",
        )


def begin_run(
    prepared: Prepared,
    check: Check,
    resumed: CheckpointRef | None,
    part: RunPart | None = None,
) -> RunBegun:
    """Write down what goes into a run; a new run first removes an earlier run's files.

    The last training of a cross-validation is in the folder of the whole, and removes nothing.

    Raises:
        UsageError: the checkpoint was made with another base, or with other tokens.
        DiskError: the run's files would not fit on the disk.
    """
    settings = prepared.settings
    folder = Path(settings.output_dir)
    continues = _continues_in(folder, resumed) or (part is not None and part.is_last)
    needed = needed_space(
        4 * prepared.n_adapter_parameters,
        settings.save_total_limit,
        resumed=_continues_in(folder, resumed),
    )
    run_folder.check_space(folder, needed)
    inputs = run_inputs(prepared, check, part.fold if part else None)
    changes: tuple[str, ...] = ()
    if resumed is not None:
        earlier = earlier_inputs(resumed)
        check_same_inputs(earlier, inputs, str(resumed.path))
        changes = machine_changes(earlier, inputs)
    replaced = not continues and bool(run_folder.clear_run(folder))
    run_folder.begin(folder, inputs)
    if texts := prepared.replay.ids:
        decoded = [prepared.base.tokenizer.decode(list(ids)) for ids in texts]
        write_texts(folder / run_folder.REPLAY, texts, decoded)
    return RunBegun(replaced, resumed, changes)


def _continues_in(folder: Path, resumed: CheckpointRef | None) -> bool:
    """Return whether a run continues in the folder that holds its checkpoint."""
    return resumed is not None and resumed.path.resolve().parent == folder.resolve()


def run_inputs(prepared: Prepared, check: Check, fold: Fold | None = None) -> RunInputs:
    """Return everything that goes into a prepared run."""
    base, compute = prepared.base, prepared.compute
    return RunInputs(
        settings=settings_by_name(prepared.settings),
        data=data_inputs(check, prepared.rows_sha256),
        base=BaseInputs(base.name, base.sha256),
        template=prepared.rows.template,
        template_date=prepared.rows.template_date,
        thinking=prepared.rows.encoder.is_thinking,
        plan=PlanInputs(
            prepared.plan.micro_batches,
            prepared.plan.learning_rate,
            prepared.plan.total_steps,
            prepared.plan.answers,
        ),
        device=compute.device.type,
        dtype=compute.dtype_name,
        machine=machine_facts(compute.threads),
        fold=fold,
    )


def data_record(check: Check, prepared: Prepared, n_exam: int) -> DataRecord:
    """Return the files and the numbers of rows of a finished run, which examined `n_exam` rows."""
    train, exam, split = check.train, check.exam, prepared.rows.split
    return DataRecord(
        paths=tuple(absolute_path(source.path) for source in train.sources),
        sha256=train.sha256,
        exam_path=absolute_path(exam.path) if exam else None,
        exam_sha256=exam.sha256 if exam else None,
        n_train=len(split.train),
        n_validation=len(split.validation),
        n_exam=n_exam,
        exam_is_training=split.exam_is_training,
        exam_rows_also_taught=len(split.taught),
        rows_sha256=prepared.rows_sha256,
    )
