"""Loading libraries that leave half a million lasting objects behind."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_NEW_OBJECTS = 10_000
"""New objects between two passes of the garbage collector while libraries are loaded."""


@contextmanager
def rare_collections() -> Iterator[None]:
    """Let the garbage collector pass rarely; afterwards its thresholds are what they were.

    By default it passes over a thousand times while torch, Transformers and PEFT are imported,
    finds next to nothing to free, and takes a tenth of the time.
    """
    before = gc.get_threshold()
    gc.set_threshold(max(_NEW_OBJECTS, before[0]) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
