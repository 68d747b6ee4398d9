"""Resume a run: its checkpoint, its inputs, and the hint that a stopped run ends with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from finetuning_exam import run_file
from finetuning_exam.api.command import Command
from finetuning_exam.data.check import Check
from finetuning_exam.errors import AdapterError, StoppedError
from finetuning_exam.run_file import RUN, check_same_inputs
from finetuning_exam.run_record import DataInputs, PinnedChoices, RunInputs
from finetuning_exam.run_settings import as_before, settings_by_name
from finetuning_exam.settings import TrainSettings
from finetuning_exam.training.checkpoint.find import CheckpointRef, find_checkpoint
from finetuning_exam.training.interrupt import interrupts_uncovered
from finetuning_exam.training.replay_file import read_texts
from finetuning_exam.training.run_folder import REPLAY, fold_folders, saved_work


@contextmanager
def stop_hint(hint: Callable[[], str]) -> Iterator[None]:
    """Add a hint to the error of a run that was stopped, unless it has one already."""
    try:
        with interrupts_uncovered():
            yield
    except StoppedError as error:
        error.hint = error.hint or hint()
        raise
    except KeyboardInterrupt as error:
        raise type(error)(str(error) or hint()) from None


def how_to_go_on(command: Command, folder: Path, *, is_own: bool) -> str:
    """Return the command that goes on with a run that was stopped.

    It resumes if the folder has a checkpoint of this run, which it can have only if it `is_own`;
    otherwise it is the same command again.
    """
    if is_own and folder.is_dir() and saved_work(folder):
        return f"To resume: {command.to_resume}"
    return f"Nothing was saved yet. To start again: {command.as_typed}"


def checkpoint_to_resume(settings: TrainSettings, check: Check) -> CheckpointRef | None:
    """Return the checkpoint that `--resume_from_checkpoint` names; None without that flag.

    Raises:
        UsageError: there is none, or it was made with other inputs.
        AdapterError: it is damaged, or its run.json is.
    """
    if settings.resume_from_checkpoint is None:
        return None
    folder = Path(settings.output_dir)
    now = RunInputs(settings_by_name(settings), data_inputs(check))
    run = run_file.read(folder)
    if run and fold_folders(folder):  # a cross-validation, which has other settings
        check_same_inputs(run.inputs, now, str(folder))
    checkpoint = find_checkpoint(folder, settings.resume_from_checkpoint)
    earlier = earlier_inputs(checkpoint)
    if not earlier.settings:
        raise AdapterError(
            f"{checkpoint.path.parent / RUN}: is missing or damaged, so the settings of the "
            "checkpoint are not known.",
            "Start over with --overwrite_output_dir.",
        )
    check_same_inputs(earlier, now, str(checkpoint.path))
    return checkpoint


def settings_of(resumed: CheckpointRef | None, settings: TrainSettings) -> TrainSettings:
    """Return the settings of a run, less what an earlier version began it without."""
    return as_before(settings, earlier_inputs(resumed).settings) if resumed else settings


def pinned_choices(resumed: CheckpointRef | None) -> PinnedChoices:
    """Return the choices that a resumed run must keep; a new run has none."""
    if resumed is None:
        return PinnedChoices()
    texts = read_texts(resumed.path.parent / REPLAY)
    return replace(earlier_inputs(resumed).pinned, replay=texts)


def earlier_inputs(checkpoint: CheckpointRef) -> RunInputs:
    """Return the inputs of the run that a checkpoint belongs to, as far as they are known."""
    run = run_file.read(checkpoint.path.parent)
    return run.inputs if run else RunInputs()


def data_inputs(check: Check, rows_sha256: str | None = None) -> DataInputs:
    """Return the hashes of a run's files, and of its rows once they are encoded."""
    exam_sha256 = check.exam.sha256 if check.exam else None
    return DataInputs(check.train.sha256, exam_sha256, rows_sha256)
