"""The output folder of a run: made ready before the work, its files written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from pathlib import Path

from finetuning_exam.errors import DiskFullError, UsageError

RUN = "run.json"
EXAM = "exam.json"
METRICS = "metrics.jsonl"
REPORT = "report.html"
CARD = "README.md"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


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
        probe = folder / ".write-probe"
        probe.touch()
        probe.unlink()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{folder}: cannot be written to ({reason}).", "Give another --output_dir."
        ) from error
    if any(folder.iterdir()) and not is_run_folder(folder):
        raise UsageError(
            f"{folder}: is not empty and holds no run.", "Give a new or empty --output_dir."
        )


def is_run_folder(folder: Path) -> bool:
    """Whether a folder was written by a run: it has run.json."""
    return (folder / RUN).is_file()


def clear_run(folder: Path) -> tuple[str, ...]:
    """Remove an earlier run's files and checkpoints, and nothing else; say what went."""
    removed: list[str] = []
    names = (EXAM, METRICS, REPORT, CARD, "adapter_model.safetensors", "adapter_config.json")
    stale = [*(folder / name for name in names), *(path for _, path in checkpoints(folder))]
    for path in [*stale, folder / RUN]:  # run.json last: until then it is still a run's folder
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()
        else:
            continue
        removed.append(path.name)
    return tuple(removed)


def begin(folder: Path) -> None:
    """Mark a folder as a run's, so that a run that was cut short can be told and replaced."""
    write_json(folder / RUN, {"state": "unfinished"})


def checkpoints(folder: Path) -> tuple[tuple[int, Path], ...]:
    """The checkpoints of a run as (step, folder), earliest first."""
    found = [
        (int(match[1]), path)
        for path in folder.iterdir()
        if path.is_dir() and (match := _CHECKPOINT.fullmatch(path.name))
    ]
    return tuple(sorted(found))


def find_checkpoint(folder: Path, wanted: str) -> Path:
    """The checkpoint to go on from: `latest` or a folder.

    Raises:
        UsageError: there is none.
    """
    if wanted == "latest":
        found = checkpoints(folder) if folder.is_dir() else ()
        if not found:
            raise UsageError(
                f"{folder}: holds no checkpoint to resume from.",
                "Leave out --resume_from_checkpoint.",
            )
        return found[-1][1]
    path = Path(wanted)
    if not (path / "trainer_state.json").is_file():
        raise UsageError(
            f"{wanted}: is no checkpoint.", "Give latest, or a checkpoint-N folder of a run."
        )
    return path


def write_text(path: Path, text: str) -> None:
    """Write a file whole: into a temporary neighbour, flushed to disk, then renamed.

    Raises:
        DiskFullError: no space left.
        UsageError: it cannot be written for another reason.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        # backslashreplace: names of files on Linux need not be Unicode
        with partial.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        if error.errno == errno.ENOSPC:
            raise DiskFullError(
                f"{path}: no space left on the disk.", "Free some space."
            ) from error
        raise UsageError(f"{path}: cannot be written ({error.strerror}).") from error


def write_json(path: Path, value: Json) -> None:
    """Write a JSON file whole, indented, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
