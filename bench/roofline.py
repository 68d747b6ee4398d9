# ruff: noqa: T201, TID251 - a benchmark prints its table
"""Measure the machine's float32 matrix rate on a model's shapes, the limit of a training step.

    uv run python bench/roofline.py MODEL_FOLDER

Each weight matrix of the model is multiplied as in the forward pass (x Wᵀ) and as in the input
gradient (dy W), where x and dy have 1,024 rows, on all cores this process may use; the result is
the median of 15 runs. The rate P is the operations of one token over their time: each shape is
weighted by its operations in the model, the head by the share of supervised positions.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from shapes import ModelShape, read_shape

from finetuning_exam.model.device import usable_cores

ROWS = 1024
FEWEST_REPEATS = 15
WARM_UP = 2


@dataclass(frozen=True, slots=True)
class Rate:
    """One shape of weights: how often a token uses it, and FLOP/s in both directions."""

    outputs: int
    inputs: int
    times: float
    forward: float
    backward: float


@dataclass(frozen=True, slots=True)
class Roofline:
    """FLOP/s of all products of a token (P), of each direction alone, and of the head alone."""

    total: float
    forward: float
    backward: float
    head: float
    threads: int
    rates: tuple[Rate, ...]


def uses(shape: ModelShape, supervised_share: float) -> dict[tuple[int, int], float]:
    """Count how often a token uses each (outputs, inputs); the head is the last."""
    counts: Counter[tuple[int, int]] = Counter((it.outputs, it.inputs) for it in shape.matrices)
    return {**counts, (shape.vocabulary, shape.width): supervised_share}


class Product:
    """The two products of one shape of weights, and the seconds of each run.

    They write into preallocated memory, since allocation is not part of the matrix rate.
    """

    def __init__(self, outputs: int, inputs: int, times: float) -> None:
        self._times = times
        self._weight = torch.randn(outputs, inputs)
        self._x, self._dy = torch.randn(ROWS, inputs), torch.randn(ROWS, outputs)
        self._y, self._dx = torch.empty(ROWS, outputs), torch.empty(ROWS, inputs)
        self._forward_s: list[float] = []
        self._backward_s: list[float] = []

    def run(self) -> None:
        """Time both products once."""
        started = time.perf_counter()
        torch.mm(self._x, self._weight.T, out=self._y)
        between = time.perf_counter()
        torch.mm(self._dy, self._weight, out=self._dx)
        self._forward_s.append(between - started)
        self._backward_s.append(time.perf_counter() - between)

    def rate(self) -> Rate:
        """Return the median rates, without the warmup runs."""
        outputs, inputs = self._weight.shape
        flops = 2 * ROWS * outputs * inputs
        forward = flops / statistics.median(self._forward_s[WARM_UP:])
        backward = flops / statistics.median(self._backward_s[WARM_UP:])
        return Rate(outputs, inputs, self._times, forward, backward)


def measure(shape: ModelShape, supervised_share: float, repeats: int, threads: int) -> Roofline:
    """Time all shapes in turn, `repeats` times, so that a slow moment does not affect just one."""
    torch.set_num_threads(threads)
    products = [Product(*size, times) for size, times in uses(shape, supervised_share).items()]
    for _ in range(WARM_UP + repeats):
        for product in products:
            product.run()
    return combine([product.rate() for product in products], threads)


def combine(rates: list[Rate], threads: int) -> Roofline:
    """Divide all operations of a token by the time they take; the last rate is the head's."""
    work = [it.times * it.outputs * it.inputs for it in rates]
    forward_s = sum(flops / it.forward for flops, it in zip(work, rates, strict=True))
    backward_s = sum(flops / it.backward for flops, it in zip(work, rates, strict=True))
    head = rates[-1]
    return Roofline(
        2 * sum(work) / (forward_s + backward_s),
        sum(work) / forward_s,
        sum(work) / backward_s,
        2 / (1 / head.forward + 1 / head.backward),
        threads,
        tuple(rates),
    )


def main() -> None:
    """Measure one model's shapes."""
    parser = argparse.ArgumentParser(description="Measure the matrix rate on a model's shapes.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--supervised_share", type=float, default=0.75)
    parser.add_argument("--repeats", type=int, default=FEWEST_REPEATS)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    flags = parser.parse_args()
    found = measure(
        read_shape(flags.model),
        flags.supervised_share,
        max(flags.repeats, FEWEST_REPEATS),
        usable_cores(),
    )
    print(" shape (outputs × inputs)   times      x Wᵀ      dy W   GFLOP/s")
    for rate in found.rates:
        size = f"{rate.outputs} × {rate.inputs}"
        forward, backward = rate.forward / 1e9, rate.backward / 1e9
        print(f" {size:24} {rate.times:7.2f} {forward:9.1f} {backward:9.1f}")
    print(
        f" all, by operations       {'':7} {found.forward / 1e9:9.1f} {found.backward / 1e9:9.1f}"
    )
    print(f"P = {found.total / 1e9:.1f} GFLOP/s on {found.threads} threads")
    if flags.json:
        flags.json.write_text(json.dumps(asdict(found)), encoding="utf-8")


if __name__ == "__main__":
    main()
