"""Open a path as a regular file, or raise an error that says what it is instead."""

from __future__ import annotations

import difflib
import io
import os
import stat
from itertools import islice
from pathlib import PurePath

from finetuning_exam.data.reading.stdin import stored_path
from finetuning_exam.errors import UsageError

PATH_HINT = "Give the path of a data file: JSON lines, JSON, CSV, TSV, Excel, Parquet or text."
_MOST_NAMES = 10_000
_NEAR = 0.85
"""The least similarity, from 0 to 1, of a suggested file name to the missing one."""


def open_regular(path: str) -> io.FileIO:
    """Open a regular file without a buffer; anything else is not opened at all.

    Raises:
        UsageError: it is missing, a folder, not a regular file, or not readable.
    """
    try:
        stored = stored_path(path)
        mode = os.stat(stored).st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            raise UsageError(f"{path} is {kind}.", PATH_HINT)
        return io.FileIO(stored, "rb")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file.", _near(path) or PATH_HINT) from None
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError:  # a zero byte in the path
        raise UsageError(f"{path!r} is not a valid path.", PATH_HINT) from None


def _near(path: str) -> str:
    """Suggest a file of nearly the same name in the same folder; "" if there is none."""
    folder, name = os.path.split(path)
    try:
        with os.scandir(folder or ".") as found:
            files = [it.name for it in islice(found, _MOST_NAMES) if it.is_file()]
    except OSError:
        return ""
    near = difflib.get_close_matches(name, files, n=1, cutoff=_NEAR)
    near = near or sorted(it for it in files if PurePath(it).stem == PurePath(name).stem)
    return f"Did you mean {os.path.join(folder, near[0])}?" if near else ""


def unreadable(path: str, error: OSError) -> UsageError:
    """Return the error for a file that the operating system does not let us read."""
    return UsageError(f"{path} cannot be read ({error.strerror or error}).", PATH_HINT)
