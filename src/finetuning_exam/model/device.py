"""Where to compute, checked by doing it, never assumed."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from finetuning_exam.errors import UsageError
from finetuning_exam.settings import Device, Dtype

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True, slots=True)
class Compute:
    """A device that was seen to work, the base's number format, and the CPU threads in use."""

    device: torch.device
    dtype: torch.dtype
    threads: int

    @property
    def dtype_name(self) -> str:
        """`float32`, `bfloat16` or `float16`."""
        return str(self.dtype).removeprefix("torch.")


def choose_compute(device: Device, dtype: Dtype) -> Compute:
    """The device asked for, or the best that works; one CPU thread for each core we may use.

    Raises:
        UsageError: the device that was asked for does not work here.
    """
    torch.set_num_threads(usable_cores())
    name = (
        next(name for name in ("cuda", "mps", "cpu") if _works(name))
        if device == "auto"
        else device
    )
    if not _works(name):
        raise UsageError(f"--device {name}: not available here.", "Use --device auto.")
    chosen = _auto_dtype(name) if dtype == "auto" else _DTYPES[dtype]
    return Compute(torch.device(name), chosen, torch.get_num_threads())


def usable_cores() -> int:
    """Cores this process may run on: its affinity, and the cgroup's quota where there is one."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, round(int(quota) / int(period))))


def _works(name: str) -> bool:
    """Whether a small product on this device gives the right number."""
    if name == "cpu":
        return True
    if name == "cuda" and not torch.cuda.is_available():
        return False
    if name == "mps" and not torch.backends.mps.is_available():
        return False
    try:
        ones = torch.ones(2, 2, device=name)
        return bool((ones @ ones).sum().item() == 8.0)
    except RuntimeError:
        return False


def _auto_dtype(name: str) -> torch.dtype:
    if name == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return torch.float32
