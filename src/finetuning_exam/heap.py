"""Control over what glibc does with freed memory. Other C libraries are left alone."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt` (malloc.h)."""
_LARGEST_MMAP_THRESHOLD = 32 * 2**20
"""Largest mmap threshold that glibc accepts on 64-bit systems, in bytes."""
_RETURNED = 2**17
"""Freed blocks of at least this many bytes are returned to the system."""


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory for the next tensor; return False if that is not possible.

    By default glibc returns each large tensor to the kernel, and the next one is mapped again page
    by page.
    """
    return _set_thresholds(_LARGEST_MMAP_THRESHOLD, 2**31 - 1)


def return_freed_memory() -> bool:
    """Make glibc return large freed blocks immediately; return False if that is not possible.

    The process then holds little more than its live data, but runs slower. Kept blocks rarely fit
    the sizes of the next batch, so a heap that keeps them grows over the steps.
    """
    return _set_thresholds(_RETURNED, _RETURNED) and trim_heap()


def trim_heap() -> bool:
    """Return all memory that is free now to the system; return False if that is not possible."""
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)
    return trim is not None


def can_return_freed_memory() -> bool:
    """Return True if `return_freed_memory` has an effect on this system."""
    return _mallopt() is not None


def _set_thresholds(mmap: int, trim: int) -> bool:
    mallopt = _mallopt()
    return bool(mallopt and mallopt(_M_MMAP_THRESHOLD, mmap) and mallopt(_M_TRIM_THRESHOLD, trim))


def _mallopt() -> Callable[[int, int], int] | None:
    """Return glibc's `mallopt`; None without glibc, or if the user set a `MALLOC_…` variable."""
    if any(name.startswith("MALLOC_") for name in os.environ):
        return None
    return _glibc("mallopt")


def _glibc(name: str) -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
