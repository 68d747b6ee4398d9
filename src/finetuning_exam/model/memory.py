"""Memory that is free, held, and held at most: of this process, or of its accelerator."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import psutil  # type: ignore[import-untyped]
import torch

_PROC = Path("/proc/self")
_CGROUPS = Path("/sys/fs/cgroup")


def free_memory(device: torch.device) -> int:
    """Bytes that can still be taken on a device: on a CPU what the system, its cgroup and the
    limits of this process (`ulimit`) leave.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + unused
    free = int(psutil.virtual_memory().available)
    return min([free, *cgroup_rooms(), *process_rooms()])


def held_memory(device: torch.device) -> int:
    """Bytes this process holds: resident ones, or on CUDA those of its tensors."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return int(psutil.Process().memory_info().rss)


def peak_memory(device: torch.device, proc: Path = _PROC) -> int:
    """The most that `held_memory` has been so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # Linux's getrusage begins with the peak of the process that started this one.
    for name, value in _pairs(proc / "status"):
        if name == "VmHWM:":
            return value * 1024
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    from resource import RUSAGE_SELF, getrusage

    return getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def cgroup_rooms(cgroups: Path = _CGROUPS, proc: Path = _PROC) -> tuple[int, ...]:
    """Bytes that are left under each limit on this process's memory; none where there is none.

    Limits stand at a group and at every group above it, in either version of cgroups. Cached files
    count as left, but for those that are mapped into memory.
    """
    rooms: list[int] = []
    for base, path, names in _memory_groups(cgroups, proc):
        group = PurePosixPath(path.lstrip("/"))
        for folder in (group, *group.parents):
            room = _room(base / folder, *names)
            if room is not None:
                rooms.append(room)
    return tuple(rooms)


def process_rooms(proc: Path = _PROC) -> tuple[int, ...]:
    """Bytes that are left under each of the limits of this process; none where there is none.

    Linux only: elsewhere they are not enforced, or not to be read.
    """
    if sys.platform != "linux":
        return ()
    from resource import RLIM_INFINITY, RLIMIT_AS, RLIMIT_DATA, getrlimit

    used = dict(_pairs(proc / "status"))
    limits = {"VmSize:": getrlimit(RLIMIT_AS)[0], "VmData:": getrlimit(RLIMIT_DATA)[0]}
    return tuple(
        max(0, limit - used[name] * 1024)
        for name, limit in limits.items()
        if limit != RLIM_INFINITY and name in used
    )


_V2 = ("memory.max", "memory.current", "")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")


def _memory_groups(cgroups: Path, proc: Path) -> Iterator[tuple[Path, str, tuple[str, str, str]]]:
    """Where this process's memory is limited: a hierarchy, the group in it, and names of files."""
    try:
        lines = (proc / "cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            yield cgroups, path, _V2
        elif "memory" in controllers.split(","):
            yield cgroups / "memory", path, _V1


def _room(group: Path, limit_name: str, used_name: str, prefix: str) -> int | None:
    """What a group leaves; None: it has no limit, or is not to be seen from here."""
    try:
        limit = int((group / limit_name).read_text(encoding="ascii"))
        used = int((group / used_name).read_text(encoding="ascii"))
    except (OSError, ValueError):  # "max" is no number
        return None
    found = dict(_pairs(group / "memory.stat"))
    cached = sum(found.get(f"{prefix}{name}", 0) for name in ("inactive_file", "active_file"))
    mapped = found.get(f"{prefix}mapped_file", found.get("file_mapped", 0))
    return max(0, limit - used + max(0, cached - mapped))


def _pairs(path: Path) -> Iterator[tuple[str, int]]:
    """The lines of a file that are a name and a whole number; nothing where it cannot be read."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        name, *values = line.split() or [""]
        if values and values[0].isdigit():
            yield name, int(values[0])
