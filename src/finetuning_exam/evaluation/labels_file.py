"""What exam.json says of a classification."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it imports torch, which a reader of exam.json does without
    from finetuning_exam.evaluation.labels import LabelAccuracy


@dataclass(frozen=True, slots=True)
class LabelPicks:
    """The labels that one model picked; `confusion[right][picked]` counts examples."""

    accuracy: float
    balanced_accuracy: float
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Labels:
    """The picks of both models in a classification, and what guessing gives.

    `labels` gives the order of the confusion tables; the first is the commonest, with the share
    `majority`. `p_majority` and `p_shuffled` are one-sided, of the tuned model against guesses.
    """

    labels: tuple[str, ...]
    n_examples: int
    n_clusters: int
    base: LabelPicks
    tuned: LabelPicks
    majority: float
    shuffled: float
    p_majority: float
    p_shuffled: float
    is_guessing: bool


def label_figures(found: LabelAccuracy) -> Labels:
    """Return what exam.json says of the picks of both models."""
    return Labels(
        labels=found.labels,
        n_examples=found.n_examples,
        n_clusters=found.n_clusters,
        base=LabelPicks(**asdict(found.base)),
        tuned=LabelPicks(**asdict(found.tuned)),
        majority=found.majority,
        shuffled=found.shuffled,
        p_majority=found.p_majority,
        p_shuffled=found.p_shuffled,
        is_guessing=found.is_guessing,
    )
