"""Folds: every example is examined once, by a model that has not seen it or its relatives."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from drawn_rows import FRACTIONS, SEEDS, drawn_files, lines_of, numbered_rows, unhurried
from hypothesis import assume, given
from hypothesis import strategies as st

from finetuning_exam.data.folds import fold_splits, whole_split
from finetuning_exam.data.records import Example
from finetuning_exam.data.split import Split, clusters_of, prompt_key, split_examples
from finetuning_exam.errors import UsageError

N_FOLDS = st.integers(2, 8)


def _tagged(counts: dict[str, int]) -> tuple[Example, ...]:
    """Examples with different questions, so many of each tag."""
    rows: list[Example] = []
    for tag, count in counts.items():
        rows += numbered_rows(count, tag=tag, start=len(rows) + 1)
    return tuple(rows)


def _spread(counts: Sequence[int]) -> int:
    return max(counts) - min(counts)


@unhurried
@given(rows=drawn_files(least=2), n_folds=N_FOLDS, fraction=FRACTIONS, seed=SEEDS)
def test_every_example_is_examined_once(
    rows: tuple[Example, ...], n_folds: int, fraction: float, seed: int
) -> None:
    """The exams of the folds are the file, none is empty, and each split has every example once."""
    assume(len(clusters_of(rows, ())) >= n_folds)
    splits = fold_splits(rows, n_folds, fraction, seed)
    assert len(splits) == n_folds
    assert sorted(line for split in splits for line in lines_of(split.exam)) == lines_of(rows)
    for split in splits:
        parts = (split.train, split.validation, split.exam)
        assert sorted(line for part in parts for line in lines_of(part)) == lines_of(rows)
        assert split.train
        assert split.exam
        assert not split.exam_is_training


@unhurried
@given(
    rows=drawn_files(least=2),
    n_folds=N_FOLDS,
    seed=SEEDS,
    pairs=st.lists(st.tuples(st.integers(0, 79), st.integers(0, 79)), max_size=20),
)
def test_relatives_are_in_one_fold(
    rows: tuple[Example, ...], n_folds: int, seed: int, pairs: list[tuple[int, int]]
) -> None:
    """Examples with the same prompt or group, and linked ones, are examined in the same fold; no
    split has relatives in two parts.
    """
    links = [(one % len(rows), other % len(rows)) for one, other in pairs]
    assume(len(clusters_of(rows, links)) >= n_folds)
    for split in fold_splits(rows, n_folds, 0.2, seed, links):
        parts = [split.train, split.validation, split.exam]
        part_of = {example.line: number for number, part in enumerate(parts) for example in part}
        for one, other in links:
            assert part_of[rows[one].line] == part_of[rows[other].line]
        for keys in (
            [{prompt_key(row) for row in part} for part in parts],
            [{row.group for row in part if row.group} for part in parts],
        ):
            assert len(set().union(*keys)) == sum(len(part) for part in keys)


@unhurried
@given(
    counts=st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 30), min_size=1),
    n_folds=N_FOLDS,
    seed=SEEDS,
)
def test_single_examples_are_spread_evenly(counts: dict[str, int], n_folds: int, seed: int) -> None:
    """If no examples belong together, sizes of folds and their examples of a tag differ by at most
    one.
    """
    rows = _tagged(counts)
    assume(len(rows) >= n_folds)
    exams = [split.exam for split in fold_splits(rows, n_folds, 0.1, seed)]
    assert _spread([len(exam) for exam in exams]) <= 1
    for tag in counts:
        assert _spread([sum(row.tag == tag for row in exam) for exam in exams]) <= 1


@unhurried
@given(rows=drawn_files(least=2), n_folds=N_FOLDS, seed=SEEDS)
def test_large_groups_cannot_make_a_fold_much_too_large(
    rows: tuple[Example, ...], n_folds: int, seed: int
) -> None:
    """A fold exceeds the average by less than the largest cluster."""
    clusters = clusters_of(rows, ())
    assume(len(clusters) >= n_folds)
    largest = max(len(cluster.rows) for cluster in clusters)
    for split in fold_splits(rows, n_folds, 0.1, seed):
        assert len(split.exam) <= math.ceil(len(rows) / n_folds) + largest - 1


@pytest.mark.parametrize("n_folds", [2, 3, 5])
def test_tags_of_grouped_rows_are_spread(n_folds: int) -> None:
    """Thirty groups of two rows, half of them of each tag: every fold has its share of both."""
    rows = tuple(
        replace(row, tag="ab"[index // 30], group=f"g{index // 2}")
        for index, row in enumerate(numbered_rows(60))
    )
    for split in fold_splits(rows, n_folds, 0.1, 1):
        tags = Counter(row.tag for row in split.exam)
        assert _spread([tags["a"], tags["b"]]) <= 2


@pytest.mark.parametrize(
    ("n_rows", "n_labels", "n_folds"), [(20, 2, 5), (30, 3, 5), (44, 4, 10), (23, 2, 3)]
)
def test_labels_are_spread(n_rows: int, n_labels: int, n_folds: int) -> None:
    """In a classification, folds have equal shares of each label, also within tags."""
    rows = tuple(
        replace(row, answer=f"label {row.line % n_labels}", tag="ab"[row.line > n_rows // 2])
        for row in numbered_rows(n_rows)
    )
    exams = [split.exam for split in fold_splits(rows, n_folds, 0.1, 3)]
    assert _spread([len(exam) for exam in exams]) <= 1
    for label in {row.answer for row in rows}:
        assert _spread([sum(row.answer == label for row in exam) for exam in exams]) <= 2
        for tag in "ab":
            found = [sum((row.answer, row.tag) == (label, tag) for row in exam) for exam in exams]
            assert _spread(found) <= 1


def test_the_seed_deals_differently() -> None:
    """The same seed gives the same folds, another seed others."""
    rows = numbered_rows(30)
    assert fold_splits(rows, 5, 0.1, 1) == fold_splits(rows, 5, 0.1, 1)
    assert fold_splits(rows, 5, 0.1, 1) != fold_splits(rows, 5, 0.1, 2)


@pytest.mark.parametrize(("n_rows", "n_validation"), [(30, 0), (48, 0), (50, 4), (100, 8)], ids=str)
def test_validation_is_drawn_from_the_other_folds(n_rows: int, n_validation: int) -> None:
    """A tenth of the other four folds chooses the best step if they have at least forty rows."""
    for split in fold_splits(numbered_rows(n_rows), 5, 0.1, 7):
        assert len(split.validation) == n_validation


@unhurried
@given(rows=drawn_files(), fraction=FRACTIONS, seed=SEEDS)
def test_the_last_training_is_on_the_whole_file(
    rows: tuple[Example, ...], fraction: float, seed: int
) -> None:
    """The split of the adapter that is kept is that of a file with an exam file, without exam."""
    exam = (Example("question 99", "a", 1, "e.jsonl"),)
    expected = split_examples(rows, exam, fraction, seed)
    assert whole_split(rows, fraction, seed) == Split(expected.train, expected.validation, ())


@pytest.mark.parametrize(
    ("rows", "n_folds", "n_groups", "remedy"),
    [
        (numbered_rows(4), 5, "4 rows form only 4 groups", "Give at most --folds 4, or add rows"),
        (numbered_rows(1) * 30, 2, "30 rows form only 1 group ", "Add rows with other questions."),
        (
            tuple(replace(row, group=f"g{row.line % 3}") for row in numbered_rows(60)),
            10,
            "60 rows form only 3 groups",
            "Give at most --folds 3, or add rows",
        ),
    ],
    ids=["few rows", "the same row", "groups"],
)
def test_more_folds_than_groups_are_refused(
    rows: tuple[Example, ...], n_folds: int, n_groups: str, remedy: str
) -> None:
    """The message counts the groups and says how many folds are possible."""
    with pytest.raises(UsageError) as caught:
        fold_splits(rows, n_folds, 0.1, 1)
    assert str(caught.value).startswith(f"--folds {n_folds}: the {n_groups}")
    assert remedy in str(caught.value)
