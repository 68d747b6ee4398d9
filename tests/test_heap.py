"""Specification of how glibc treats freed memory."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from finetuning_exam.heap import (
    can_return_freed_memory,
    keep_freed_memory,
    return_freed_memory,
    trim_heap,
)

on_glibc = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc"
)
_ALLOCATE = """
import resource, sys
from finetuning_exam import heap
done = [getattr(heap, name)() for name in sys.argv[1:]]
import numpy
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    numpy.ones(2_000_000)  # 16 MB: fresh pages the first time
before = faults()
for _ in range(20):
    numpy.ones(2_000_000)
print(all(done), faults() - before)
"""


def _run(*functions: str, **more: str) -> tuple[bool, int]:
    """Return whether all functions had an effect, and the page faults of twenty 16 MB arrays."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", _ALLOCATE, *functions],
        env=env | more,
        capture_output=True,
        text=True,
        check=True,
    )
    is_done, faults = done.stdout.split()
    return is_done == "True", int(faults)


@on_glibc
def test_freed_memory_is_used_again() -> None:
    """A large array reuses the pages of the previous one."""
    is_kept, faults = _run("keep_freed_memory")
    assert is_kept
    assert faults < 4096  # twenty fresh arrays have 80,000 small pages


@on_glibc
def test_freed_memory_goes_back() -> None:
    """Memory kept so far is returned from then on, array by array."""
    is_returned, faults = _run("keep_freed_memory", "return_freed_memory")
    assert is_returned
    _, kept = _run("keep_freed_memory")
    assert faults > kept + 20  # a huge page is one fault, and an array has a few


@on_glibc
def test_a_heap_is_trimmed() -> None:
    """Free blocks in the middle of the heap are returned."""
    lines = """
import os
from finetuning_exam import heap
assert heap.keep_freed_memory()
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
blocks = [b"x" * 1_000_000 for _ in range(200)]
del blocks[:-1]  # the last one keeps the rest from the heap's end
before = resident()
assert heap.trim_heap()
print(before - resident())
"""
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 150_000_000


@on_glibc
def test_the_users_own_malloc_settings_stay() -> None:
    """No threshold is changed if the user has set a `MALLOC_…` variable."""
    assert not _run("keep_freed_memory", MALLOC_ARENA_MAX="2")[0]
    assert not _run("return_freed_memory", MALLOC_ARENA_MAX="2")[0]
    assert not _run("can_return_freed_memory", MALLOC_ARENA_MAX="2")[0]
    assert _run("can_return_freed_memory")[0]


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is changed outside Linux."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()
    assert not return_freed_memory()
    assert not trim_heap()
    assert not can_return_freed_memory()
