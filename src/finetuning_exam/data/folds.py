"""Split examples into folds: each is examined by a model that was trained on the others."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from finetuning_exam.data.evidence import label_sets
from finetuning_exam.data.records import Example
from finetuning_exam.data.split import (
    MIN_ROWS_FOR_VALIDATION,
    Cluster,
    Split,
    clusters_of,
    draw_parts,
    normalized,
)
from finetuning_exam.errors import UsageError

Links = Sequence[tuple[int, int]]


def fold_splits(
    examples: Sequence[Example], n_folds: int, fraction: float, seed: int, links: Links = ()
) -> tuple[Split, ...]:
    """Return one split per fold: the fold is its exam, and the others are trained on.

    Examples that belong together (see `split_examples`) are in one fold. Folds have about equal
    sizes, and about equal shares of each tag, and in a classification of each label. A `fraction`
    of the others is the validation part if there are at least `MIN_ROWS_FOR_VALIDATION` of them.

    Raises:
        UsageError: there are more folds than groups of examples that belong together.
    """
    clusters = clusters_of(examples, links)
    if n_folds > len(clusters):
        raise UsageError(*_too_many_folds(n_folds, len(clusters), len(examples)))
    splits: list[Split] = []
    for fold in _deal(clusters_of(_by_label(examples), links), n_folds, seed):
        examined = sorted(index for cluster in fold for index in cluster.rows)
        held_out = frozenset(examined)
        others = [cluster for cluster in clusters if cluster.rows[0] not in held_out]
        train, validation = _without_exam(examples, others, fraction, seed)
        splits.append(Split(train, validation, tuple(examples[index] for index in examined)))
    return tuple(splits)


def whole_split(
    examples: Sequence[Example], fraction: float, seed: int, links: Links = ()
) -> Split:
    """Return the split of a training on all examples: like that of `split_examples` with an exam
    file, but without an exam.
    """
    train, validation = _without_exam(examples, clusters_of(examples, links), fraction, seed)
    return Split(train, validation, ())


def _too_many_folds(n_folds: int, n_clusters: int, n_examples: int) -> tuple[str, str]:
    """Return what is wrong, and how to fix it."""
    what = (
        f"--folds {n_folds}: the {n_examples:,} rows form only {n_clusters:,} "
        f"{'group' if n_clusters == 1 else 'groups'} that must stay together (rows with the same "
        "question, the same group, or nearly the same text), and each fold needs at least one."
    )
    fewer = f"Give at most --folds {n_clusters}, or add" if n_clusters > 1 else "Add"
    return what, f"{fewer} rows with other questions."


def _without_exam(
    examples: Sequence[Example], clusters: list[Cluster], fraction: float, seed: int
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Divide the examples of these clusters into those to train on and those for validation."""
    n_rows = sum(len(cluster.rows) for cluster in clusters)
    size = math.ceil(fraction * n_rows) if n_rows >= MIN_ROWS_FOR_VALIDATION else 0
    _, validation, train = draw_parts(clusters, (0, size), seed)  # 0: no exam
    return tuple(examples[it] for it in train), tuple(examples[it] for it in validation)


def _by_label(examples: Sequence[Example]) -> list[Example]:
    """Return examples whose tags also name their label, where the answers are labels.

    If a fold has more than its share of a label, the others have less, so that its adapter expects
    the label too seldom: a model that learns nothing but shares would look worse than its base.
    """
    labels = label_sets(examples)
    return [
        replace(example, tag=f"{example.tag}\n{normalized(example.answer)}")
        if example.tag in labels and not example.is_plain_text
        else example
        for example in examples
    ]


def _deal(clusters: list[Cluster], n_folds: int, seed: int) -> list[list[Cluster]]:
    """Deal clusters to folds: the largest first, of equal ones those with the same tag in a row.

    Each goes to the fold with the fewest examples of its tags, of equal ones to the smallest, among
    the folds that it does not make larger than the average; if there is none, to the smallest of
    all. An empty fold comes first either way, so none stays empty.
    """
    waiting = list(clusters)
    random.Random(seed).shuffle(waiting)
    waiting.sort(key=lambda cluster: (-len(cluster.rows), _main_tag(cluster)))
    most = math.ceil(sum(len(cluster.rows) for cluster in clusters) / n_folds)
    folds: list[list[Cluster]] = [[] for _ in range(n_folds)]
    sizes = [0] * n_folds
    tags: list[Counter[str]] = [Counter() for _ in range(n_folds)]
    for cluster in waiting:
        roomy = [it for it in range(n_folds) if sizes[it] + len(cluster.rows) <= most]
        chosen = (
            min(roomy, key=lambda it: (_of_same_tags(tags[it], cluster), sizes[it]))
            if roomy
            else min(range(n_folds), key=sizes.__getitem__)
        )
        folds[chosen].append(cluster)
        sizes[chosen] += len(cluster.rows)
        tags[chosen].update(cluster.tags)
    return folds


def _main_tag(cluster: Cluster) -> str:
    return max(sorted(cluster.tags), key=cluster.tags.__getitem__)


def _of_same_tags(tags: Counter[str], cluster: Cluster) -> int:
    """Return how many examples of a fold have tags of a cluster, weighted by its own counts."""
    return sum(tags[tag] * count for tag, count in cluster.tags.items())
