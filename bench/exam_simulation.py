# ruff: noqa: T201 - a simulation prints its tables
"""Simulate how often the exam's verdict is wrong, and how small a difference it can find.

    uv run python bench/exam_simulation.py
    uv run python bench/exam_simulation.py --exams 1000

The exams are simulated: each example has 5 to 60 tokens and a difference in nats per token of
`shift` plus noise with standard deviation 1, so shifts are in units of the examples' spread. The
noise has mean 0 and is normal, heavy-tailed (Student's t with 3 degrees of freedom) or skewed
(exponential). Without a shift, every verdict that takes a side is wrong; with one, the verdict
`improved` has found it. Pieces of evidence are counted by the program's own rule. Where facts come
in several wordings, with one answer and without a group, all wordings of a fact have the same
noise. With labels, every example is a question of its own and has its own noise. "examples" are
facts or questions; the training file has nine times as many others, which the rule sees, too.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetuning_exam.data.evidence import pieces_of_evidence
from finetuning_exam.data.records import Example
from finetuning_exam.evaluation.stats import paired_difference
from finetuning_exam.evaluation.verdict import verdict

SIZES = (6, 10, 20, 50, 100, 500)
POWER_SIZES = (20, 50, 100, 500)
FOUND = 0.8
TRAINING_SHARE = 9
"""Training examples for each one of the exam."""
Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]
NOISES: dict[str, Draw] = {
    "normal": lambda draw, n: draw.normal(0, 1, n),
    "heavy tails": lambda draw, n: draw.standard_t(3, n) / np.sqrt(3),
    "skewed": lambda draw, n: draw.exponential(1, n) - 1,
}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of exam: its noise, and either the wordings of each fact or the number of labels."""

    noise: Draw
    wordings: int = 1
    n_labels: int = 0

    def pieces(self, n: int) -> list[str]:
        """Name the pieces of evidence of `n` facts or questions."""
        examples = [
            Example(f"Wording {wording} of question {fact}?", self._answer(fact), 1, "exam.jsonl")
            for fact in range((1 + TRAINING_SHARE) * n)
            for wording in range(self.wordings)
        ]
        n_exam = n * self.wordings
        return pieces_of_evidence(examples[:n_exam], examples[n_exam:])

    def _answer(self, fact: int) -> str:
        return f"label {fact % self.n_labels}" if self.n_labels else f"answer {fact}"


KINDS = {
    **{name: Kind(noise) for name, noise in NOISES.items()},
    "4 wordings": Kind(NOISES["normal"], wordings=4),
    "6 wordings": Kind(NOISES["normal"], wordings=6),
    "8 wordings": Kind(NOISES["normal"], wordings=8),
    "2 labels": Kind(NOISES["normal"], n_labels=2),
    "10 labels": Kind(NOISES["normal"], n_labels=10),
}


def take(kind: Kind, names: Sequence[str], shift: float, seed: int) -> str:
    """Return the verdict of one simulated exam with these pieces of evidence."""
    n_examples = len(names)
    n = n_examples // kind.wordings
    draw = np.random.default_rng([seed, n])
    tokens = draw.integers(5, 60, n_examples)
    changes = tokens * (shift + np.repeat(kind.noise(draw, n), kind.wordings))
    found = paired_difference([0.0] * n_examples, changes.tolist(), tokens.tolist(), seed, names)
    return verdict(found, len(set(names)))


def wrong_share(kind: Kind, n: int, exams: int) -> float:
    """Return the share of exams of two equal models that take a side."""
    names = kind.pieces(n)
    verdicts = [take(kind, names, 0.0, seed) for seed in range(exams)]
    return sum(it in ("improved", "worse") for it in verdicts) / exams


def smallest_found(kind: Kind, n: int, exams: int) -> float:
    """Find the smallest shift with the verdict `improved` in 80% of exams, by bisection."""
    names = kind.pieces(n)
    low, high = 0.0, 4.0
    for _ in range(8):
        shift = (low + high) / 2
        verdicts = [take(kind, names, -shift, seed) for seed in range(exams)]
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
    flags = parser.parse_args()
    print(f"Wrong verdicts in {flags.exams} exams of two equal models (nominal: 5%)")
    print(f"{'examples':>10}" + "".join(f"{name:>14}" for name in KINDS))
    for n in SIZES:
        shares = [wrong_share(kind, n, flags.exams) for kind in KINDS.values()]
        print(f"{n:10}" + "".join(f"{share:14.1%}" for share in shares), flush=True)
    print(
        f"\nSmallest difference with the verdict 'improved' in {FOUND:.0%} of {flags.power_exams} "
        "exams, in standard deviations of the examples' differences"
    )
    print(f"{'examples':>10}" + "".join(f"{name:>14}" for name in NOISES))
    for n in POWER_SIZES:
        found = [smallest_found(KINDS[name], n, flags.power_exams) for name in NOISES]
        print(f"{n:10}" + "".join(f"{shift:14.2f}" for shift in found), flush=True)


if __name__ == "__main__":
    main()
