"""Specification of the share of every tag in every part, with links and groups kept whole."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from drawn_rows import FRACTIONS, SEEDS, drawn_files, lines_of, numbered_rows, unhurried
from hypothesis import given
from hypothesis import strategies as st

from finetuning_exam.data.records import Example
from finetuning_exam.data.split import overlap, split_examples


def test_a_file_sorted_by_class_has_every_class_on_every_side() -> None:
    """In a file sorted by tag each part holds each tag at about its share in the file."""
    tags = ["a", "b", "c", "d"]
    rows = tuple(
        row for n, tag in enumerate(tags) for row in numbered_rows(500, tag=tag, start=1 + 500 * n)
    )
    split = split_examples(rows, None, 0.1, 42)
    for part in (split.train, split.validation, split.exam):
        counts = Counter(row.tag for row in part)
        for tag in tags:  # 200 held-out rows: 50 of each expected, 6 is one standard deviation
            assert 0.5 < counts[tag] / len(part) * len(tags) < 1.5


@st.composite
def _linked_files(draw: st.DrawFn) -> tuple[tuple[Example, ...], tuple[tuple[int, int], ...]]:
    """Draw files with tags, recurring prompts, groups, and links between any two examples."""
    rows = draw(drawn_files(least=40))
    tagged = tuple(replace(row, tag=draw(st.sampled_from(["", "x", "y", "z"]))) for row in rows)
    place = st.integers(0, len(rows) - 1)
    return tagged, tuple(draw(st.lists(st.tuples(place, place), max_size=20)))


@unhurried
@given(file=_linked_files(), fraction=FRACTIONS, seed=SEEDS)
def test_linked_examples_stay_on_one_side(
    file: tuple[tuple[Example, ...], tuple[tuple[int, int], ...]], fraction: float, seed: int
) -> None:
    """With tags and links the parts are still disjoint and complete, and no link is broken."""
    rows, links = file
    split = split_examples(rows, None, fraction, seed, links)
    assert split == split_examples(rows, None, fraction, seed, links)
    parts = [split.train, split.validation] + ([] if split.exam_is_training else [split.exam])
    side = {row.line: number for number, part in enumerate(parts) for row in part}
    assert sorted(line for part in parts for line in lines_of(part)) == lines_of(rows)
    for one, other in links:
        assert side[rows[one].line] == side[rows[other].line]
    if not split.exam_is_training:
        assert overlap(split.exam, split.train) == ()


def test_links_join_with_prompts_and_groups() -> None:
    """A link extends to everything that shares a prompt or a group with its ends."""
    rows = (
        Example("p", "a", 1, "d.jsonl"),
        Example("P?", "b", 2, "d.jsonl"),
        Example("q", "c", 3, "d.jsonl", group="g"),
        Example("r", "d", 4, "d.jsonl", group="g"),
        *numbered_rows(96, start=5),
    )
    for seed in range(30):
        split = split_examples(rows, None, 0.3, seed, [(1, 2)])
        sides = [
            len(set(rows[:4]) & set(part)) for part in (split.train, split.validation, split.exam)
        ]
        assert sorted(sides) == [0, 0, 4]


TAG_COUNTS = st.dictionaries(
    st.sampled_from(["", "a", "b", "c", "d"]), st.integers(20, 80), min_size=1
)


@unhurried
@given(counts=TAG_COUNTS, fraction=st.floats(0.05, 0.3), seed=SEEDS)
def test_each_tag_has_its_share_of_each_part(
    counts: dict[str, int], fraction: float, seed: int
) -> None:
    """If examples are unrelated, a part has each tag at its quota, up to rounding."""
    rows = tuple(
        replace(row, tag=tag, instruction=f"{tag} {row.instruction}")
        for tag, count in counts.items()
        for row in numbered_rows(count)
    )
    split = split_examples(rows, None, fraction, seed)
    for part in (split.validation, split.exam):
        found = Counter(row.tag for row in part)
        for tag, count in counts.items():
            assert abs(found[tag] - len(part) * count / len(rows)) < 1


@unhurried
@given(
    clusters=st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, 4)), min_size=150, max_size=200
    ),
    seed=SEEDS,
)
def test_clusters_move_the_shares_by_less_than_one_cluster(
    clusters: list[tuple[str, int]], seed: int
) -> None:
    """If groups must stay whole, a tag misses its quota by less than one group."""
    rows = tuple(
        Example(f"question {number}-{member}", "a", 1, "d.jsonl", tag=tag, group=str(number))
        for number, (tag, n_rows) in enumerate(clusters)
        for member in range(n_rows)
    )
    counts = Counter(row.tag for row in rows)
    split = split_examples(rows, None, 0.15, seed)
    size = -(-15 * len(rows) // 100)
    for part in (split.validation, split.exam):
        found = Counter(row.tag for row in part)
        for tag, count in counts.items():
            n_of_tag = sum(name == tag for name, _ in clusters)
            if n_of_tag >= 12:  # enough of them to choose from
                assert abs(found[tag] - size * count / len(rows)) < 4 + 1


def test_a_small_class_is_on_every_side_of_a_sorted_file() -> None:
    """Classes of 3% and 97%, sorted: the small one is in every part, at its share."""
    small = numbered_rows(30, tag="small")
    rows = (*small, *numbered_rows(970, tag="large", start=31))
    for seed in range(5):
        split = split_examples(rows, None, 0.1, seed)
        found = [Counter(row.tag for row in part) for part in (split.validation, split.exam)]
        assert [counts["small"] for counts in found] == [3, 3]


@pytest.mark.parametrize("n_of_rare", [1, 2, 3])
def test_a_rare_tag_keeps_a_cluster_in_training(n_of_rare: int) -> None:
    """The training part always has at least one example of every tag."""
    rows = (*numbered_rows(n_of_rare, tag="rare"), *numbered_rows(60, tag="usual", start=10))
    for seed in range(30):
        split = split_examples(rows, None, 0.4, seed)
        assert {row.tag for row in split.train} == {"rare", "usual"}


def test_examples_with_distinct_tags_can_be_held_out() -> None:
    """If every example has its own tag, a part is filled all the same."""
    rows = tuple(replace(row, tag=f"tag {row.line}") for row in numbered_rows(100))
    split = split_examples(rows, None, 0.1, 42)
    assert (len(split.train), len(split.validation), len(split.exam)) == (80, 10, 10)


def test_rounding_is_decided_by_the_seed() -> None:
    """Which of many small tags have an example in the exam depends on the seed."""
    rows = tuple(replace(row, tag=f"tag {row.line % 50:02}") for row in numbered_rows(150))
    exams = [
        frozenset(row.tag for row in split_examples(rows, None, 0.1, seed).exam)
        for seed in range(5)
    ]
    assert [len(tags) for tags in exams] == [15] * 5
    assert len(set(exams)) == 5


@pytest.mark.parametrize("n_giant", [40, 60])
def test_a_part_is_filled_although_one_tag_cannot_be_held_out(n_giant: int) -> None:
    """A tag that is one cluster of 40% or 60% of the file trains, and the parts have their size."""
    giant = tuple(replace(row, group="g") for row in numbered_rows(n_giant, tag="one"))
    rows = (*giant, *numbered_rows(100 - n_giant, tag="other", start=n_giant + 1))
    for seed in range(10):
        split = split_examples(rows, None, 0.1, seed)
        assert (len(split.train), len(split.validation), len(split.exam)) == (80, 10, 10)
        assert set(giant) <= set(split.train)


def test_quotas_are_rounded_by_largest_remainders() -> None:
    """Of 38 and 62 examples a part of ten has 4 and 6."""
    rows = (*numbered_rows(38, tag="a"), *numbered_rows(62, tag="b", start=39))
    for seed in range(5):
        split = split_examples(rows, None, 0.1, seed)
        for part in (split.validation, split.exam):
            assert Counter(row.tag for row in part) == {"a": 4, "b": 6}


def test_a_group_exceeds_its_own_quota_and_no_other() -> None:
    """With groups of three and quotas of two, one such group is taken for the missing example, and
    the tag of single examples keeps to its quota.
    """
    rows = tuple(
        replace(row, tag="ab"[row.line % 2], group=f"{row.line % 2} {row.line // 6}")
        for row in numbered_rows(42, start=0)
    )
    rows += numbered_rows(58, tag="c", start=100)
    for seed in range(10):
        split = split_examples(rows, None, 0.1, seed)
        for part in (split.validation, split.exam):
            found = Counter(row.tag for row in part)
            assert found["c"] == 6
            assert found["a"] + found["b"] == 3


def test_the_smallest_cluster_is_held_out_where_all_are_too_large() -> None:
    """Of groups of 20, 30 and 50 examples the first is the exam, the second the validation part."""
    rows = tuple(
        replace(row, group="a" if row.line <= 50 else "b" if row.line <= 70 else "c")
        for row in numbered_rows(100)
    )
    for seed in range(5):
        split = split_examples(rows, None, 0.1, seed)
        assert (len(split.train), len(split.validation), len(split.exam)) == (50, 30, 20)
