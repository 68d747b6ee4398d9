"""Free, held and peak memory of this process or of its accelerator."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import psutil
import torch

_PROC = Path("/proc/self")
_CGROUPS = Path("/sys/fs/cgroup")


def free_memory(device: torch.device) -> int:
    """Return the bytes that can still be allocated on a device.

    On a CPU this is the least that the system, the cgroups and the process limits (`ulimit`) allow.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + unused
    free = int(psutil.virtual_memory().available)
    return min([free, *cgroup_rooms(), *process_rooms()])


def held_memory(device: torch.device) -> int:
    """Return the bytes this process holds: resident memory, or allocated tensors on CUDA."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return int(psutil.Process().memory_info().rss)


def peak_memory(device: torch.device, proc: Path = _PROC) -> int:
    """Return the peak of `held_memory` so far, in bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # On Linux, getrusage starts with the peak of the parent process.
    for name, value in _counters(proc / "status"):
        if name == "VmHWM:":
            return value * 1024
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    from resource import RUSAGE_SELF, getrusage

    return getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def cgroup_rooms(cgroups: Path = _CGROUPS, proc: Path = _PROC) -> tuple[int, ...]:
    """Return the bytes left under each cgroup limit on this process; empty without limits.

    A group and all its ancestors may have limits, in both versions of cgroups. File caches count as
    free, unless they are mapped into memory.
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
    """Return the bytes left under each `ulimit` of this process; empty without limits.

    Linux only: elsewhere these limits are not enforced, or their use cannot be read.
    """
    if sys.platform != "linux":
        return ()
    from resource import RLIM_INFINITY, RLIMIT_AS, RLIMIT_DATA, getrlimit

    used = dict(_counters(proc / "status"))
    limits = {"VmSize:": getrlimit(RLIMIT_AS)[0], "VmData:": getrlimit(RLIMIT_DATA)[0]}
    return tuple(
        max(0, limit - used[name] * 1024)
        for name, limit in limits.items()
        if limit != RLIM_INFINITY and name in used
    )


_V2 = ("memory.max", "memory.current", "")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")


def _memory_groups(cgroups: Path, proc: Path) -> Iterator[tuple[Path, str, tuple[str, str, str]]]:
    """Yield the memory hierarchies of this process: root, group, and the names of its files."""
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
    """Return the bytes left in a group; None if it has no limit or is not visible from here."""
    try:
        limit = int((group / limit_name).read_text(encoding="ascii"))
        used = int((group / used_name).read_text(encoding="ascii"))
    except (OSError, ValueError):  # "max" is not a number
        return None
    found = dict(_counters(group / "memory.stat"))
    cached = sum(found.get(f"{prefix}{name}", 0) for name in ("inactive_file", "active_file"))
    mapped = found.get(f"{prefix}mapped_file", found.get("file_mapped", 0))
    return max(0, limit - used + max(0, cached - mapped))


def _counters(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the lines of a file that are a name and an integer; nothing if it is unreadable."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        name, *values = line.split() or [""]
        if values and values[0].isdigit():
            yield name, int(values[0])
