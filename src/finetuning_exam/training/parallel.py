"""The processes of a training; only a single one is supported so far.

One rule decides which process may have side effects, and it is defined only here: files, locks
and the terminal belong to the main process (`Process.on_main`), and the others wait for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

from finetuning_exam.errors import UsageError

T = TypeVar("T")


def _no_barrier() -> None:
    """Return immediately: a single process has no others to wait for."""


@dataclass(frozen=True, slots=True)
class Process:
    """One of `size` training processes; `barrier` returns once all of them have called it."""

    rank: int = 0
    size: int = 1
    barrier: Callable[[], None] = _no_barrier

    @property
    def is_main(self) -> bool:
        """True for the one process that may write files, hold locks and print."""
        return self.rank == 0

    def on_main(self, effect: Callable[[], T]) -> T | None:
        """Run `effect` in the main process and return its result; others wait, and return None."""
        result = effect() if self.is_main else None
        self.barrier()
        return result

    def main_only(self, held: AbstractContextManager[None]) -> AbstractContextManager[None]:
        """Return a context, such as a lock, that only the main process enters."""
        return held if self.is_main else nullcontext()


SINGLE_PROCESS = Process()


def this_process(environment: Mapping[str, str] = os.environ) -> Process:
    """Return this process as described by a launcher such as torchrun in the environment.

    Raises:
        UsageError: there are several processes, which `fte train` does not support yet.
    """
    size = environment.get("WORLD_SIZE", "1")
    if size not in ("", "1"):
        raise UsageError(
            f"started as one of {size} processes (WORLD_SIZE={size}), but only one is supported.",
            "Start fte train without torchrun or accelerate launch, or unset WORLD_SIZE.",
        )
    return SINGLE_PROCESS
