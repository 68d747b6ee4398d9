"""The output folder of a run: check it, lock it, and clear it of an earlier run's files only."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finetuning_exam import run_file
from finetuning_exam.durable import (
    MANIFEST,
    leftovers,
    remove_folder,
    sweep,
    write_manifest,
)
from finetuning_exam.errors import DiskError, InUseError, UsageError
from finetuning_exam.model.folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from finetuning_exam.run_file import RUN
from finetuning_exam.run_record import RunInputs
from finetuning_exam.training.checkpoint.find import checkpoints

EXAM = "exam.json"
EXAM_ROWS = "exam_rows.json"
METRICS = "metrics.jsonl"
DATA_CHECK = "data_check.json"
REPLAY = "replay.jsonl"
REPORT = "report.html"
CARD = "README.md"
LOCK = ".lock"
_LOADED = (
    ADAPTER_WEIGHTS,
    ADAPTER_CONFIG,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)
_FILES = (
    MANIFEST,
    EXAM,
    EXAM_ROWS,
    METRICS,
    DATA_CHECK,
    REPLAY,
    REPORT,
    CARD,
    "additional_chat_templates",
    *_LOADED,
)
"""What a run writes besides run.json and its checkpoints."""
SEALED = (*_LOADED, RUN)
"""What the manifest of a finished run names: all that is loaded from it. The rest may be edited."""
_FOLD = re.compile(r"fold-(\d+)")


def check_output_dir(folder: Path) -> None:
    """Fail before any work when a run could not be written here.

    Raises:
        UsageError: it is a file, cannot be written to, or holds something that is not a run.
    """
    try:
        if folder.is_symlink() and not folder.exists():
            raise UsageError(f"{folder}: is a link to nothing.", "Give another --output_dir.")
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder}: is a file, not a folder.", "Give another --output_dir.")
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-probe-{os.getpid()}.partial"
        probe.touch()
        probe.unlink()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{folder}: cannot be written to ({reason}).", "Give another --output_dir."
        ) from error
    ours = {LOCK, *(path.name for path in leftovers(folder))}
    if any(it.name not in ours for it in folder.iterdir()) and not run_file.is_run(folder):
        raise UsageError(
            f"{folder}: is not empty and holds no run.", "Give a new or empty --output_dir."
        )


def is_unfinished(folder: Path) -> bool:
    """Return whether a folder holds a run that has not finished.

    Raises:
        UsageError: a newer version of this program wrote its run.json.
    """
    run = run_file.read(folder)
    return run is not None and run.is_unfinished


def fold_folder(folder: Path, number: int) -> Path:
    """Return the folder of a fold of a cross-validation, counted from 1."""
    return folder / f"fold-{number}"


def fold_folders(folder: Path) -> tuple[tuple[int, Path], ...]:
    """Return the folds of a cross-validation that have begun, as (number, folder) in order."""
    found = [
        (int(match[1]), path)
        for path in folder.iterdir()
        if (match := _FOLD.fullmatch(path.name)) and path.is_dir() and run_file.is_run(path)
    ]
    return tuple(sorted(found))


def saved_work(folder: Path) -> str:
    """Return what of a run could be resumed, such as `step 40 is saved`; empty if nothing could."""
    if saved := checkpoints(folder):
        return f"step {saved[-1][0]:,} is saved"
    for number, fold in reversed(fold_folders(folder)):
        if not is_unfinished(fold):
            return f"fold {number} is finished"
        if work := saved_work(fold):
            return f"fold {number}, {work}"
    return ""


def clear_run(folder: Path) -> tuple[str, ...]:
    """Remove an earlier run's files, checkpoints and folds, and nothing else; say what went."""
    sweep(folder)
    for _, fold in fold_folders(folder):
        clear_run(fold)
        if not any(fold.iterdir()):
            fold.rmdir()
    removed: list[str] = []
    stale = [*(folder / name for name in _FILES), *(path for _, path in checkpoints(folder))]
    for path in [*stale, folder / RUN]:  # run.json last: until then it is still a run's folder
        if path.is_dir() and not path.is_symlink():
            remove_folder(path)
        elif path.exists():
            path.unlink()
        else:
            continue
        removed.append(path.name)
    return tuple(removed)


def begin(folder: Path, inputs: RunInputs) -> None:
    """Mark a folder as a run's and write down its inputs, for a resume to compare.

    The manifest of a finished run that goes on is removed: it will be written again.
    """
    (folder / MANIFEST).unlink(missing_ok=True)
    run_file.write(folder, inputs)


def seal(folder: Path) -> None:
    """Write the manifest of the files that are loaded from a finished run."""
    write_manifest(folder, [name for name in SEALED if (folder / name).exists()])


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder; the system releases the lock when this process ends.

    Raises:
        InUseError: another run is in there.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InUseError(
            f"{folder}: another run is at work in there.",
            "Wait for it, or give another --output_dir.",
        ) from None
    try:
        yield
    finally:
        lock.release()


def check_space(folder: Path, needed: int) -> None:
    """Refuse a run whose files would not fit on the disk.

    Raises:
        DiskError: fewer than `needed` bytes are free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskError(
            f"{folder}: {free / 1e6:,.0f} MB are free on the disk, and the run needs about "
            f"{needed / 1e6:,.0f} MB.",
            "Free some space, or give another --output_dir.",
        )
