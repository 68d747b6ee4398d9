"""How a run of `fte train` starts, goes on and is stopped: nothing is lost, nothing is mixed."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from finetuning_exam.cli.arguments import Parsed
from finetuning_exam.cli.console import print_line
from finetuning_exam.cli.registry import command_prefix
from finetuning_exam.data.check import Check
from finetuning_exam.durable import Json
from finetuning_exam.errors import AdapterError, StoppedError, UsageError, is_out_of_memory
from finetuning_exam.model.folder import RUN, check_adapter_folder
from finetuning_exam.report.text import size
from finetuning_exam.settings import TrainSettings
from finetuning_exam.training import run_folder
from finetuning_exam.training.checkpoint.find import (
    CheckpointRef,
    checkpoints,
    find_checkpoint,
    needed_space,
)
from finetuning_exam.training.inputs import (
    check_same_inputs,
    machine_changes,
    prepared_inputs,
    run_inputs,
)

if TYPE_CHECKING:
    from finetuning_exam.training.run import Prepared

RESUME = "resume_from_checkpoint"
OVERWRITE = "overwrite_output_dir"
LESS_IN_TRAINING = (
    "Lower --micro_batch_tokens or --max_length, or give --gradient_checkpointing True."
)
LESS_IN_EXAM = "Lower --eval_batch_size or --max_new_tokens."


@contextmanager
def resume_hint(go_on: str) -> Iterator[None]:
    """Say of a run that was stopped how to go on."""
    try:
        yield
    except StoppedError as error:
        error.hint = go_on
        raise
    except KeyboardInterrupt as error:
        raise type(error)(go_on) from None


@contextmanager
def out_of_memory_hint(expected: int, hint: str) -> Iterator[None]:
    """Say where memory runs out how much was expected to do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UsageError(f"out of memory; {size(expected)} were expected to do.", hint) from error


def print_stopping() -> None:
    """Say at once that a signal was taken note of."""
    # A signal may come in the middle of a print; this goes past Python's buffers.
    os.write(2, b"\nfte train: stopping after this step; once more stops at once.\n")


def resume_command(command: str) -> str:
    """The command that goes on with a run, as the user would type it."""
    again = command_without_resume(command).removeprefix("fte")
    return f"{command_prefix()}{again} --resume_from_checkpoint latest"


def command_without_resume(command: str) -> str:
    """The command that makes a run again, however often it was resumed."""
    kept: list[str] = []
    dropped = ""
    for word in shlex.split(command):
        is_value = not word.startswith("-")
        if dropped and is_value and (dropped != OVERWRITE or word.lower() in ("true", "false")):
            dropped = ""
            continue
        name = word.partition("=")[0].replace("-", "_").lstrip("_").removeprefix("no_")
        dropped = name if name in (RESUME, OVERWRITE) and "=" not in word else ""
        if name not in (RESUME, OVERWRITE):
            kept.append(word)
    return shlex.join(kept)


def asked_checkpoint(settings: TrainSettings, check: Check) -> CheckpointRef | None:
    """The checkpoint to go on from, if that was asked for and it is of the same run.

    Raises:
        UsageError: there is none, or it was made with other inputs.
        AdapterError: it is damaged, or nothing tells what it was made with.
    """
    if settings.resume_from_checkpoint is None:
        return None
    found = find_checkpoint(Path(settings.output_dir), settings.resume_from_checkpoint)
    earlier = run_folder.read_run(found.path.parent)
    if "settings" not in earlier:
        raise AdapterError(
            f"{found.path.parent / RUN}: is missing or damaged, so that nothing tells what the "
            "checkpoint was made with.",
            "Start again with --overwrite_output_dir.",
        )
    check_same_inputs(earlier, _inputs(settings, check), str(found.path))
    return found


def _is_of(folder: Path, found: CheckpointRef | None) -> bool:
    """Whether a run goes on in the folder that its checkpoint lies in."""
    return found is not None and found.path.resolve().parent == folder.resolve()


def check_start(parsed: Parsed[TrainSettings], folder: Path, found: CheckpointRef | None) -> None:
    """Refuse a new run where it would destroy an unfinished one or what it starts from.

    Raises:
        UsageError: how to go on with that one, or to start again.
    """
    settings = parsed.settings
    source = Path(settings.fork) if settings.fork is not None else None
    if source is not None:
        check_adapter_folder(source)
        if folder.resolve() in (source.resolve(), *source.resolve().parents):
            raise UsageError(
                f"--fork {source}: lies in the output folder, which a new run clears.",
                "Give another --output_dir.",
            )
    if _is_of(folder, found) or settings.overwrite_output_dir:
        return
    saved = checkpoints(folder)
    if saved and run_folder.is_unfinished(folder):
        raise UsageError(
            f"{folder}: holds an unfinished run (step {saved[-1][0]:,} is saved).",
            f"Go on with: {resume_command(parsed.command_line)} (or start again with "
            "--overwrite_output_dir).",
        )


def _inputs(settings: TrainSettings, check: Check) -> dict[str, Json]:
    train, exam = check.train, check.exam
    return run_inputs(settings, train.sha256, exam.sha256 if exam else None)


def begin_folder(
    console: Console,
    prepared: Prepared,
    check: Check,
    found: CheckpointRef | None,
) -> None:
    """Say what the run goes on from; a new run first removes an earlier run's files.

    Raises:
        UsageError: the checkpoint was made of another base, or of other tokens.
        DiskError: the run's files would not fit on the disk.
    """
    from finetuning_exam.training.record import machine_facts

    settings = prepared.settings
    folder = Path(settings.output_dir)
    adapter_bytes = 4 * prepared.n_adapter_parameters
    is_own = _is_of(folder, found)
    run_folder.check_space(
        folder, needed_space(adapter_bytes, settings.save_total_limit, resumed=is_own)
    )
    machine = machine_facts(prepared.compute.threads)
    inputs = prepared_inputs(
        _inputs(settings, check),
        (prepared.base.name, prepared.base.sha256),
        prepared.rows.template,
        prepared.rows_sha256,
        prepared.plan.micro_batches,
        prepared.compute.device.type,
        prepared.compute.dtype_name,
        machine,
    )
    if found:
        earlier = run_folder.read_run(found.path.parent)
        check_same_inputs(earlier, inputs, str(found.path))
        for reason in found.passed_over:
            print_line(console, f"Warning: passed over: {reason}.")
        changes = machine_changes(earlier, machine)
        if changes:
            print_line(console, f"Warning: not bit for bit the same run: {', '.join(changes)}.")
        print_line(console, f"resuming from {found.path}")
    if not is_own and run_folder.clear_run(folder):
        print_line(console, f"{folder}: the earlier run there is replaced")
    run_folder.begin(folder, inputs)
