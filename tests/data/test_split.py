"""Specification of what trains, what chooses the best step, and what sits the exam."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetuning_exam.data.encoding.chat import question
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.data.split import (
    Split,
    normalized,
    overlap,
    prompt_key,
    question_key,
    split_examples,
)

ROW = st.tuples(
    st.integers(0, 60).map(lambda number: f"question {number}"),
    st.sampled_from(["", "", "", "one", "two", "three"]),
    st.sampled_from(["", "", "-l"]),
)


def _rows(count: int, *, tag: str = "", start: int = 1) -> tuple[Example, ...]:
    """Rows with different questions."""
    return tuple(
        Example(f"question {line}", "answer", line, "d.jsonl", tag=tag)
        for line in range(start, start + count)
    )


@st.composite
def _files(draw: st.DrawFn, *, least: int = 1) -> tuple[Example, ...]:
    """Files in which prompts and groups recur."""
    # Large and small files equally often: the thresholds are at 20 and 40 rows.
    n_rows = draw(st.integers(least, 80))
    rows = draw(st.lists(ROW, min_size=n_rows, max_size=n_rows))
    return tuple(
        Example(prompt, f"answer {line}", line, "d.jsonl", group=group, input=given_input)
        for line, (prompt, group, given_input) in enumerate(rows, start=1)
    )


def _lines(rows: Sequence[Example]) -> list[int]:
    return [row.line for row in rows]


# A busy machine is no reason to fail.
unhurried = settings(deadline=None)
SEEDS = st.integers(0, 2**32)
FRACTIONS = st.floats(0, 0.99)


@unhurried
@given(rows=_files(), fraction=FRACTIONS, seed=SEEDS)
def test_the_parts_are_disjoint_and_cover_the_file(
    rows: tuple[Example, ...], fraction: float, seed: int
) -> None:
    """Every row is in exactly one part, except where the exam is the training rows."""
    split = split_examples(rows, None, fraction, seed)
    parts = [split.train, split.validation] + ([] if split.exam_is_training else [split.exam])
    assert sorted(line for part in parts for line in _lines(part)) == _lines(rows)
    if split.exam_is_training:
        assert (split.train, split.validation, split.exam) == (rows, (), rows)


@unhurried
@given(rows=_files(), fraction=FRACTIONS, seed=SEEDS)
def test_an_exam_file_is_the_exam(rows: tuple[Example, ...], fraction: float, seed: int) -> None:
    """With an exam file the exam is that file, and the training file is split in two."""
    exam = (Example("question 99", "a", 1, "e.jsonl"),)
    split = split_examples(rows, exam, fraction, seed)
    assert split.exam == exam
    assert split.taught == ()
    assert not split.exam_is_training
    assert sorted(_lines(split.train) + _lines(split.validation)) == _lines(rows)


@unhurried
@given(rows=_files(least=20), fraction=FRACTIONS, seed=SEEDS, has_exam=st.booleans())
def test_what_belongs_together_stays_on_one_side(
    rows: tuple[Example, ...], fraction: float, seed: int, has_exam: bool
) -> None:
    """Rows with the same prompt and input, or the same group, are never in two parts."""
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
@given(rows=_files(), fraction=FRACTIONS, seed=SEEDS)
def test_the_same_seed_gives_the_same_split(
    rows: tuple[Example, ...], fraction: float, seed: int
) -> None:
    """A split depends on the rows, the share and the seed alone; parts keep the file's order."""
    split = split_examples(rows, None, fraction, seed)
    assert split == split_examples(list(rows), None, fraction, seed)
    for part in (split.train, split.validation, split.exam):
        assert _lines(part) == sorted(_lines(part))


@pytest.mark.parametrize("fraction", [0.5, 0.9, 0.999])
@pytest.mark.parametrize("n_rows", [20, 40, 100])
@pytest.mark.parametrize("has_exam", [True, False])
def test_there_is_always_something_to_train_on(
    n_rows: int, fraction: float, has_exam: bool
) -> None:
    """However large the share that is held out, at least one row trains."""
    rows = _rows(n_rows)
    assert split_examples(rows, rows[:1] if has_exam else None, fraction, 42).train


@unhurried
@given(rows=_files(), fraction=FRACTIONS, seed=SEEDS)
def test_there_is_always_an_exam(rows: tuple[Example, ...], fraction: float, seed: int) -> None:
    """Where no row could be held out, the exam is the training rows, and the split says so."""
    split = split_examples(rows, None, fraction, seed)
    assert split.exam
    assert split.exam_is_training == (split.exam == split.train)


def test_a_file_of_one_group_cannot_be_held_out() -> None:
    """When all rows belong together the exam is the training rows, and the split says so."""
    rows = tuple(replace(row, group="all") for row in _rows(50))
    assert split_examples(rows, None, 0.1, 42) == Split(rows, (), rows, exam_is_training=True)


def test_another_seed_gives_another_split() -> None:
    """The seed decides which rows are held out."""
    rows = _rows(200)
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
    """Below 20 rows nothing is held out, below 40 there is no validation, else 80/10/10."""
    split = split_examples(_rows(n_rows), None, 0.1, 42)
    found = (len(split.train), len(split.validation), len(split.exam), split.exam_is_training)
    assert found == sizes


@pytest.mark.parametrize(
    ("n_rows", "sizes"), [(1, (1, 0)), (4, (4, 0)), (39, (39, 0)), (40, (36, 4)), (200, (180, 20))]
)
def test_sizes_with_an_exam_file(n_rows: int, sizes: tuple[int, int]) -> None:
    """With an exam file only validation is taken from the training file, from 40 rows on."""
    split = split_examples(_rows(n_rows), _rows(3, start=900), 0.1, 42)
    assert (len(split.train), len(split.validation)) == sizes
    assert (len(split.exam), split.exam_is_training) == (3, False)


@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.4])
def test_the_share_is_what_was_asked_for(fraction: float) -> None:
    """`eval_fraction` is the share of each held-out part; 0 holds nothing out."""
    split = split_examples(_rows(100), None, fraction, 42)
    held_out = round(100 * fraction)
    assert len(split.validation) == held_out
    assert len(split.exam) == (held_out or 100)
    assert split.exam_is_training == (fraction == 0)


def test_a_share_of_nothing_leaves_an_exam_file_alone() -> None:
    """With an exam file and a share of 0 all rows train, and the exam is still held out."""
    rows, exam = _rows(100), _rows(3, start=900)
    assert split_examples(rows, exam, 0.0, 42) == Split(rows, (), exam)


def test_a_share_that_rounds_to_no_row_still_has_an_exam() -> None:
    """A share of 1% of 40 rows rounds to none: there is an exam all the same."""
    assert split_examples(_rows(40), None, 0.01, 42).exam


def test_a_group_of_half_the_file_trains() -> None:
    """A group far larger than a held-out part is not put there: most rows still train."""
    rows = tuple(replace(row, group="g" if row.line <= 60 else "") for row in _rows(100))
    sizes = [len(split_examples(rows, None, 0.1, seed).train) for seed in range(20)]
    assert min(sizes) >= 60


def test_a_file_sorted_by_class_has_every_class_on_every_side() -> None:
    """In a file sorted by tag each part holds each tag at about its share in the file."""
    tags = ["a", "b", "c", "d"]
    rows = tuple(
        row for n, tag in enumerate(tags) for row in _rows(500, tag=tag, start=1 + 500 * n)
    )
    split = split_examples(rows, None, 0.1, 42)
    for part in (split.train, split.validation, split.exam):
        counts = Counter(row.tag for row in part)
        for tag in tags:  # 200 held-out rows: 50 of each expected, 6 is one standard deviation
            assert 0.5 < counts[tag] / len(part) * len(tags) < 1.5


def test_groups_join_across_prompts() -> None:
    """Being together is transitive: same group, then same prompt, then same group again."""
    chain = (
        Example("p", "a", 1, "d.jsonl", group="g"),
        Example("q", "a", 2, "d.jsonl", group="g"),
        Example("q", "a", 3, "d.jsonl", group="h"),
        Example("r", "a", 4, "d.jsonl", group="h"),
    )
    rows = chain + _rows(96, start=5)
    for seed in range(30):
        split = split_examples(rows, None, 0.3, seed)
        sides = [
            len(set(chain) & set(part)) for part in (split.train, split.validation, split.exam)
        ]
        assert sorted(sides) == [0, 0, 4]


@pytest.mark.parametrize(
    ("left", "right", "is_same"),
    [
        ("What is ls?", "what  is LS", True),
        ("What is ls?", "What is ls .", True),
        ("ﬁle", "file", True),
        ("Straße", "STRASSE", True),
        ("What is ls?", "What is cd?", False),
        ("a.b", "ab", False),
        ("?", "!", False),
    ],
)
def test_prompts_that_differ_in_form_only_are_the_same(
    left: str, right: str, is_same: bool
) -> None:
    """Unicode form, case, white space and a final mark make no other question."""
    assert (normalized(left) == normalized(right)) is is_same


def test_the_same_instruction_on_another_input_is_another_question() -> None:
    """The keys of a prompt hold its input."""
    one, two = Example("Sort", "a", 1, "d"), Example("Sort", "a", 2, "d", input="3 1 2")
    assert prompt_key(one) != prompt_key(two)
    assert question_key(one) != question_key(two)


def test_a_question_in_another_form_is_the_same() -> None:
    """Instruction and input are joined as a chat template is given them, so a conversation that
    asks "instruction, empty line, input" has the same keys.
    """
    record = Example("Sort these.", "1 3", 1, "d", input="3 1")
    said = Example("Sort these.\n\n3 1", "1 3", 1, "e")
    assert question(record) == question(said)
    assert question_key(record) == question_key(said)
    assert (
        prompt_key(record)
        == prompt_key(said)
        == prompt_key(replace(record, instruction="sort These"))
    )
    assert overlap([said], [record]) == (said,)
    assert overlap([record], [said]) == (record,)


@pytest.mark.parametrize(
    ("left", "right", "is_same"),
    [
        ("What is ls?", " what\n is  ls", True),
        ("What is ls?", "What is ls.", True),
        ("café", "cafe\u0301", True),
        ("ls क्या है?", "ls क्या है", True),
        ("What does ls -a do?", "What does ls -A do?", False),
        ("What is ls?", "What is LS?", False),
        ("What is ls?", "What is ls??", False),
        ("cd ..", "cd .", False),
        ("git add .", "git add", False),
        ("chmod 7.", "chmod 7", False),
        ("x²", "x2", False),
        ("ﬁle", "file", False),
        ("", "?", False),
    ],
)
@pytest.mark.parametrize("is_text", [True, False])
def test_the_same_question_is_the_same_to_the_letter(
    left: str, right: str, is_same: bool, is_text: bool
) -> None:
    """White space, the first letter's case and one mark after the last letter are all that may
    differ in one question, or in one plain text.
    """
    one, two = (
        Example("" if is_text else text, text if is_text else "x", 1, "d") for text in (left, right)
    )
    assert (question_key(one) == question_key(two)) is is_same
    assert bool(overlap([one], [two])) is is_same


SIMILAR = st.text(alphabet="aAßİﬁ².?! \n\u0301ि", max_size=6)


@settings(deadline=None, max_examples=300)
@given(
    text=SIMILAR, space=st.sampled_from([" ", "\n\n", "\t "]), mark=st.sampled_from(["", *".?!"])
)
def test_the_same_question_has_the_same_loose_key(text: str, space: str, mark: str) -> None:
    """What is left out of an exam as taught would have been kept together in a split."""
    edited = text[:1].swapcase() + text[1:].replace(" ", space) + mark
    one, two = Example("q " + text, "", 1, "d"), Example("Q " + edited, "", 1, "d")
    bare, other = Example("", text, 1, "d"), Example("", edited, 1, "d")
    for left, right in ((one, two), (bare, other)):
        if question_key(left) == question_key(right):
            assert prompt_key(left) == prompt_key(right)


def test_overlap_finds_groups_that_were_taught() -> None:
    """A row whose group stands in the training rows is taught, whatever it asks; having no group
    is no group.
    """
    train = (Example("p", "a", 1, "d", group="g"), Example("q", "a", 2, "d"))
    exam = tuple(
        Example(f"new {line}", "a", line, "e", group=group)
        for line, group in enumerate(["g", "", "h", "G"], start=1)
    )
    assert _lines(overlap(exam, train)) == [1]
    split = split_examples(train, exam, 0.1, 42)
    assert (_lines(split.exam), _lines(split.taught)) == ([2, 3, 4], [1])
    assert split_examples(train, exam[:1], 0.1, 42).exam_is_training


def test_overlap_finds_questions_that_were_taught() -> None:
    """`overlap` gives the exam's rows whose question stands in the training rows."""
    exam = (
        Example("What is ls?", "x", 1, "e.jsonl"),
        Example("What is cd?", "x", 2, "e.jsonl"),
        Example("Sort", "x", 3, "e.jsonl", input="b a"),
    )
    train = (
        Example("what is  ls", "another answer", 1, "d.jsonl"),
        Example("Sort", "x", 2, "d.jsonl", input="c b"),
    )
    assert _lines(overlap(exam, train)) == [1]
    assert overlap(exam, ()) == ()


@unhurried
@given(rows=_files(least=20), seed=SEEDS)
def test_a_split_never_overlaps_itself(rows: tuple[Example, ...], seed: int) -> None:
    """What is held out of a file shares neither question nor group with what trains."""
    split = split_examples(rows, None, 0.2, seed)
    if not split.exam_is_training:
        assert overlap(split.exam, split.train) == ()
        assert overlap(split.exam, split.validation) == ()


@unhurried
@given(rows=_files(), fraction=FRACTIONS, seed=SEEDS)
def test_taught_questions_are_left_out_of_an_exam_file(
    rows: tuple[Example, ...], fraction: float, seed: int
) -> None:
    """Rows of an exam file whose question stands in the training file do not sit the exam,
    whichever part of the training file they are in.
    """
    new = tuple(Example(f"new {line}", "a", line, "e.jsonl") for line in (1, 2))
    taught = tuple(
        replace(row, instruction=f" {row.instruction.capitalize()}\n", path="e.jsonl")
        for row in rows
    )
    split = split_examples(rows, (new[0], *taught, new[1]), fraction, seed)
    assert split.exam == new
    assert split.taught == taught
    assert not split.exam_is_training


def test_an_exam_file_of_taught_questions_is_the_training() -> None:
    """Where every question was taught the exam is of training rows, and says so."""
    rows = _rows(50)
    split = split_examples(rows, rows[3:9], 0.1, 0)
    assert split.exam == rows[3:9]
    assert split.exam_is_training
    assert split.taught == ()


@st.composite
def _linked_files(draw: st.DrawFn) -> tuple[tuple[Example, ...], tuple[tuple[int, int], ...]]:
    """Files with tags, recurring prompts, groups, and links between any two rows."""
    rows = draw(_files(least=40))
    tagged = tuple(replace(row, tag=draw(st.sampled_from(["", "x", "y", "z"]))) for row in rows)
    place = st.integers(0, len(rows) - 1)
    return tagged, tuple(draw(st.lists(st.tuples(place, place), max_size=20)))


@unhurried
@given(file=_linked_files(), fraction=FRACTIONS, seed=SEEDS)
def test_linked_rows_stay_on_one_side(
    file: tuple[tuple[Example, ...], tuple[tuple[int, int], ...]], fraction: float, seed: int
) -> None:
    """With tags and links the parts are still disjoint and whole, and no link is torn."""
    rows, links = file
    split = split_examples(rows, None, fraction, seed, links)
    assert split == split_examples(rows, None, fraction, seed, links)
    parts = [split.train, split.validation] + ([] if split.exam_is_training else [split.exam])
    side = {row.line: number for number, part in enumerate(parts) for row in part}
    assert sorted(line for part in parts for line in _lines(part)) == _lines(rows)
    for one, other in links:
        assert side[rows[one].line] == side[rows[other].line]
    if not split.exam_is_training:
        assert overlap(split.exam, split.train) == ()


def test_links_join_with_prompts_and_groups() -> None:
    """A link carries on to whatever shares a prompt or a group with its ends."""
    rows = (
        Example("p", "a", 1, "d.jsonl"),
        Example("P?", "b", 2, "d.jsonl"),
        Example("q", "c", 3, "d.jsonl", group="g"),
        Example("r", "d", 4, "d.jsonl", group="g"),
        *_rows(96, start=5),
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
    """Where rows stand alone, a part holds each tag at its quota, give or take the rounding."""
    rows = tuple(
        replace(row, tag=tag, instruction=f"{tag} {row.instruction}")
        for tag, count in counts.items()
        for row in _rows(count)
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
    """Where groups must stay whole, a tag misses its quota by less than one group's rows."""
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
    small = _rows(30, tag="small")
    rows = (*small, *_rows(970, tag="large", start=31))
    for seed in range(5):
        split = split_examples(rows, None, 0.1, seed)
        found = [Counter(row.tag for row in part) for part in (split.validation, split.exam)]
        assert [counts["small"] for counts in found] == [3, 3]


@pytest.mark.parametrize("n_of_rare", [1, 2, 3])
def test_a_rare_tag_keeps_a_cluster_in_training(n_of_rare: int) -> None:
    """Whatever is held out, what trains has at least one row of every tag."""
    rows = (*_rows(n_of_rare, tag="rare"), *_rows(60, tag="usual", start=10))
    for seed in range(30):
        split = split_examples(rows, None, 0.4, seed)
        assert {row.tag for row in split.train} == {"rare", "usual"}


def test_rows_with_a_tag_each_can_be_held_out() -> None:
    """Where every row has a tag of its own, a part is filled all the same."""
    rows = tuple(replace(row, tag=f"tag {row.line}") for row in _rows(100))
    split = split_examples(rows, None, 0.1, 42)
    assert (len(split.train), len(split.validation), len(split.exam)) == (80, 10, 10)


def test_the_rows_left_over_by_rounding_go_to_tags_by_lot() -> None:
    """Of many small tags, which ones have a row in the exam depends on the seed."""
    rows = tuple(replace(row, tag=f"tag {row.line % 50:02}") for row in _rows(150))
    exams = [
        frozenset(row.tag for row in split_examples(rows, None, 0.1, seed).exam)
        for seed in range(5)
    ]
    assert [len(tags) for tags in exams] == [15] * 5
    assert len(set(exams)) == 5


@pytest.mark.parametrize("n_giant", [40, 60])
def test_a_part_is_filled_although_one_tag_cannot_be_held_out(n_giant: int) -> None:
    """A tag that is one cluster of 40% or 60% of the file trains, and the parts have their size."""
    giant = tuple(replace(row, group="g") for row in _rows(n_giant, tag="one"))
    rows = (*giant, *_rows(100 - n_giant, tag="other", start=n_giant + 1))
    for seed in range(10):
        split = split_examples(rows, None, 0.1, seed)
        assert (len(split.train), len(split.validation), len(split.exam)) == (80, 10, 10)
        assert set(giant) <= set(split.train)


def test_quotas_are_rounded_by_largest_remainders() -> None:
    """Of 38 and 62 rows a part of ten has 4 and 6."""
    rows = (*_rows(38, tag="a"), *_rows(62, tag="b", start=39))
    for seed in range(5):
        split = split_examples(rows, None, 0.1, seed)
        for part in (split.validation, split.exam):
            assert Counter(row.tag for row in part) == {"a": 4, "b": 6}


def test_a_group_overdraws_its_own_quota_and_no_other() -> None:
    """Where groups of three stand against quotas of two, one such group is taken for the row that
    is missing, and the tag of single rows keeps to its quota.
    """
    rows = tuple(
        replace(row, tag="ab"[row.line % 2], group=f"{row.line % 2} {row.line // 6}")
        for row in _rows(42, start=0)
    )
    rows += _rows(58, tag="c", start=100)
    for seed in range(10):
        split = split_examples(rows, None, 0.1, seed)
        for part in (split.validation, split.exam):
            found = Counter(row.tag for row in part)
            assert found["c"] == 6
            assert found["a"] + found["b"] == 3


def test_the_smallest_cluster_is_held_out_where_all_are_too_large() -> None:
    """Of groups of 20, 30 and 50 rows the first is the exam, the second the validation part."""
    rows = tuple(
        replace(row, group="a" if row.line <= 50 else "b" if row.line <= 70 else "c")
        for row in _rows(100)
    )
    for seed in range(5):
        split = split_examples(rows, None, 0.1, seed)
        assert (len(split.train), len(split.validation), len(split.exam)) == (50, 30, 20)


def test_plain_texts_are_not_one_question() -> None:
    """A plain text is its own key: texts are split like other rows, equal ones kept together."""
    rows = tuple(Example("", f"text {line // 2}", line, "d.txt") for line in range(100))
    split = split_examples(rows, None, 0.1, 42)
    assert (len(split.train), len(split.validation), len(split.exam)) == (80, 10, 10)
    assert overlap(split.exam, split.train) == ()
    assert prompt_key(rows[0]) == prompt_key(rows[1]) != prompt_key(rows[2])
    assert prompt_key(Example("a", "b", 1, "d")) != prompt_key(Example("", "a", 1, "d"))


def test_a_question_after_another_conversation_is_another_question() -> None:
    """The key of a conversation holds every turn before the question, with who said it."""
    turns = (Turn("user", "Hello!"), Turn("assistant", "Hi."))
    key = prompt_key(Example("And now?", "a", 1, "d", earlier=turns))
    assert key != prompt_key(Example("And now?", "a", 1, "d"))
    assert key != prompt_key(Example("And now?", "a", 1, "d", earlier=turns[:1]))
    system = (Turn("system", "Hello!"), turns[1])
    assert key != prompt_key(Example("And now?", "a", 1, "d", earlier=system))
    again = (Turn("user", "hello"), Turn("assistant", " hi"))
    assert key == prompt_key(Example("and NOW", "b", 2, "d", earlier=again))


def test_the_split_does_not_depend_on_the_hash_seed() -> None:
    """The same file and seed give the same split in another process."""
    code = (
        "from finetuning_exam.data.records import Example\n"
        "from finetuning_exam.data.split import split_examples\n"
        "rows = [Example(f'q {n}', 'a', n, 'd', tag=f't{n % 37}') for n in range(300)]\n"
        "split = split_examples(rows, None, 0.1, 1, [(1, 5)])\n"
        "print([row.line for row in (*split.exam, *split.validation)])"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_a_hundred_thousand_rows_are_split_in_seconds() -> None:
    """The split is not quadratic: 100,000 tagged and linked rows take seconds, not hours."""
    rows = tuple(replace(row, tag=f"t{row.line % 1000}") for row in _rows(100_000))
    links = [(index, index + 1) for index in range(0, 50_000, 10)]
    started = time.process_time()
    split = split_examples(rows, None, 0.1, 42, links)
    assert time.process_time() - started < 15  # about 1 s on an idle core
    assert len(split.exam) == len(split.validation) == 10_000
