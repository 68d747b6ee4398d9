"""The processes that train together: one today.

The rule of who touches the outside world is here and nowhere else: files, locks and the terminal
belong to the main process (`Process.on_main`), and the others wait until it is done.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from finetuning_exam.errors import UsageError

T = TypeVar("T")


def _wait_for_nobody() -> None:
    """Return at once: a single process has nobody to wait for."""


@dataclass(frozen=True, slots=True)
class Process:
    """One of `size` processes that train together; `barrier` returns once all have called it."""

    rank: int = 0
    size: int = 1
    barrier: Callable[[], None] = _wait_for_nobody

    @property
    def is_main(self) -> bool:
        """Whether this process may write files, hold locks and print."""
        return self.rank == 0

    def on_main(self, effect: Callable[[], T]) -> T | None:
        """Run an effect in the main process and wait for it in the others, where it gives None."""
        result = effect() if self.is_main else None
        self.barrier()
        return result


ALONE = Process()


def this_process(environment: Mapping[str, str] = os.environ) -> Process:
    """Return the process that a launcher such as torchrun describes in the environment.

    Raises:
        UsageError: it describes several, which `fte train` does not support yet.
    """
    size = environment.get("WORLD_SIZE", "1")
    if size not in ("", "1"):
        raise UsageError(
            f"started as one of {size} processes (WORLD_SIZE={size}), but a run trains in one.",
            "Start fte train without torchrun or accelerate launch, or unset WORLD_SIZE.",
        )
    return ALONE
