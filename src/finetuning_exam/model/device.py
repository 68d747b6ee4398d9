"""Choice of device, number format and threads, each tested before it is used."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import silu

from finetuning_exam.durable import read_object
from finetuning_exam.errors import UsageError
from finetuning_exam.settings import Auto, Device, Dtype

WORTHWHILE_SPEEDUP = 1.5
"""Speedup of a layer's matrix products at which `--dtype auto` picks bfloat16 on a CPU."""
NARROWEST_IN_BFLOAT16 = 512
"""Width below which `--dtype auto` stays float32 on a CPU, because matrix products do not dominate
the time (docs/experiments.md).
"""
_HOPELESS = 0.2
"""Speedup of tiny products below which the full trial is skipped."""
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
    """A device that was tested, the base's number format, and the number of CPU threads."""

    device: torch.device
    dtype: torch.dtype
    threads: int

    @property
    def dtype_name(self) -> str:
        """`float32`, `bfloat16` or `float16`."""
        return str(self.dtype).removeprefix("torch.")

    def with_threads(self, n: int) -> Compute:
        """Set the number of CPU threads of this process, and return it with the rest."""
        torch.set_num_threads(n)
        return replace(self, threads=torch.get_num_threads())


@dataclass(frozen=True, slots=True)
class LayerSize:
    """The sizes that determine a layer's cost: the width of the model and of its MLP."""

    width: int
    inner: int


def layer_size(folder: Path) -> LayerSize | None:
    """Read the size of a model's layers from config.json; None if it is not there."""
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
    threads: int | Auto = "auto",
) -> Compute:
    """Choose a device and number format, and set the number of CPU threads.

    Args:
        device: The requested device; `auto` takes the best one that works.
        dtype: The requested format; on a CPU, `auto` takes `earlier_on_cpu` or the faster format.
        layer: Size of the model's layers, needed to compare the formats.
        earlier_on_cpu: The format chosen earlier in the same run, if it ran on a CPU.
        threads: The requested number; `auto` takes OMP_NUM_THREADS, or else the usable cores.

    Raises:
        UsageError: the requested device does not work here.
    """
    torch.set_num_threads((requested_threads() or usable_cores()) if threads == "auto" else threads)
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


def requested_threads() -> int | None:
    """Return the number of threads in OMP_NUM_THREADS; None if it holds no positive number.

    Of a list, which is for nested loops, the first counts: https://www.openmp.org/specifications/.
    """
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isascii() and first.isdigit() and int(first) > 0 else None


def usable_cores() -> int:
    """Count the cores this process may use, by its CPU affinity and any cgroup quota."""
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
    """Return True if a small matrix product on this device gives the right result."""
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
    """Measure how many times faster a layer's MLP is in bfloat16 on this CPU, both passes.

    Tiny products come first: without bfloat16 instructions they are up to 500 times slower, which
    settles the question without the full trial.
    """
    small = _speedup(LayerSize(_TINY, _TINY), _TINY, clock)
    return small if small < _HOPELESS else _speedup(layer, _TOKENS, clock)


def _speedup(layer: LayerSize, tokens: int, clock: Callable[[], float]) -> float:
    """Shortest time in float32 over the shortest in bfloat16.

    Runs alternate, so that other load on the machine slows some of them but not all.
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
    exact, short = (min(found[1:]) for _, _, found in sides)  # the first runs are warmup
    return exact / max(short, 1e-9)


def _gated_mlp(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> None:
    """Run a Llama-style MLP with frozen weights, and compute the gradient of its input."""
    y = (silu(x @ gate.t()) * (x @ up.t())) @ down.t()
    torch.autograd.grad(y, x, y.detach())
