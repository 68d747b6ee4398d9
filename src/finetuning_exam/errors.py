"""Every error a user can see, with its exit code.

UserError                 what is wrong, where, and how to fix it, on one line
├── UsageError        2   an invalid flag, setting or path
├── DataError         2   all faults of a data file, reported together
├── ModelError        2   a model or tokenizer that cannot be used
├── AdapterError      3   a damaged adapter or checkpoint, or one for a different base
├── DiskError         4   no space left on the disk, or an I/O error
├── DivergedError     5   the loss or a gradient is no longer finite
├── InUseError        6   another run is using the output directory
├── WorseError        7   the exam found the tuned model worse (`--fail_if_worse`)
├── DiffersError      8   an exported model that is not the trained one
├── IncompleteError   9   adapter and exam are complete, but another file could not be written
└── StoppedError    130   stopped by Ctrl-C after saving; 143 for SIGTERM
"""

from __future__ import annotations

from collections.abc import Sequence


class UserError(Exception):
    """A mistake or a limit the user can do something about; shown without a traceback.

    `what` says what is wrong and where, `hint` how to fix it.
    """

    exit_code: int = 2

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what} {self.hint}".strip()


class UsageError(UserError):
    """An invalid flag, setting or path."""


class DataError(UserError):
    """Faults of a data file, each a complete line such as `data.jsonl:3: not valid JSON`.

    The message lists the first `shown` faults; `faults` keeps them all.
    """

    def __init__(self, faults: Sequence[str], hint: str = "", shown: int = 20) -> None:
        lines = list(faults[:shown])
        if len(faults) > shown:
            more = len(faults) - shown
            lines.append(f"… and {more:,} more {'fault' if more == 1 else 'faults'}.")
        super().__init__("\n".join(lines), hint)
        self.faults = tuple(faults)

    def __str__(self) -> str:
        """One fault per line; with several faults, the hint goes on a separate last line."""
        return (
            "\n".join(filter(None, (self.what, self.hint))) if self.is_list else super().__str__()
        )

    @property
    def is_list(self) -> bool:
        """True if there is more than one fault."""
        return len(self.faults) > 1


class ModelError(UserError):
    """A model or tokenizer that cannot be used."""


class AdapterError(UserError):
    """A damaged adapter or checkpoint, or one trained on a different base."""

    exit_code = 3


class DiskError(UserError):
    """No space left on the disk, or an I/O error while writing."""

    exit_code = 4


class DivergedError(UserError):
    """The training loss or a gradient is no longer finite."""

    exit_code = 5


class InUseError(UserError):
    """Another run is using the output directory."""

    exit_code = 6


class StoppedError(UserError):
    """Training stopped by a signal, after saving the current step.

    The exit code is 128 + `number` (the signal's number), following the shell convention.
    """

    def __init__(self, number: int, step: int, total_steps: int) -> None:
        super().__init__(f"stopped after step {step:,} of {total_steps:,} (checkpoint saved).")
        self.exit_code = 128 + number
        self.step = step


class WorseError(UserError):
    """The exam found the tuned model worse than its base."""

    exit_code = 7


class DiffersError(UserError):
    """An exported model that does not do what the trained one does."""

    exit_code = 8


class IncompleteError(UserError):
    """A run whose adapter and exam are complete, and which lacks another of its files."""

    exit_code = 9


_NO_MEMORY = ("out of memory", "allocate memory", "not enough memory", "bad_alloc")
"""Parts of the messages that torch (CPU, CUDA, MPS) and C++ raise when an allocation fails."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return True if a Python or torch error reports a failed allocation."""
    message = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(it in message for it in _NO_MEMORY)
    )


def first_line(error: Exception) -> str:
    """Return the first line of a library's message, without its full stop."""
    return (str(error).strip() or repr(error)).splitlines()[0].rstrip(".:")
