"""The outlook of an exam before the training: whether its verdict can take a side at all."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from finetuning_exam.data.check import Check, split_checked
from finetuning_exam.data.encoding.tools import each_answer
from finetuning_exam.data.evidence import label_sets, pieces_of_evidence
from finetuning_exam.data.records import Example
from finetuning_exam.data.split import Split, clusters_of, normalized
from finetuning_exam.evaluation.labels import GUESSING_P
from finetuning_exam.evaluation.stats import MIN_EXAMPLES_FOR_INTERVAL
from finetuning_exam.evaluation.verdict import FOLDS_LEVEL

FRACTIONS = (0.15, 0.2, 0.25, 0.3, 0.35, 0.4)
"""Values of `--eval_fraction` to suggest, the smallest that helps first."""
FOLDS = 5
"""Value of `--folds` to suggest."""
FEWEST_IN_FOLDS = math.ceil(1 - math.log2(FOLDS_LEVEL))
"""With fewer pieces of evidence, even a unanimous permutation test exceeds `FOLDS_LEVEL`."""
MOST_ROWS = 2000
"""In larger files, a small exam is due to many copies of few questions, which no share changes."""


@dataclass(frozen=True, slots=True)
class ExamOutlook:
    """The size of a planned exam, and whether its verdict can be `improved` or `worse`.

    Where it cannot, `fraction` is the smallest `--eval_fraction` with which it could; None if there
    is none, or the exam is a file. `folds` is a value of `--folds` with which it could.
    """

    n_examples: int
    n_clusters: int
    can_tell: bool
    fraction: float | None = None
    folds: int | None = None


def exam_outlook(check: Check, split: Split, fraction: float, seed: int) -> ExamOutlook:
    """Return the outlook of the exam of a split that was drawn with this share and seed."""
    known = (*split.train, *split.validation)
    split = replace(split, exam=each_answer(split.exam))
    names = pieces_of_evidence(split.exam, () if split.exam_is_training else known)
    can_tell = _can_tell(split, names)
    better = None if can_tell or check.exam else _better_fraction(check, fraction, seed)
    folds = None if can_tell or check.exam else _helpful_folds(check)
    return ExamOutlook(len(split.exam), len(set(names)), can_tell, better, folds)


def pooled_outlook(examples: Sequence[Example]) -> ExamOutlook:
    """Return the outlook of a cross-validation, whose exam has all examples."""
    examples = each_answer(examples)
    names = pieces_of_evidence(examples)
    can_tell = _can_tell(Split((), (), examples), names, FEWEST_IN_FOLDS)
    return ExamOutlook(len(examples), len(set(names)), can_tell)


def _helpful_folds(check: Check) -> int | None:
    examples = check.train.examples
    if len(examples) > MOST_ROWS or len(clusters_of(examples, check.links)) < FOLDS:
        return None
    return FOLDS if pooled_outlook(examples).can_tell else None


def _better_fraction(check: Check, fraction: float, seed: int) -> float | None:
    if len(check.train.examples) > MOST_ROWS:
        return None
    for larger in FRACTIONS:
        if larger > fraction:
            split = split_checked(check, larger, seed)
            known = (*split.train, *split.validation)
            if _can_tell(split, pieces_of_evidence(split.exam, known)):
                return larger
    return None


def _can_tell(split: Split, names: Sequence[str], fewest: int = MIN_EXAMPLES_FOR_INTERVAL) -> bool:
    """Return whether the best result that is possible would get a verdict that takes a side."""
    if split.exam_is_training or len(set(names)) < fewest:
        return False
    is_classification = (
        len(set(label_sets((*split.train, *split.validation, *split.exam)).values())) == 1
    )
    return not is_classification or _could_be_no_guess(split.exam, names)


def _could_be_no_guess(examples: Sequence[Example], names: Sequence[str]) -> bool:
    """Return whether labels that are all right would be better than guessing.

    Of all orders of the labels only one in `n! / Π nᵢ!` is right throughout; against the commonest
    label, every example of another one is a right answer gained.
    """
    labels = {name: normalized(it.answer) for name, it in zip(names, examples, strict=True)}
    counts = Counter(labels.values())
    n, n_commonest = counts.total(), max(counts.values())
    n_orders = math.factorial(n) // math.prod(map(math.factorial, counts.values()))
    p_majority = 0.5 ** (n - n_commonest) if n > n_commonest else 1.0
    return p_majority <= GUESSING_P or n_orders * GUESSING_P >= 1
