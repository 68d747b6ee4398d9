"""Standard input as a file, which `-` stands for."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from contextlib import suppress
from functools import lru_cache

from finetuning_exam.errors import UsageError

DASH = "-"
STDIN = "<stdin>"
"""The name of standard input in messages and in run.json."""
_HINT = "Pipe the data into the command, for example: cat FILE | fte check -."


@lru_cache(maxsize=1)
def spooled() -> str:
    """Return the path of a file with everything that standard input held.

    It can be read only once, so the file is made at the first call and removed at the end of the
    process.

    Raises:
        UsageError: standard input is closed, or a terminal.
    """
    if sys.stdin is None or sys.stdin.closed:
        raise UsageError("standard input is closed.", _HINT)
    if sys.stdin.isatty():
        raise UsageError("standard input is a terminal, not data.", _HINT)
    handle, path = tempfile.mkstemp(prefix="fte-stdin-")
    atexit.register(_remove, path)
    with os.fdopen(handle, "wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    return path


def stored_path(path: str) -> str:
    """Return where the bytes of a path are: of standard input in its file, once it was read."""
    return spooled() if path == STDIN and spooled.cache_info().currsize else path


def _remove(path: str) -> None:
    with suppress(OSError):
        os.remove(path)
