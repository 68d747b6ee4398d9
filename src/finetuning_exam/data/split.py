"""Split examples into parts for training, for choosing the best step, and for the exam."""

from __future__ import annotations

import math
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from finetuning_exam.data.encoding.chat import question
from finetuning_exam.data.encoding.tools import each_answer
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.data.tool_text import is_call

MIN_ROWS_FOR_VALIDATION = 40
MIN_ROWS_FOR_HOLDOUT = 20
_MARKS = frozenset(".?!")
_FINAL_MARKS = re.compile(r"[.?!]+(?= |$)")


@dataclass(frozen=True, slots=True)
class Split:
    """Examples by use. With `exam_is_training` the exam asks examples that were trained on.

    `taught` are the examples of an exam file that are left out because their question, or another
    example of their group, is also in the training file.
    """

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    exam: tuple[Example, ...]
    exam_is_training: bool = False
    taught: tuple[Example, ...] = ()


def normalized(text: str) -> str:
    """Normalize Unicode form, case and whitespace, and drop a final mark."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.rstrip(".?! ") or folded


def prompt_key(example: Example) -> str:
    """Return a loose key: examples with the same key may ask the same thing and stay together.

    In addition to `normalized`, final marks of words are ignored. A plain text's key is the text
    itself.
    """
    return _key(example, lambda text: _FINAL_MARKS.sub("", normalized(text)) or normalized(text))


def question_key(example: Example) -> str:
    """Return a strict key: examples with the same key ask the same question, in any format.

    "ls -a" and "ls -A", "cd .." and "cd .", "x²" and "x2" are different questions. Only
    whitespace, the case of a text's first letter and one mark after its last letter are ignored.
    The same `question_key` implies the same `prompt_key`.
    """
    return _key(example, _strict)


def question_keys(example: Example) -> tuple[str, ...]:
    """Return the strict keys of all that the exam asks of an example: the last question, and each
    that a call of a tool answers.
    """
    return tuple(question_key(it) for it in _asked(example))


def _asked(example: Example) -> tuple[Example, ...]:
    *before, last = each_answer((example,))
    return (last, *(it for it in before if is_call(it.answer)))


def _key(example: Example, written: Callable[[str], str]) -> str:
    """Return all that a model is given, turn by turn, with the input joined to its question."""
    if example.is_plain_text:
        return f"text: {written(example.answer)}"
    turns = [*example.earlier, Turn(example.asked_by, question(example))]
    texts = [f"{turn.role}: {written(turn.text)}" for turn in turns]
    return "\n".join([f"tools: {example.tools}", *texts] if example.tools else texts)


def _strict(text: str) -> str:
    words = " ".join(unicodedata.normalize("NFC", text).split())
    if words[-1:] in _MARKS and unicodedata.category(words[-2:-1] or " ")[0] in "LM":
        words = words[:-1]
    return words[:1].lower() + words[1:]


def split_examples(
    examples: Sequence[Example],
    exam: Sequence[Example] | None,
    fraction: float,
    seed: int,
    links: Sequence[tuple[int, int]] = (),
) -> Split:
    """Split the examples of a training file; `exam` are those of the exam file, if there is one.

    Examples with the same prompt or the same non-empty `group` stay on one side, and so do the
    pairs of indices in `links` (near duplicates). Each held-out part has about the file's share of
    each tag. With fewer than `MIN_ROWS_FOR_VALIDATION` examples there is no validation part; with
    fewer than `MIN_ROWS_FOR_HOLDOUT` and no exam file nothing is held out, and the exam asks the
    training examples.
    """
    size = math.ceil(fraction * len(examples))
    exam_size = size if exam is None and len(examples) >= MIN_ROWS_FOR_HOLDOUT else 0
    validation_size = size if len(examples) >= MIN_ROWS_FOR_VALIDATION else 0
    clusters = clusters_of(examples, links)
    held_out, validation, train = (
        tuple(examples[index] for index in part)
        for part in draw_parts(clusters, (exam_size, validation_size), seed)
    )
    if exam is not None:
        new, taught = leave_out_taught(exam, examples)
        if not new:
            return Split(train, validation, tuple(exam), exam_is_training=True)
        return Split(train, validation, new, taught=taught)
    if not held_out:
        return Split(tuple(examples), (), tuple(examples), exam_is_training=True)
    return Split(train, validation, held_out)


def overlap(exam: Sequence[Example], train: Sequence[Example]) -> tuple[Example, ...]:
    """Return the exam examples whose question or group is also in the training examples."""
    questions = {key for example in train for key in question_keys(example)}
    groups = {example.group for example in train if example.group}
    return tuple(
        example
        for example in exam
        if example.group in groups or not questions.isdisjoint(question_keys(example))
    )


def leave_out_taught(
    exam: Sequence[Example], train: Sequence[Example]
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Return the exam examples that are new, and the others, which `overlap` returns."""
    taught = overlap(exam, train)
    left_out = frozenset(taught)
    return tuple(example for example in exam if example not in left_out), taught


@dataclass(frozen=True, slots=True, eq=False)
class Cluster:
    """Examples that stay together: their indices, and their number for each tag."""

    rows: tuple[int, ...]
    tags: dict[str, int]


def clusters_of(examples: Sequence[Example], links: Sequence[tuple[int, int]]) -> list[Cluster]:
    """Join examples that share a prompt or a group or are linked (union-find); in file order."""
    parent = list(range(len(examples)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first_with: dict[tuple[str, str], int] = {}
    for index, example in enumerate(examples):
        keys = [("prompt", prompt_key(it)) for it in _asked(example)]
        if example.group:
            keys.append(("group", example.group))
        for key in keys:
            parent[root(index)] = root(first_with.setdefault(key, index))
    for one, other in links:
        parent[root(one)] = root(other)
    members: dict[int, list[int]] = {}
    for index in range(len(examples)):
        members.setdefault(root(index), []).append(index)
    return [
        Cluster(tuple(rows), dict(Counter([examples[index].tag for index in rows])))
        for rows in members.values()
    ]


def draw_parts(clusters: list[Cluster], sizes: Sequence[int], seed: int) -> list[list[int]]:
    """Draw parts of about the given sizes out of whole clusters; the last part is the rest.

    Clusters are taken in a seeded random order; the largest one always stays in the rest. Each
    part is in file order.
    """
    draw = random.Random(seed)
    waiting = list(clusters)
    draw.shuffle(waiting)
    largest = max(waiting, key=lambda cluster: len(cluster.rows), default=None)
    n_rows: Counter[str] = Counter()
    n_clusters: Counter[str] = Counter()
    for cluster in clusters:
        n_rows.update(cluster.tags)
        n_clusters.update(cluster.tags.keys())
    tags = sorted(n_rows)
    parts: list[list[int]] = []
    for size in sizes:
        draw.shuffle(tags)
        part = _Part(_quotas({tag: n_rows[tag] for tag in tags}, size), n_clusters)
        part.fill([cluster for cluster in waiting if cluster is not largest])
        parts.append(sorted(part.rows))
        taken = set(part.rows)
        waiting = [cluster for cluster in waiting if cluster.rows[0] not in taken]
    return [*parts, sorted(index for cluster in waiting for index in cluster.rows)]


def _quotas(counts: dict[str, int], size: int) -> dict[str, int]:
    """Apportion a part's examples to tags by their counts, by largest remainders (Hamilton).

    Of equal remainders the earlier tag wins.
    """
    total = sum(counts.values())
    quotas = {tag: size * count // total for tag, count in counts.items()}
    by_remainder = sorted(counts, key=lambda tag: -(size * counts[tag] % total))
    for tag in by_remainder[: size - sum(quotas.values())]:
        quotas[tag] += 1
    return quotas


class _Part:
    """A held-out part while it is filled; it decrements `n_clusters`, the clusters left per tag."""

    def __init__(self, quotas: dict[str, int], n_clusters: Counter[str]) -> None:
        self.rows: list[int] = []
        self._size = self._left = sum(quotas.values())
        self._room = quotas
        self._n_clusters = n_clusters

    def fill(self, waiting: Sequence[Cluster]) -> None:
        """Take the clusters that fit the quotas of all their tags, in order, then those that
        exceed a quota while their main tag is not full.

        If a quarter of the part is still missing because the clusters left are large, take any
        that fit; if none fits at all, the smallest. The last cluster of a tag is held out only if
        more than half of the part would be missing otherwise.
        """
        if not self._size or not waiting:
            return
        waiting = self._take(waiting, lambda it: self._spares(it) and self._has_room(it))
        waiting = self._take(waiting, lambda it: self._is_wanted(it) and self._spares(it))
        if 4 * self._left >= self._size:
            waiting = self._take(waiting, self._spares)
        if 2 * self._left > self._size:
            waiting = self._take(waiting, lambda _: True)
        if not self.rows:
            self._add(min(waiting, key=lambda cluster: len(cluster.rows)))

    def _take(
        self, waiting: Sequence[Cluster], is_taken: Callable[[Cluster], bool]
    ) -> list[Cluster]:
        """Add the clusters that match, as far as the part's size allows; return the others."""
        others: list[Cluster] = []
        for cluster in waiting:
            if len(cluster.rows) <= self._left and is_taken(cluster):
                self._add(cluster)
            else:
                others.append(cluster)
        return others

    def _add(self, cluster: Cluster) -> None:
        self.rows.extend(cluster.rows)
        self._left -= len(cluster.rows)
        for tag, count in cluster.tags.items():
            self._room[tag] -= count
            self._n_clusters[tag] -= 1

    def _spares(self, cluster: Cluster) -> bool:
        """Return whether each of its tags has another cluster that is not held out."""
        return all(self._n_clusters[tag] > 1 for tag in cluster.tags)

    def _has_room(self, cluster: Cluster) -> bool:
        return all(count <= self._room[tag] for tag, count in cluster.tags.items())

    def _is_wanted(self, cluster: Cluster) -> bool:
        """Return whether the most frequent tag of the cluster is not full."""
        return self._room[max(cluster.tags, key=lambda tag: cluster.tags[tag])] > 0
