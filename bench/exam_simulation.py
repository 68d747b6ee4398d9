# ruff: noqa: T201 - a simulation prints its tables
"""Simulate how often the exam's verdict is wrong, and how small a difference it can find.

    uv run python bench/exam_simulation.py
    uv run python bench/exam_simulation.py --exams 1000

The exams are simulated: each example has 5 to 60 tokens and a difference in nats per token of
`shift` plus noise with standard deviation 1, so shifts are in units of the examples' spread. The
noise has mean 0 and is normal, heavy-tailed (Student's t with 3 degrees of freedom) or skewed
(exponential). Without a shift, every verdict that takes a side is wrong; with one, the verdict
`improved` has found it. In the last column, each example comes in several wordings (--wordings)
with the same noise.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from finetuning_exam.evaluation.stats import paired_difference
from finetuning_exam.evaluation.verdict import verdict

SIZES = (6, 10, 20, 50, 100, 500)
POWER_SIZES = (20, 50, 100, 500)
FOUND = 0.8
Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]
NOISES: dict[str, Draw] = {
    "normal": lambda draw, n: draw.normal(0, 1, n),
    "heavy tails": lambda draw, n: draw.standard_t(3, n) / np.sqrt(3),
    "skewed": lambda draw, n: draw.exponential(1, n) - 1,
}


def take(noise: Draw, n: int, shift: float, seed: int, wordings: int = 1) -> str:
    """Return the verdict of one simulated exam of `n` facts with `wordings` examples each."""
    draw = np.random.default_rng([seed, n])
    n_examples = n * wordings
    tokens = draw.integers(5, 60, n_examples)
    changes = tokens * (shift + np.repeat(noise(draw, n), wordings))
    names = [str(index // wordings) for index in range(n_examples)]
    found = paired_difference([0.0] * n_examples, changes.tolist(), tokens.tolist(), seed, names)
    return verdict(found, n)


def wrong_share(noise: Draw, n: int, exams: int, wordings: int = 1) -> float:
    """Return the share of exams of two equal models that take a side."""
    verdicts = [take(noise, n, 0.0, seed, wordings) for seed in range(exams)]
    return sum(it in ("improved", "worse") for it in verdicts) / exams


def smallest_found(noise: Draw, n: int, exams: int) -> float:
    """Find the smallest shift with the verdict `improved` in 80% of exams, by bisection."""
    low, high = 0.0, 4.0
    for _ in range(8):
        shift = (low + high) / 2
        verdicts = [take(noise, n, -shift, seed) for seed in range(exams)]
        if verdicts.count("improved") >= FOUND * exams:
            high = shift
        else:
            low = shift
    return high


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description="Error rates and power of the exam's verdict.")
    parser.add_argument("--exams", type=int, default=400)
    parser.add_argument("--power_exams", type=int, default=200)
    parser.add_argument("--wordings", type=int, default=4)
    flags = parser.parse_args()
    print(f"Wrong verdicts in {flags.exams} exams of two equal models (nominal: 5%)")
    print(f"{'examples':>10}" + "".join(f"{name:>14}" for name in NOISES) + f"{'in wordings':>14}")
    for n in SIZES:
        shares = [wrong_share(noise, n, flags.exams) for noise in NOISES.values()]
        shares.append(wrong_share(NOISES["normal"], n, flags.exams, flags.wordings))
        print(f"{n:10}" + "".join(f"{share:14.1%}" for share in shares), flush=True)
    print(
        f"\nSmallest difference with the verdict 'improved' in {FOUND:.0%} of {flags.power_exams} "
        "exams, in standard deviations of the examples' differences"
    )
    print(f"{'examples':>10}" + "".join(f"{name:>14}" for name in NOISES))
    for n in POWER_SIZES:
        found = [smallest_found(noise, n, flags.power_exams) for noise in NOISES.values()]
        print(f"{n:10}" + "".join(f"{shift:14.2f}" for shift in found), flush=True)


if __name__ == "__main__":
    main()
