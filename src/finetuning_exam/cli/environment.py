"""What must be set in the process before a library of the hub or torch is imported."""

from __future__ import annotations

import ctypes
import io
import logging
import os
import sys
import warnings

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`, from its malloc.h."""
_LARGEST_MMAP_THRESHOLD = 32 * 2**20
"""The largest that glibc accepts on 64 bits."""


def prepare_environment(command: str) -> None:
    """Settle streams, environment variables, memory and warnings for a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a character it cannot show is no reason to end
            stream.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    # Its threads do not go with the processes that torch may fork; the check has no torch.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true" if command == "check" else "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # Threads that spin for long while they wait bring a shared machine to a crawl.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    if command != "check":
        keep_freed_memory()
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells of its font cache
    # Notices from one library to another, which a user can do nothing about.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft)\b")


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for the next tensor; says whether it does.

    By default every larger tensor is given back to the kernel and comes again page by page.
    Elsewhere than on glibc, and where the user set `MALLOC_…` variables, nothing is changed.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is None:
        return False
    return bool(
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    )
