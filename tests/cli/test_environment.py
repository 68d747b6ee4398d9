"""Specification of what a command sets before heavy libraries are loaded."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from finetuning_exam.cli.environment import keep_freed_memory, prepare_environment

_ALLOCATE = """
import resource
from finetuning_exam.cli.environment import keep_freed_memory
kept = keep_freed_memory()
import numpy
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    numpy.ones(2_000_000)  # 16 MB: fresh pages the first time
before = faults()
for _ in range(20):
    numpy.ones(2_000_000)
print(kept, faults() - before)
"""


def _run(**more: str) -> tuple[bool, int]:
    """Whether freed memory is kept, and the page faults of twenty arrays of 16 MB."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", _ALLOCATE],
        env=env | more,
        capture_output=True,
        text=True,
        check=True,
    )
    kept, faults = done.stdout.split()
    return kept == "True", int(faults)


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc"
)
def test_freed_memory_is_used_again() -> None:
    """On glibc a large array takes the pages of the last one instead of fresh ones."""
    kept, faults = _run()
    assert kept
    assert faults < 4096  # twenty fresh arrays have 80,000 small pages


def test_the_users_own_malloc_settings_stay() -> None:
    """Where the user has set a `MALLOC_…` variable, nothing is changed."""
    kept, _ = _run(MALLOC_ARENA_MAX="2")
    assert not kept


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere than on Linux nothing is changed."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()


def test_the_users_own_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that the user has set stay, but telemetry is off whatever is set."""
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "0")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    prepare_environment("train")
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    assert os.environ["TOKENIZERS_PARALLELISM"] == "true"
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"
