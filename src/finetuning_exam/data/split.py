"""Which examples train, which choose the best step, and which sit the exam."""

from __future__ import annotations

import math
import random
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from finetuning_exam.data.records import Example

MIN_ROWS_FOR_VALIDATION = 40
MIN_ROWS_FOR_HOLDOUT = 20


@dataclass(frozen=True, slots=True)
class Split:
    """Examples by use. `exam_is_training` says that the exam is of rows that were trained on.

    `taught` are the rows of an exam file that are left out because their question stands in the
    training file too.
    """

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    exam: tuple[Example, ...]
    exam_is_training: bool = False
    taught: tuple[Example, ...] = ()


def normalized(text: str) -> str:
    """A text without what makes no difference: Unicode form, case, white space, a final mark."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.rstrip(".?! ") or folded


def prompt_key(example: Example) -> str:
    """Examples with the same key ask the same thing."""
    return f"{normalized(example.instruction)}\n{normalized(example.input)}"


def split_examples(
    examples: Sequence[Example], exam: Sequence[Example] | None, fraction: float, seed: int
) -> Split:
    """Split a training file; `exam` is the exam file's examples, if there is one.

    Examples with the same prompt, or the same non-empty `group`, stay on one side. Below
    `MIN_ROWS_FOR_VALIDATION` rows there is no validation part; below `MIN_ROWS_FOR_HOLDOUT`
    rows without an exam file nothing is held out and the exam is the training rows.
    """
    size = math.ceil(fraction * len(examples))
    exam_size = size if exam is None and len(examples) >= MIN_ROWS_FOR_HOLDOUT else 0
    validation_size = size if len(examples) >= MIN_ROWS_FOR_VALIDATION else 0
    held_out, validation, train = _draw(examples, (exam_size, validation_size), seed)
    if exam is not None:
        new, taught = leave_out_taught(exam, examples)
        if not new:
            return Split(train, validation, tuple(exam), exam_is_training=True)
        return Split(train, validation, new, taught=taught)
    if not held_out:
        return Split(tuple(examples), (), tuple(examples), exam_is_training=True)
    return Split(train, validation, held_out)


def overlap(exam: Sequence[Example], train: Sequence[Example]) -> tuple[Example, ...]:
    """The exam's examples whose prompt stands in the training rows too."""
    taught = {prompt_key(example) for example in train}
    return tuple(example for example in exam if prompt_key(example) in taught)


def leave_out_taught(
    exam: Sequence[Example], train: Sequence[Example]
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """The exam's examples that are new, and those whose prompt stands in the training rows too."""
    taught = overlap(exam, train)
    left_out = frozenset(taught)
    return tuple(example for example in exam if example not in left_out), taught


def _draw(
    examples: Sequence[Example], sizes: Sequence[int], seed: int
) -> list[tuple[Example, ...]]:
    """Parts of about the given sizes, whole clusters each, and last the rest; in file order.

    Clusters are taken in a seeded random order, those that fit first; where none fits, the
    smallest. The largest cluster always stays in the rest.
    """
    waiting = _clusters(examples)
    random.Random(seed).shuffle(waiting)
    largest = max(waiting, key=len, default=[])
    parts: list[tuple[Example, ...]] = []
    for size in sizes:
        chosen: list[int] = []
        for cluster in [other for other in waiting if other is not largest]:
            if len(chosen) + len(cluster) <= size:
                chosen.extend(cluster)
                waiting.remove(cluster)
        if not chosen and size and len(waiting) > 1:
            smallest = min((other for other in waiting if other is not largest), key=len)
            chosen.extend(smallest)
            waiting.remove(smallest)
        parts.append(tuple(examples[index] for index in sorted(chosen)))
    parts.append(tuple(examples[index] for index in sorted(chain.from_iterable(waiting))))
    return parts


def _clusters(examples: Sequence[Example]) -> list[list[int]]:
    """Indices that must stay together: same prompt or same group, transitively (union-find)."""
    parent = list(range(len(examples)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first_with: dict[tuple[str, str], int] = {}
    for index, example in enumerate(examples):
        keys = [("prompt", prompt_key(example))]
        if example.group:
            keys.append(("group", example.group))
        for key in keys:
            parent[root(index)] = root(first_with.setdefault(key, index))
    clusters: dict[int, list[int]] = {}
    for index in range(len(examples)):
        clusters.setdefault(root(index), []).append(index)
    return list(clusters.values())
