"""Specification of the split into training, validation and exam."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from drawn_rows import FRACTIONS, SEEDS, drawn_files, lines_of, numbered_rows, unhurried
from hypothesis import given
from hypothesis import strategies as st

from finetuning_exam.data.records import Example
from finetuning_exam.data.split import Split, prompt_key, split_examples


@unhurried
@given(rows=drawn_files(), fraction=FRACTIONS, seed=SEEDS)
def test_the_parts_are_disjoint_and_cover_the_file(
    rows: tuple[Example, ...], fraction: float, seed: int
) -> None:
    """Every example is in exactly one part, unless the exam is the training examples."""
    split = split_examples(rows, None, fraction, seed)
    parts = [split.train, split.validation] + ([] if split.exam_is_training else [split.exam])
    assert sorted(line for part in parts for line in lines_of(part)) == lines_of(rows)
    if split.exam_is_training:
        assert (split.train, split.validation, split.exam) == (rows, (), rows)


@unhurried
@given(rows=drawn_files(), fraction=FRACTIONS, seed=SEEDS)
def test_an_exam_file_is_the_exam(rows: tuple[Example, ...], fraction: float, seed: int) -> None:
    """With an exam file the exam is that file, and the training file is split in two."""
    exam = (Example("question 99", "a", 1, "e.jsonl"),)
    split = split_examples(rows, exam, fraction, seed)
    assert split.exam == exam
    assert split.taught == ()
    assert not split.exam_is_training
    assert sorted(lines_of(split.train) + lines_of(split.validation)) == lines_of(rows)


@unhurried
@given(rows=drawn_files(least=20), fraction=FRACTIONS, seed=SEEDS, has_exam=st.booleans())
def test_related_examples_stay_on_one_side(
    rows: tuple[Example, ...], fraction: float, seed: int, has_exam: bool
) -> None:
    """Examples with the same prompt and input, or the same group, are never in two parts."""
    split = split_examples(rows, rows[:1] if has_exam else None, fraction, seed)
    parts = [split.train, split.validation] + ([] if has_exam else [split.exam])
    if split.exam_is_training:
        parts = parts[:2]
    for keys in (
        [{prompt_key(row) for row in part} for part in parts],
        [{row.group for row in part if row.group} for part in parts],
    ):
        assert len(set().union(*keys)) == sum(len(part) for part in keys)


@unhurried
@given(rows=drawn_files(), fraction=FRACTIONS, seed=SEEDS)
def test_the_same_seed_gives_the_same_split(
    rows: tuple[Example, ...], fraction: float, seed: int
) -> None:
    """A split depends only on examples, fraction and seed; parts keep the file's order."""
    split = split_examples(rows, None, fraction, seed)
    assert split == split_examples(list(rows), None, fraction, seed)
    for part in (split.train, split.validation, split.exam):
        assert lines_of(part) == sorted(lines_of(part))


@pytest.mark.parametrize("fraction", [0.5, 0.9, 0.999])
@pytest.mark.parametrize("n_rows", [20, 40, 100])
@pytest.mark.parametrize("has_exam", [True, False])
def test_there_is_always_something_to_train_on(
    n_rows: int, fraction: float, has_exam: bool
) -> None:
    """However large the held-out fraction, at least one example trains."""
    rows = numbered_rows(n_rows)
    assert split_examples(rows, rows[:1] if has_exam else None, fraction, 42).train


@unhurried
@given(rows=drawn_files(), fraction=FRACTIONS, seed=SEEDS)
def test_there_is_always_an_exam(rows: tuple[Example, ...], fraction: float, seed: int) -> None:
    """If no example can be held out, the exam is the training examples, and the split says so."""
    split = split_examples(rows, None, fraction, seed)
    assert split.exam
    assert split.exam_is_training == (split.exam == split.train)


def test_a_file_of_one_group_cannot_be_held_out() -> None:
    """If all examples belong together the exam is the training examples, and the split says so."""
    rows = tuple(replace(row, group="all") for row in numbered_rows(50))
    assert split_examples(rows, None, 0.1, 42) == Split(rows, (), rows, exam_is_training=True)


def test_another_seed_gives_another_split() -> None:
    """The seed decides which examples are held out."""
    rows = numbered_rows(200)
    exams = {split_examples(rows, None, 0.1, seed).exam for seed in range(5)}
    assert len(exams) == 5


@pytest.mark.parametrize(
    ("n_rows", "sizes"),
    [
        (1, (1, 0, 1, True)),
        (4, (4, 0, 4, True)),
        (19, (19, 0, 19, True)),
        (20, (18, 0, 2, False)),
        (39, (35, 0, 4, False)),
        (40, (32, 4, 4, False)),
        (100, (80, 10, 10, False)),
        (1000, (800, 100, 100, False)),
    ],
)
def test_sizes_without_an_exam_file(n_rows: int, sizes: tuple[int, int, int, bool]) -> None:
    """Below 20 examples nothing is held out, below 40 there is no validation, else 80/10/10."""
    split = split_examples(numbered_rows(n_rows), None, 0.1, 42)
    found = (len(split.train), len(split.validation), len(split.exam), split.exam_is_training)
    assert found == sizes


@pytest.mark.parametrize(
    ("n_rows", "sizes"), [(1, (1, 0)), (4, (4, 0)), (39, (39, 0)), (40, (36, 4)), (200, (180, 20))]
)
def test_sizes_with_an_exam_file(n_rows: int, sizes: tuple[int, int]) -> None:
    """With an exam file only validation is taken from the training file, from 40 examples on."""
    split = split_examples(numbered_rows(n_rows), numbered_rows(3, start=900), 0.1, 42)
    assert (len(split.train), len(split.validation)) == sizes
    assert (len(split.exam), split.exam_is_training) == (3, False)


@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.4])
def test_the_fraction_is_kept(fraction: float) -> None:
    """`eval_fraction` is the size of each held-out part; 0 holds nothing out."""
    split = split_examples(numbered_rows(100), None, fraction, 42)
    held_out = round(100 * fraction)
    assert len(split.validation) == held_out
    assert len(split.exam) == (held_out or 100)
    assert split.exam_is_training == (fraction == 0)


def test_a_fraction_of_zero_leaves_an_exam_file_alone() -> None:
    """With an exam file and a fraction of 0 all examples train, and the exam is still held out."""
    rows, exam = numbered_rows(100), numbered_rows(3, start=900)
    assert split_examples(rows, exam, 0.0, 42) == Split(rows, (), exam)


def test_a_small_fraction_still_has_an_exam() -> None:
    """A fraction of 1% of 40 examples is rounded up: there is an exam."""
    assert split_examples(numbered_rows(40), None, 0.01, 42).exam


def test_a_group_of_half_the_file_trains() -> None:
    """A group far larger than a held-out part is not put there: most examples still train."""
    rows = tuple(replace(row, group="g" if row.line <= 60 else "") for row in numbered_rows(100))
    sizes = [len(split_examples(rows, None, 0.1, seed).train) for seed in range(20)]
    assert min(sizes) >= 60


def test_groups_join_across_prompts() -> None:
    """The relation is transitive: same group, then same prompt, then same group again."""
    chain = (
        Example("p", "a", 1, "d.jsonl", group="g"),
        Example("q", "a", 2, "d.jsonl", group="g"),
        Example("q", "a", 3, "d.jsonl", group="h"),
        Example("r", "a", 4, "d.jsonl", group="h"),
    )
    rows = chain + numbered_rows(96, start=5)
    for seed in range(30):
        split = split_examples(rows, None, 0.3, seed)
        sides = [
            len(set(chain) & set(part)) for part in (split.train, split.validation, split.exam)
        ]
        assert sorted(sides) == [0, 0, 4]


def test_the_split_does_not_depend_on_the_hash_seed() -> None:
    """The same file and seed give the same split in another process."""
    code = (
        "from finetuning_exam.data.records import Example\n"
        "from finetuning_exam.data.split import split_examples\n"
        "rows = [Example(f'q {n}', 'a', n, 'd', tag=f't{n % 37}') for n in range(300)]\n"
        "split = split_examples(rows, None, 0.1, 1, [(1, 5)])\n"
        "print([row.line for row in (*split.exam, *split.validation)])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_a_hundred_thousand_examples_are_split_in_seconds() -> None:
    """The split is not quadratic: 100,000 tagged and linked examples take seconds, not hours."""
    rows = tuple(replace(row, tag=f"t{row.line % 1000}") for row in numbered_rows(100_000))
    links = [(index, index + 1) for index in range(0, 50_000, 10)]
    started = time.process_time()
    split = split_examples(rows, None, 0.1, 42, links)
    assert time.process_time() - started < 15  # about 1 s on an idle core
    assert len(split.exam) == len(split.validation) == 10_000
