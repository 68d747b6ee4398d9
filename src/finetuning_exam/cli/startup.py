"""What must be set in the process before a library of the hub or torch is imported."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from importlib.util import find_spec

from finetuning_exam.errors import UsageError
from finetuning_exam.heap import keep_freed_memory

LIBRARIES_MAP = 5 * 10**9
"""Bytes of addresses that PyTorch with its libraries for CUDA, and what else is imported, take
before a model is loaded. A fifth of them is memory.
"""


def prepare_process(command: str) -> None:
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
    # One kernel per shape and operation is kept, at 1 to 2 MB each; by default 1,024 of them.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    if command != "check":
        check_address_space()
        keep_freed_memory()
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells of its font cache
    # Notices from one library to another, which a user can do nothing about.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft)\b")


def check_address_space() -> None:
    """See that the libraries can be loaded under the limit on addresses (`ulimit -v`).

    Where they cannot, some end without a word and others never come back.

    Raises:
        UsageError: the limit is below what they take.
    """
    if sys.platform != "linux" or find_spec("nvidia") is None:
        return
    from resource import RLIM_INFINITY, RLIMIT_AS, getrlimit

    limit, _ = getrlimit(RLIMIT_AS)
    if limit != RLIM_INFINITY and limit < LIBRARIES_MAP:
        raise UsageError(
            f"a process may use {limit / 1e9:.1f} GB of addresses here (ulimit -v), and the "
            f"libraries take {LIBRARIES_MAP / 1e9:.0f} GB before a model is loaded.",
            "Lift it with: ulimit -v unlimited. A cgroup limits memory itself, and fte train "
            "keeps to what it leaves.",
        )
