"""The machine and the library versions that the last bits of a run depend on."""

from __future__ import annotations

import platform
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

_LIBRARIES = ("finetuning-exam", "torch", "transformers", "peft", "trl", "datasets", "tokenizers")


def now() -> datetime:
    """Return the local time to the second, without a time zone."""
    return datetime.now().replace(microsecond=0)


def machine_facts(threads: int) -> dict[str, str]:
    """Return everything besides its inputs that the last bits of a run depend on, by name."""
    return {**dict(library_versions()), "threads": str(threads), "processor": processor_name()}


def processor_name() -> str:
    """Return the processor's name from Linux's /proc/cpuinfo, or else from Python."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def library_versions() -> tuple[tuple[str, str], ...]:
    """Return the versions of Python and of the libraries that a result depends on."""
    return (
        ("python", platform.python_version()),
        *((name, version(name)) for name in _LIBRARIES),
    )
