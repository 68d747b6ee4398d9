"""Every error a user can meet, and its exit code.

UserError                 what went wrong, where, and the hint, in one line
├── UsageError        2   a flag, a setting or a path that cannot be used
├── DataError         2   faults in a data file, all of them together
├── ModelError        2   a model or tokenizer that cannot be used
├── AdapterError      3   a damaged adapter or checkpoint, or one made for another base
├── DiskError         4   no space left, or the disk fails
├── DivergedError     5   the loss or a gradient is no longer finite
├── InUseError        6   another run works in the output directory
├── WorseError        7   the exam found the tuned model worse (`--fail_if_worse`)
└── StoppedError    130   Ctrl-C; 143 SIGTERM: ended after saving
"""

from __future__ import annotations

from collections.abc import Sequence


class UserError(Exception):
    """A mistake or a limit that the user can hint; shown without a traceback."""

    exit_code: int = 2

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what} {self.hint}".strip()


class UsageError(UserError):
    """A flag, a setting or a path that cannot be used."""


class DataError(UserError):
    """Faults in a data file; `faults` are whole lines such as `data.jsonl:3: not valid JSON`."""

    def __init__(self, faults: Sequence[str], hint: str = "", shown: int = 20) -> None:
        lines = list(faults[:shown])
        if len(faults) > shown:
            more = len(faults) - shown
            lines.append(f"… and {more:,} more {'fault' if more == 1 else 'faults'}.")
        super().__init__("\n".join(lines), hint)
        self.faults = tuple(faults)

    def __str__(self) -> str:
        """The faults one below the other, and the hint of several on a line of its own."""
        return (
            "\n".join(filter(None, (self.what, self.hint))) if self.is_list else super().__str__()
        )

    @property
    def is_list(self) -> bool:
        """Whether there are several faults."""
        return len(self.faults) > 1


class ModelError(UserError):
    """A model or tokenizer that cannot be used."""


class AdapterError(UserError):
    """A damaged adapter or checkpoint, or one that was made for another base."""

    exit_code = 3


class DiskError(UserError):
    """No space left where a file had to be written, or a disk that fails."""

    exit_code = 4


class DivergedError(UserError):
    """The training loss or a gradient is no longer a finite number."""

    exit_code = 5


class InUseError(UserError):
    """Another run works in the output directory."""

    exit_code = 6


class StoppedError(UserError):
    """A training that a signal ended after a step, which is saved.

    `number` is the signal's; the exit code is 128 more, as shells have it.
    """

    def __init__(self, number: int, step: int, total_steps: int) -> None:
        super().__init__(f"stopped after step {step:,} of {total_steps:,}, which is saved.")
        self.exit_code = 128 + number
        self.step = step


class WorseError(UserError):
    """The exam found the tuned model worse than its base."""

    exit_code = 7


_NO_MEMORY = ("out of memory", "allocate memory", "not enough memory", "bad_alloc")
"""What torch says in its errors on a CPU, on CUDA and on MPS, and C++ in its own."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python's or torch's tells of an allocation that failed."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(it in words for it in _NO_MEMORY)
    )
