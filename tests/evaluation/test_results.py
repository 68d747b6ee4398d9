"""Which examples are one piece of evidence."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from finetuning_exam.data.records import Example
from finetuning_exam.evaluation.results import MOST_WORDINGS, clusters


def _example(question: str, answer: str, group: str = "") -> Example:
    return Example(question, answer, 1, "exam.jsonl", group=group)


def _sets(examples: list[Example]) -> set[frozenset[int]]:
    names = clusters(examples)
    return {frozenset(index for index, it in enumerate(names) if it == name) for name in set(names)}


def test_wordings_of_one_fact_are_one_cluster() -> None:
    """The same question, the same answer or the same group joins, and joined pairs join on."""
    examples = [
        _example("How do I list files?", "ls"),
        _example("Show the folder's content.", "LS."),
        _example("show the folder's content", "dir"),
        _example("Who am I?", "whoami", "g"),
        _example("My name?", "id -un", "g"),
        _example("Where am I?", "pwd"),
    ]
    assert _sets(examples) == {frozenset({0, 1, 2}), frozenset({3, 4}), frozenset({5})}


def test_labels_do_not_join() -> None:
    """An answer of many examples is a label: a file of yes and no is not two pieces of evidence."""
    examples = [_example(f"Is {i} even?", "no" if i % 2 else "yes") for i in range(40)]
    assert len(_sets(examples)) == 40
    few = [_example(f"wording {i}", "same") for i in range(MOST_WORDINGS)]
    assert len(_sets(few)) == 1
    assert len(_sets([*few, _example("one more", "same")])) == MOST_WORDINGS + 1


def test_a_large_file_may_have_more_wordings() -> None:
    """Up to a twentieth of the examples may be wordings of one fact."""
    others = [_example(f"q{i}", f"a{i}") for i in range(380)]
    assert len(_sets([*others, *(_example(f"w{i}", "same") for i in range(20))])) == 381
    assert len(_sets([*others, *(_example(f"w{i}", "same") for i in range(21))])) == 401


@given(
    keys=st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 6), st.sampled_from(["", "g", "h"])),
        max_size=25,
    )
)
def test_clusters_are_the_connected_examples(keys: list[tuple[int, int, str]]) -> None:
    """Two examples that share a key are in one cluster, and the order of examples is no matter."""
    examples = [_example(f"q{q}", f"a{a}", g) for q, a, g in keys]
    names = clusters(examples)
    for one, name in zip(keys, names, strict=True):
        for other, other_name in zip(keys, names, strict=True):
            if one[0] == other[0] or (one[2] and one[2] == other[2]):
                assert name == other_name
    assert len(set(clusters(examples[::-1]))) == len(set(names))
