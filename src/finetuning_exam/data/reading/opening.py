"""A path becomes an open regular file, or an error that says what it is instead."""

from __future__ import annotations

import difflib
import io
import os
import stat
from itertools import islice
from pathlib import PurePath

from finetuning_exam.errors import UsageError

PATH_MEND = "Give the path of a file of records: JSON lines, JSON, CSV, TSV or Parquet."
_MOST_NAMES = 10_000
_NEAR = 0.85
"""How alike, from 0 to 1, the name of a file must be to one that is missing."""


def open_regular(path: str) -> io.FileIO:
    """A regular file, opened without a buffer; anything else is not opened at all.

    Raises:
        UsageError: it is missing, a folder, no regular file, or not readable.
    """
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            raise UsageError(f"{path}: is {kind}.", PATH_MEND)
        return io.FileIO(path, "rb")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file.", _near(path) or PATH_MEND) from None
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError:  # a zero byte in the path
        raise UsageError(f"{path!r}: is not the name of a file.", PATH_MEND) from None


def _near(path: str) -> str:
    """A question about a file of nearly the same name in the same folder, "" where none is."""
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
    """The error for a file that the system does not let us read."""
    return UsageError(f"{path}: cannot be read ({error.strerror or error}).", PATH_MEND)
