"""How a command ends: its last line, standard output that takes no more, and the terminal."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TextIO

CLOSED_OUTPUT = 141
"""Exit code for a closed pipe: 128 + SIGPIPE, following the shell convention."""
_SHOW_CURSOR = b"\x1b[?25h"


def print_error(text: str) -> None:
    """Print a line on standard error, if that can be written to."""
    from finetuning_exam.report.text import visible

    if sys.stderr is not None:
        try:
            sys.stderr.write(f"{visible(text)}\n")
            sys.stderr.flush()
        except OSError:
            _drop(sys.stderr)


def flush_output() -> None:
    """Write what is left of standard output, so that a failure is noticed here and not at exit.

    Raises:
        OSError: the device is full, or the pipe is closed.
    """
    if sys.stdout is not None:
        sys.stdout.flush()


def discard_output() -> bool:
    """Drop what is left of standard output if it cannot be written; return whether that was so.

    Python would try again at exit, and fail with a message of its own.
    """
    try:
        flush_output()
    except OSError:
        _drop(sys.stdout)
        return True
    return False


def _drop(stream: TextIO) -> None:
    """Send everything that a stream still holds, and all that is to come, to nowhere."""
    with suppress(OSError, ValueError):  # not a file, as in a notebook
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def show_cursor() -> None:
    """Show the cursor, which a live line hides, whatever was interrupted."""
    with suppress(OSError, ValueError, AttributeError):  # closed, not a file, or absent
        if sys.stdout.isatty():
            os.write(sys.stdout.fileno(), _SHOW_CURSOR)
