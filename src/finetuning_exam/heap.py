"""What glibc does with memory that is freed. Other C libraries are left as they are."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`, from its malloc.h."""
_LARGEST_MMAP_THRESHOLD = 32 * 2**20
"""The largest that glibc accepts on 64 bits."""
_RETURNED = 2**17
"""Freed blocks from this size on go back to the system."""


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for the next tensor; says whether it does.

    By default every larger tensor is given back to the kernel and comes again page by page.
    """
    return _set_thresholds(_LARGEST_MMAP_THRESHOLD, 2**31 - 1)


def return_freed_memory() -> bool:
    """Let glibc give larger freed blocks back at once; says whether it does.

    The process then holds little more than what lives in it, and takes longer: freed blocks that
    are kept do not fit the next batch's sizes, so that a kept heap grows over the steps.
    """
    return _set_thresholds(_RETURNED, _RETURNED) and trim_heap()


def trim_heap() -> bool:
    """Give back what is free now; says whether there was a way to do it."""
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)
    return trim is not None


def can_return_freed_memory() -> bool:
    """Whether `return_freed_memory` changes anything here."""
    return _mallopt() is not None


def _set_thresholds(mmap: int, trim: int) -> bool:
    mallopt = _mallopt()
    return bool(mallopt and mallopt(_M_MMAP_THRESHOLD, mmap) and mallopt(_M_TRIM_THRESHOLD, trim))


def _mallopt() -> Callable[[int, int], int] | None:
    """None too where the user set `MALLOC_…` variables: these stay."""
    if any(name.startswith("MALLOC_") for name in os.environ):
        return None
    return _glibc("mallopt")


def _glibc(name: str) -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
