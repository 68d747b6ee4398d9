"""Where to compute, checked by doing it, never assumed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import silu

from finetuning_exam.durable import read_object
from finetuning_exam.errors import UsageError
from finetuning_exam.settings import Device, Dtype

WORTHWHILE_SPEEDUP = 1.5
"""How much faster a layer's products must be on a CPU before `--dtype auto` is bfloat16."""
NARROWEST_IN_BFLOAT16 = 512
"""Width below which `--dtype auto` stays float32 on a CPU: there the products are not what takes
the time (docs/experiments.md).
"""
_HOPELESS = 0.2
_TINY = 64
_TOKENS = 256
_REPEATS = 7

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


@dataclass(frozen=True, slots=True)
class LayerSize:
    """What a layer's cost goes by: the width of the model and of its MLP."""

    width: int
    inner: int


def layer_size(folder: Path) -> LayerSize | None:
    """The size of a model's layers by its config.json; None: it does not tell."""
    config = read_object(folder / "config.json")
    width = config.get("hidden_size") or config.get("n_embd")
    inner = config.get("intermediate_size") or config.get("n_inner")
    if not isinstance(width, int):
        return None
    return LayerSize(width, inner if isinstance(inner, int) else 4 * width)


def choose_compute(
    device: Device,
    dtype: Dtype,
    layer: LayerSize | None = None,
    earlier_on_cpu: Dtype | None = None,
) -> Compute:
    """The device asked for, or the best that works; one CPU thread for each core we may use.

    `auto` on a CPU is what it was earlier in the same run; else both formats are tried out on a
    layer of the model, where its size is given.

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
    if dtype == "auto" and name == "cpu" and earlier_on_cpu:
        dtype = earlier_on_cpu
    chosen = _auto_dtype(name, layer) if dtype == "auto" else _DTYPES[dtype]
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


def _auto_dtype(name: str, layer: LayerSize | None) -> torch.dtype:
    if name == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    if name == "cpu" and layer and layer.width >= NARROWEST_IN_BFLOAT16:
        is_faster = bfloat16_speedup(layer) >= WORTHWHILE_SPEEDUP
        return torch.bfloat16 if is_faster else torch.float32
    return torch.float32


def bfloat16_speedup(layer: LayerSize, clock: Callable[[], float] = time.perf_counter) -> float:
    """How many times faster a layer's MLP is in bfloat16 on this CPU, forward and backward.

    It begins with small products: where bfloat16 has no instructions of its own it is up to five
    hundred times slower, and these alone tell.
    """
    small = _speedup(LayerSize(_TINY, _TINY), _TINY, clock)
    return small if small < _HOPELESS else _speedup(layer, _TOKENS, clock)


def _speedup(layer: LayerSize, tokens: int, clock: Callable[[], float]) -> float:
    """Shortest time in float32 over the shortest in bfloat16, taken in turns: what else the machine
    does lengthens some of them, not all.
    """
    shapes = ((layer.inner, layer.width), (layer.inner, layer.width), (layer.width, layer.inner))
    sides = []
    for dtype in (torch.float32, torch.bfloat16):
        weights = [torch.full(shape, 0.01, dtype=dtype) for shape in shapes]
        x = torch.full((tokens, layer.width), 0.01, dtype=dtype, requires_grad=True)
        found: list[float] = []
        sides.append((x, weights, found))
    for _ in range(1 + _REPEATS):
        for x, weights, found in sides:
            started = clock()
            _gated_mlp(x, *weights)
            found.append(clock() - started)
    exact, short = (min(found[1:]) for _, _, found in sides)  # the first are to warm up
    return exact / max(short, 1e-9)


def _gated_mlp(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> None:
    """An MLP of the Llama kind with frozen weights, and the gradient of its input."""
    y = (silu(x @ gate.t()) * (x @ up.t())) @ down.t()
    torch.autograd.grad(y, x, y.detach())
