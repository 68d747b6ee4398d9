"""The way the user started the program, so that hints can be typed as they are."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def is_under_uv() -> bool:
    """Return whether `uv run` started this process: it counts its nesting in a variable."""
    return bool(os.environ.get("UV_RUN_RECURSION_DEPTH"))


def command_prefix() -> str:
    """Return what the user types before a command's name, so that hints can be typed as they are.

    `uv run fte`, `python -m finetuning_exam`, or `fte`.
    """
    if is_under_uv():
        return "uv run fte"
    if Path(sys.argv[0]).parts[-2:] == ("finetuning_exam", "__main__.py"):
        return "python -m finetuning_exam"
    return "fte"
