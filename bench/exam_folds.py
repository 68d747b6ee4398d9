# ruff: noqa: T201 - a simulation prints its table
"""Simulate how often the verdict of a cross-validation takes a side when nothing was learned.

    uv run python bench/exam_folds.py
    uv run python bench/exam_folds.py --exams 1000

Rows are dealt to folds by the program's own rule. The change of a row, in nats per token, has the
mean 0 over all files that could have been drawn, so every verdict `improved` or `worse` is wrong:

- apart: each row has a change of its own, as if all adapters were one. The nominal rate is 5%.
- overlap N: the adapter of a fold has learned the noise of the other folds. Each row has N random
  features and a random outcome, and the adapter is the sum of outcome times features of all rows
  that it was trained on; its change of a row is the outcome times what it predicts. The adapters
  share most of their rows, which is what makes the variance of a cross-validation hard to know.
- luck S: each row has a change of its own with standard deviation 1, and each adapter changes all
  rows of its fold by the same amount besides, with standard deviation S: a matter of luck that
  another seed would not repeat.
- labels: a balanced classification of two labels, of which the adapters learn the shares. `labels,
  dealt blindly` has folds that do not know the labels.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from finetuning_exam.data.evidence import pieces_of_evidence
from finetuning_exam.data.folds import fold_splits
from finetuning_exam.data.records import Example
from finetuning_exam.evaluation.stats import paired_difference
from finetuning_exam.evaluation.verdict import FOLDS_LEVEL, verdict

SIZES = (10, 20, 30, 60)
Array = NDArray[np.float64]
Changes = Callable[[np.random.Generator, NDArray[np.int64]], Array]
"""Draws the change of each row, given the fold of each row."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What the adapters learned; with `has_labels` the rows are a classification of two labels,
    and if it is not dealt `blindly`, the folds know them.
    """

    changes: Changes
    has_labels: bool = False
    blindly: bool = False


def _overlap(n_features: int) -> Changes:
    def changes(draw: np.random.Generator, fold: NDArray[np.int64]) -> Array:
        features = draw.normal(0, 1, (len(fold), n_features))
        outcomes = draw.normal(0, 1, len(fold))
        learned = features * outcomes[:, None]
        adapters = {it: learned[fold != it].sum(axis=0) for it in set(fold.tolist())}
        predicted = np.array([row @ adapters[it] for row, it in zip(features, fold, strict=True)])
        found: Array = -outcomes * predicted / np.sqrt(len(fold) * n_features)
        return found

    return changes


def _luck(deviation: float) -> Changes:
    def changes(draw: np.random.Generator, fold: NDArray[np.int64]) -> Array:
        adapters = draw.normal(0, deviation, fold.max() + 1)
        found: Array = draw.normal(0, 1, len(fold)) + adapters[fold]
        return found

    return changes


def _shares(draw: np.random.Generator, fold: NDArray[np.int64]) -> Array:
    """Return the changes of adapters that expect labels as often as they were trained on them, with
    a little noise of each row.
    """
    sides = np.where(np.arange(len(fold)) % 2, 1.0, -1.0)
    expected = np.array([sides[fold != it].mean() for it in fold])
    found: Array = -sides * expected + draw.normal(0, 0.05, len(fold))
    return found


SITUATIONS = {
    "apart": Situation(_luck(0.0)),
    "overlap 1": Situation(_overlap(1)),
    "overlap 10": Situation(_overlap(10)),
    "overlap 100": Situation(_overlap(100)),
    "luck 0.1": Situation(_luck(0.1)),
    "luck 0.3": Situation(_luck(0.3)),
    "labels": Situation(_shares, has_labels=True),
    "labels, dealt blindly": Situation(_shares, has_labels=True, blindly=True),
}


def rows_of(situation: Situation, n: int) -> list[Example]:
    """Return `n` different questions, with a fact or one of two labels each."""
    return [
        Example(
            f"Question {it}?",
            f"label {it % 2}" if situation.has_labels else f"fact {it}",
            it + 1,
            "d.jsonl",
        )
        for it in range(n)
    ]


def folds_of(
    situation: Situation, rows: Sequence[Example], n_folds: int, seed: int
) -> NDArray[np.int64]:
    """Return the fold of each row, as the program deals them."""
    shown = [replace(it, answer=f"fact {it.line}") if situation.blindly else it for it in rows]
    fold = np.zeros(len(rows), dtype=np.int64)
    for number, split in enumerate(fold_splits(shown, n_folds, 0.1, seed)):
        fold[[row.line - 1 for row in split.exam]] = number
    return fold


def take(situation: Situation, n: int, n_folds: int, seed: int) -> tuple[str, str]:
    """Return the verdicts of one simulated cross-validation: as if it were an exam of one adapter,
    and by the stricter rule of a cross-validation.
    """
    rows = rows_of(situation, n)
    fold = folds_of(situation, rows, n_folds, seed)
    draw = np.random.default_rng([seed, n, n_folds])
    tokens = draw.integers(5, 60, n)
    changes = tokens * situation.changes(draw, fold)
    names = pieces_of_evidence(rows)
    found = paired_difference([0.0] * n, changes.tolist(), tokens.tolist(), seed, names)
    n_pieces = len(set(names))
    return verdict(found, n_pieces), verdict(found, n_pieces, level=FOLDS_LEVEL)


def main() -> None:
    """Print the shares of verdicts that take a side: by the usual rule → by that of folds."""
    parser = argparse.ArgumentParser(description="Error rates of cross-validated verdicts.")
    parser.add_argument("--exams", type=int, default=400)
    parser.add_argument("--folds", type=int, nargs="+", default=[5, 10])
    flags = parser.parse_args()
    print(f"Wrong verdicts in {flags.exams} cross-validations: p at most 0.05 → {FOLDS_LEVEL:g}")
    print(" " * 32 + "".join(f"{f'{n} rows':>16}" for n in SIZES))
    for n_folds in flags.folds:
        for name, situation in SITUATIONS.items():
            cells = []
            for n in SIZES:
                verdicts = [take(situation, n, n_folds, seed) for seed in range(flags.exams)]
                usual, strict = (
                    sum(it in ("improved", "worse") for it in rule) / flags.exams
                    for rule in zip(*verdicts, strict=True)
                )
                cells.append(f"{usual:.1%} → {strict:.1%}")
            line = f"{n_folds:2} folds, {name}"
            print(f"{line:32}" + "".join(f"{cell:>16}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
