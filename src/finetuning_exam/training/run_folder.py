"""The output folder of a run: made ready before the work, its files written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from pathlib import Path
from typing import cast

from finetuning_exam.errors import AdapterError, DiskFullError, UsageError
from finetuning_exam.model.folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS, RUN, read_object

TOOL = "finetuning-exam"
EXAM = "exam.json"
METRICS = "metrics.jsonl"
DATA_CHECK = "data_check.json"
REPORT = "report.html"
CARD = "README.md"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_CHECKPOINT_FILES = (
    ADAPTER_WEIGHTS,
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "trainer_state.json",
)
_FILES = (
    EXAM,
    METRICS,
    DATA_CHECK,
    REPORT,
    CARD,
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
"""What a run writes besides run.json and its checkpoints."""

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
    """Whether a folder was written by a run: its run.json says so."""
    return read_run(folder).get("tool") == TOOL


def read_run(folder: Path) -> dict[str, Json]:
    """What run.json holds; nothing where there is none."""
    return cast(dict[str, Json], read_object(folder / RUN))


def clear_run(folder: Path) -> tuple[str, ...]:
    """Remove an earlier run's files and checkpoints, and nothing else; say what went."""
    removed: list[str] = []
    stale = [*(folder / name for name in _FILES), *(path for _, path in checkpoints(folder))]
    for path in [*stale, folder / RUN]:  # run.json last: until then it is still a run's folder
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()
        else:
            continue
        removed.append(path.name)
    return tuple(removed)


def begin(folder: Path, inputs: dict[str, Json]) -> None:
    """Mark a folder as a run's and write down its inputs, for a resume to compare."""
    write_json(folder / RUN, {"tool": TOOL, "state": "unfinished", **inputs})


def checkpoints(folder: Path) -> tuple[tuple[int, Path], ...]:
    """The checkpoints of a run as (step, folder), earliest first."""
    found = [
        (int(match[1]), path)
        for path in folder.iterdir()
        if path.is_dir() and (match := _CHECKPOINT.fullmatch(path.name))
    ]
    return tuple(sorted(found))


def find_checkpoint(folder: Path, wanted: str) -> Path:
    """The checkpoint to go on from: `latest`, which is the newest whole one, or a folder.

    Raises:
        UsageError: there is none.
        AdapterError: there are some, but files are missing in all of them.
    """
    if wanted != "latest":
        if not _is_whole(Path(wanted)):
            raise UsageError(
                f"{wanted}: is no whole checkpoint.",
                "Give latest, or a checkpoint-N folder of a run.",
            )
        return Path(wanted)
    found = [path for _, path in checkpoints(folder)] if folder.is_dir() else []
    if not found:
        raise UsageError(
            f"{folder}: holds no checkpoint to resume from.", "Leave out --resume_from_checkpoint."
        )
    whole = [path for path in found if _is_whole(path)]
    if not whole:
        names = ", ".join(path.name for path in found)
        raise AdapterError(
            f"{folder}: files are missing in every checkpoint ({names}).",
            "Leave out --resume_from_checkpoint to start again.",
        )
    return whole[-1]


def _is_whole(checkpoint: Path) -> bool:
    return all((checkpoint / name).is_file() for name in _CHECKPOINT_FILES)


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
