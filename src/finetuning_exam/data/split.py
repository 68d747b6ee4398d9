"""Which examples train, which choose the best step, and which sit the exam."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from finetuning_exam.data.records import Example

MIN_ROWS_FOR_VALIDATION = 40
MIN_ROWS_FOR_HOLDOUT = 20


@dataclass(frozen=True, slots=True)
class Split:
    """Examples by use. `exam_is_training` says that nothing could be held out."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    exam: tuple[Example, ...]
    exam_is_training: bool = False


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
    has_validation = len(examples) >= MIN_ROWS_FOR_VALIDATION and fraction > 0
    if exam is None and (len(examples) < MIN_ROWS_FOR_HOLDOUT or fraction <= 0):
        return Split(tuple(examples), (), tuple(examples), exam_is_training=True)
    shares = ([fraction] if has_validation else []) + ([fraction] if exam is None else [])
    parts = _draw(examples, [round(share * len(examples)) for share in shares], seed)
    validation = parts.pop(0) if has_validation else ()
    held_out = parts.pop(0) if exam is None else tuple(exam)
    return Split(parts[-1], validation, held_out)


def overlap(exam: Sequence[Example], train: Sequence[Example]) -> tuple[Example, ...]:
    """The exam's examples whose prompt stands in the training rows too."""
    taught = {prompt_key(example) for example in train}
    return tuple(example for example in exam if prompt_key(example) in taught)


def _draw(
    examples: Sequence[Example], sizes: Sequence[int], seed: int
) -> list[tuple[Example, ...]]:
    """Parts of about the given sizes, whole clusters each, and last the rest; in file order.

    At least one cluster always stays in the rest.
    """
    clusters = _clusters(examples)
    order = list(range(len(clusters)))
    random.Random(seed).shuffle(order)
    parts: list[tuple[Example, ...]] = []
    for size in sizes:
        chosen: list[int] = []
        while len(chosen) < size and len(order) > 1:
            chosen.extend(clusters[order.pop()])
        parts.append(tuple(examples[index] for index in sorted(chosen)))
    rest = sorted(index for cluster in order for index in clusters[cluster])
    parts.append(tuple(examples[index] for index in rest))
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
