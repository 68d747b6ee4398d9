"""Specification of free, held and peak memory."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from finetuning_exam.model import memory
from finetuning_exam.model.memory import (
    cgroup_rooms,
    free_memory,
    held_memory,
    peak_memory,
    process_rooms,
)

CPU, GPU = torch.device("cpu"), torch.device("cuda")
MB = 2**20


def _write(folder: Path, **files: object) -> None:
    """Files of a cgroup, whose names have a dot for the first underscore."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("_", ".", 1)).write_text(f"{content}\n", encoding="ascii")


def _rooms(tmp_path: Path, groups: str) -> tuple[int, ...]:
    """The rooms under tmp_path/cgroup of a process whose groups are these lines."""
    proc = tmp_path / "proc"
    proc.mkdir(exist_ok=True)
    (proc / "cgroup").write_text(groups, encoding="ascii")
    return cgroup_rooms(tmp_path / "cgroup", proc)


def test_a_limit_of_version_2_leaves_what_is_not_used(tmp_path: Path) -> None:
    """What a group leaves is its limit less what it uses; cached files that are not mapped can be
    dropped, so they count as left.
    """
    stat = "anon 1\ninactive_file 50\nactive_file 30\nfile_mapped 20"
    _write(tmp_path / "cgroup" / "a", memory_max=1000, memory_current=700, memory_stat=stat)
    assert _rooms(tmp_path, "0::/a\n") == (1000 - 700 + 50 + 30 - 20,)


def test_a_limit_of_version_1_leaves_what_is_not_used(tmp_path: Path) -> None:
    """The older files have other names, and sums over the groups below."""
    stat = "cache 9\ninactive_file 1\ntotal_inactive_file 50\ntotal_active_file 30"
    _write(
        tmp_path / "cgroup" / "memory" / "a",
        memory_limit_in_bytes=1000,
        memory_usage_in_bytes=700,
        memory_stat=f"{stat}\ntotal_mapped_file 20",
    )
    assert _rooms(tmp_path, "3:cpu,cpuacct:/b\n4:memory:/a\n0::/\n") == (360,)


def test_limits_of_the_groups_above_hold_too(tmp_path: Path) -> None:
    """Every group from the process's own to the root is considered."""
    root = tmp_path / "cgroup"
    _write(root / "a" / "b", memory_max="max", memory_current=5, memory_stat="")
    _write(root / "a", memory_max=100, memory_current=60, memory_stat="")
    _write(root, memory_max=900, memory_current=70, memory_stat="")
    assert _rooms(tmp_path, "0::/a/b\n") == (40, 830)


def test_a_group_that_is_over_its_limit_leaves_nothing(tmp_path: Path) -> None:
    """No room is below zero."""
    _write(tmp_path / "cgroup", memory_max=100, memory_current=160, memory_stat="")
    assert _rooms(tmp_path, "0::/\n") == (0,)


def test_more_mapped_than_cached_takes_nothing_away(tmp_path: Path) -> None:
    """Shared memory is mapped too, but no cached file: it does not shrink the room twice."""
    _write(
        tmp_path / "cgroup",
        memory_max=100,
        memory_current=60,
        memory_stat="inactive_file 5\nactive_file 5\nfile_mapped 50",
    )
    assert _rooms(tmp_path, "0::/\n") == (40,)


@pytest.mark.parametrize("groups", ["", "nonsense\n", "0::/not/to/be/seen\n", "4:memory:/gone\n"])
def test_without_a_limit_to_be_seen_there_is_none(tmp_path: Path, groups: str) -> None:
    """If no group can be read, as in some containers, there are no limits and no errors."""
    assert _rooms(tmp_path, groups) == ()


def test_without_proc_there_is_no_limit(tmp_path: Path) -> None:
    """There are no cgroups outside Linux."""
    assert cgroup_rooms(tmp_path / "cgroup", tmp_path / "proc") == ()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere these limits are not enforced")
def test_limits_of_the_process_leave_what_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`ulimit -v` counts addresses, `ulimit -d` data; each leaves its limit less what is used."""
    import resource

    limits = {resource.RLIMIT_AS: 10 * 1024, resource.RLIMIT_DATA: 2 * 1024}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limits[kind], -1))
    (tmp_path / "status").write_text("VmPeak: 9 kB\nVmSize: 8 kB\nVmData: 3 kB\n", "ascii")
    assert process_rooms(tmp_path) == (2 * 1024, 0)
    limits[resource.RLIMIT_AS] = resource.RLIM_INFINITY
    assert process_rooms(tmp_path) == (0,)
    assert process_rooms(tmp_path / "none") == ()


@pytest.mark.parametrize(
    ("rooms", "free"), [((), 500), ((400, 900), 400), ((900,), 500), ((0,), 0)]
)
@pytest.mark.parametrize("limited", ["cgroup_rooms", "process_rooms"])
def test_free_is_what_the_system_and_all_limits_leave(
    monkeypatch: pytest.MonkeyPatch, limited: str, rooms: tuple[int, ...], free: int
) -> None:
    """On a CPU it is the system's available memory, or less under a lower limit."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=500))
    for name in ("cgroup_rooms", "process_rooms"):
        monkeypatch.setattr(memory, name, lambda: ())
    monkeypatch.setattr(memory, limited, lambda: rooms)
    assert free_memory(CPU) == free
    assert free_memory(torch.device("mps")) == free


def test_free_on_a_gpu_counts_what_torch_holds_unused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that torch has taken but no tensor uses is free too."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (300, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 90)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 50)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 80)
    assert free_memory(GPU) == 300 + 40
    assert held_memory(GPU) == 50
    assert peak_memory(GPU) == 80


def test_a_tensor_is_held_and_free_no_more() -> None:
    """A filled tensor counts as held memory, and stays in the peak after it is freed."""
    held = held_memory(CPU)
    block = torch.ones(100 * MB // 4)
    assert held_memory(CPU) - held > 90 * MB
    peak = peak_memory(CPU)
    assert peak >= held_memory(CPU) - MB
    del block
    assert peak_memory(CPU) >= peak - MB  # the kernel counts roughly
    assert free_memory(CPU) > 0


def test_the_peak_is_the_process_s_own(tmp_path: Path) -> None:
    """On Linux it is what /proc tells; getrusage starts with the peak of the parent process."""
    (tmp_path / "status").write_text("Name:\tx y\nVmPeak:\t900 kB\nVmHWM:\t  640 kB\n")
    assert peak_memory(CPU, tmp_path) == 640 * 1024


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no getrusage")
@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
def test_without_proc_the_peak_is_getrusage_s(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str, unit: int
) -> None:
    """Elsewhere it is ru_maxrss, in kilobytes but on macOS, where it is bytes."""
    import resource

    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=7000))
    monkeypatch.setattr(sys, "platform", platform)
    assert peak_memory(CPU, tmp_path) == 7000 * unit


def test_on_windows_the_peak_is_that_of_the_working_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """There it is what psutil calls peak_wset."""
    info = SimpleNamespace(peak_wset=123)
    monkeypatch.setattr(psutil, "Process", lambda: SimpleNamespace(memory_info=lambda: info))
    monkeypatch.setattr(sys, "platform", "win32")
    assert peak_memory(CPU, tmp_path) == 123
