"""Check, before any work, that a command will be able to write its output file."""

from __future__ import annotations

import os
from pathlib import Path

from finetuning_exam.errors import UsageError

MARKER_WITHIN = 500
"""Characters at the start of a file in which its kind must show."""


def check_can_write(flag: str, path: Path) -> None:
    """Refuse a path where no file can be written.

    Raises:
        UsageError: it is a folder, or its own folder is missing or read-only.
    """
    if path.is_dir():
        raise UsageError(f"{flag} {path}: is a folder.", "Give the path of a file.")
    if not path.parent.is_dir():
        raise UsageError(
            f"{flag} {path}: its folder does not exist.", "Create it, or give another path."
        )
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"{flag} {path}: its folder is read-only.", "Give another path.")


def check_overwrites(flag: str, path: Path, marker: str, kind: str) -> None:
    """Refuse to overwrite a file of another kind, which lacks the marker in its first characters.

    Raises:
        UsageError: the file exists and is of another kind.
    """
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        if marker not in file.read(MARKER_WITHIN):
            raise UsageError(
                f"{flag} {path}: exists and is not {kind}.",
                "Give another path, or remove the file.",
            )
