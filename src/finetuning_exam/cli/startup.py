"""Process settings that must be in place before torch or the hub's library is imported."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from importlib.util import find_spec

from finetuning_exam.cli.registry import Command
from finetuning_exam.errors import UsageError
from finetuning_exam.heap import keep_freed_memory

SPIN_COUNT = "1000"
"""Rounds of waiting before a thread of GNU's OpenMP sleeps (docs/experiments.md)."""
LIBRARIES_MAP = 5 * 10**9
"""Bytes of address space that PyTorch, its CUDA libraries and the other imports take before a model
is loaded. A fifth of it is memory.
"""


def prepare_process(command: Command) -> None:
    """Set up streams, environment variables, memory and warnings for a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # escape characters that it cannot show
            stream.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    # Its threads do not survive a fork, and torch may fork; the check has no torch.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false" if command.uses_torch else "true")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    bound_spinning()
    # One kernel per shape and operation is kept, at 1 to 2 MB each; by default 1,024 of them.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    if command.uses_torch:
        check_address_space()
        keep_freed_memory()
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it reports its font cache
    # Notices between libraries that a user can do nothing about.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft)\b")


def bound_spinning() -> None:
    """Let threads that wait for each other sleep soon, unless the user says how they wait.

    Threads that spin take the time of those they wait for as soon as a machine is shared. PyTorch's
    wheels bring GNU's OpenMP, which reads the first of these variables; builds with LLVM's or
    Intel's, as on macOS or from conda, read the second, in milliseconds.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
        os.environ.setdefault("KMP_BLOCKTIME", "0")


def check_address_space() -> None:
    """Check that the libraries fit under the limit on address space (`ulimit -v`).

    Under a lower limit, some exit without a message and others hang.

    Raises:
        UsageError: the limit is too low.
    """
    if sys.platform != "linux" or find_spec("nvidia") is None:
        return
    from resource import RLIM_INFINITY, RLIMIT_AS, getrlimit

    limit, _ = getrlimit(RLIMIT_AS)
    if limit != RLIM_INFINITY and limit < LIBRARIES_MAP:
        raise UsageError(
            f"the address space is limited to {limit / 1e9:.1f} GB (ulimit -v), but the libraries "
            f"need {LIBRARIES_MAP / 1e9:.0f} GB before a model is loaded.",
            "Lift the limit with: ulimit -v unlimited. To limit memory, use a cgroup; fte train "
            "respects it.",
        )
