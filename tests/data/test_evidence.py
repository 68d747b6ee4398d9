"""Which examples are one piece of evidence, and which answers are labels."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetuning_exam.data.evidence import (
    MOST_LABELS,
    MOST_WORDINGS_OF_MANY,
    label_sets,
    pieces_of_evidence,
    wordings,
)
from finetuning_exam.data.records import Example


def _example(question: str, answer: str, group: str = "", tag: str = "") -> Example:
    return Example(question, answer, 1, "exam.jsonl", group=group, tag=tag)


def _sets(examples: list[Example]) -> set[frozenset[int]]:
    names = pieces_of_evidence(examples)
    return {frozenset(index for index, it in enumerate(names) if it == name) for name in set(names)}


def _classes(n_rows: int, n_labels: int) -> list[Example]:
    """Different questions whose answers are a few labels in turn."""
    return [_example(f"Which kind is number {i}?", f"label {i % n_labels}") for i in range(n_rows)]


def _n_pieces(examples: list[Example]) -> int:
    return len(set(pieces_of_evidence(examples)))


def test_wordings_of_one_fact_are_one_piece() -> None:
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


@pytest.mark.parametrize(
    ("n_rows", "n_labels", "n_pieces"),
    [(16, 2, 16), (18, 2, 18), (32, 4, 32), (36, 4, 36), (24, 3, 24), (80, 10, 80), (40, 5, 40)],
)
def test_every_question_with_a_label_is_a_piece(n_rows: int, n_labels: int, n_pieces: int) -> None:
    """An answer of eight or more different questions is a label, however small the file."""
    assert _n_pieces(_classes(n_rows, n_labels)) == n_pieces


@pytest.mark.parametrize("n_labels", [2, 3, 4, 10])
def test_the_number_of_pieces_has_no_cliff(n_labels: int) -> None:
    """From one row of labels to the next the number of pieces never falls, and rises by at most
    two.
    """
    counts = [_n_pieces(_classes(n, n_labels)) for n in range(1, 12 * n_labels)]
    steps = [after - before for before, after in pairwise(counts)]
    assert min(steps) == 0
    assert max(steps) == 2
    assert counts[-1] == 12 * n_labels - 1


@pytest.mark.parametrize("n_wordings", [2, 3, 4, 6, MOST_WORDINGS_OF_MANY])
def test_facts_in_a_few_wordings_are_a_piece_each(n_wordings: int) -> None:
    """Forty facts in up to eight wordings are forty pieces."""
    examples = [
        _example(f"Wording {w} of {fact}?", f"fact {fact}")
        for fact in range(40)
        for w in range(n_wordings)
    ]
    assert _n_pieces(examples) == 40


def test_many_labels_of_a_large_file_are_labels_too() -> None:
    """Seventy labels of 1,120 rows: each has less than a twentieth of them, and is a label."""
    assert _n_pieces(_classes(1120, 70)) == 1120


def test_questions_in_a_group_count_once() -> None:
    """Ten questions of one group do not make a label of their answer."""
    examples = [_example(f"Question {i}?", "yes", "one") for i in range(10)]
    others = [_example(f"Other {i}?", "yes") for i in range(2)]
    assert _n_pieces([*examples, *others]) == 1


def test_known_questions_show_that_an_answer_is_a_label() -> None:
    """Three exam questions answered "yes" are three pieces if eight of the file are; a fact of the
    training data stays one.
    """
    exam = [_example(f"Is {i} even?", "yes") for i in range(3)]
    training = [_example(f"Is {i} even?", "Yes.") for i in range(10, 15)]
    assert len(set(pieces_of_evidence(exam, training))) == 3
    assert len(set(pieces_of_evidence(exam, training[:1]))) == 1
    same_question = [training[0]] * 9
    assert len(set(pieces_of_evidence(exam, same_question))) == 1


@pytest.mark.parametrize(
    ("n_answers", "n_pieces"),
    [
        (1, [1, 1, 1, 1, 2, 4, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]),
        (20, [1, 1, 1, 1, 2, 4, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]),
        (30, [1, 1, 1, 1, 1, 1, 2, 4, 6, 8, 10, 12, 13, 14, 15, 16, 17]),
        (40, [1, 1, 1, 1, 1, 1, 1, 1, 2, 4, 6, 8, 10, 12, 14, 16, 17]),
        (900, [1, 1, 1, 1, 1, 1, 1, 1, 2, 4, 6, 8, 10, 12, 14, 16, 17]),
    ],
)
def test_the_number_of_wordings_falls_as_questions_are_added(
    n_answers: int, n_pieces: list[int]
) -> None:
    """Four questions are one fact and eight are eight pieces; of many answers, eight are one fact
    and sixteen are sixteen pieces. In between it goes evenly.
    """
    assert [n - wordings(n, n_answers) + 1 for n in range(1, 18)] == n_pieces


@pytest.mark.parametrize("n_questions", range(1, 18))
def test_more_answers_never_make_more_pieces(n_questions: int) -> None:
    """With more different answers, an answer is the less likely a label."""
    together = [wordings(n_questions, n_answers) for n_answers in range(1, 60)]
    assert together == sorted(together)


def test_known_answers_show_that_the_answers_are_facts() -> None:
    """Six wordings of five facts are five pieces if the training file has many other facts."""
    exam = [
        _example(f"Wording {w} of {fact}?", f"fact {fact}") for fact in range(5) for w in "abcdef"
    ]
    training = [_example(f"Wording {w} of {i}?", f"fact {i}") for i in range(5, 45) for w in "ab"]
    assert len(set(pieces_of_evidence(exam, training))) == 5
    assert len(set(pieces_of_evidence(exam))) == 20


@given(
    keys=st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 6), st.sampled_from(["", "g", "h"])),
        max_size=25,
    )
)
def test_pieces_are_the_connected_examples(keys: list[tuple[int, int, str]]) -> None:
    """Two examples that share a question or a group are in one piece, and the order of examples
    is no matter.
    """
    examples = [_example(f"q{q}", f"a{a}", g) for q, a, g in keys]
    names = pieces_of_evidence(examples)
    for one, name in zip(keys, names, strict=True):
        for other, other_name in zip(keys, names, strict=True):
            if one[0] == other[0] or (one[2] and one[2] == other[2]):
                assert name == other_name
    assert len(set(pieces_of_evidence(examples[::-1]))) == len(set(names))


# Labels


def test_a_few_answers_of_many_questions_are_labels() -> None:
    """They are listed as most often written, the commonest first, for every tag."""
    rows = [
        *(_example(f"good {i}", "Yes" if i else "yes.", tag="a") for i in range(9)),
        *(_example(f"bad {i}", "No", tag="b") for i in range(5)),
    ]
    assert label_sets(rows) == {"a": ("Yes", "No"), "b": ("Yes", "No")}


@pytest.mark.parametrize(
    ("n_rows", "n_labels", "has_labels"),
    [
        pytest.param(10, 2, True, id="five questions each"),
        pytest.param(8, 2, False, id="four questions each may be wordings"),
        pytest.param(50, 1, False, id="one answer is no choice"),
        pytest.param(200, MOST_LABELS, True, id="twenty labels"),
        pytest.param(400, MOST_LABELS + 1, False, id="more are none"),
    ],
)
def test_when_answers_are_labels(n_rows: int, n_labels: int, has_labels: bool) -> None:
    """Two to twenty answers are labels if each has more than four questions on average."""
    assert bool(label_sets(_classes(n_rows, n_labels))) == has_labels


def test_copies_of_a_question_do_not_make_a_label() -> None:
    """Different questions count, not rows."""
    assert label_sets([_example(f"q{i % 4}", f"a{i % 2}") for i in range(40)]) == {}


def test_a_tag_may_have_labels_of_its_own() -> None:
    """Where only the questions of one tag are a classification, that tag has labels."""
    facts = [_example(f"What is {i}?", f"It is {i}.", tag="facts") for i in range(30)]
    judged = [_example(f"Is {i} even?", "no" if i % 2 else "yes", tag="even") for i in range(12)]
    assert label_sets([*facts, *judged]) == {"even": ("no", "yes")}


def test_plain_texts_have_no_labels() -> None:
    """A text to learn is no answer to a question."""
    texts = [Example("", f"text {i % 2}", i, "exam.jsonl") for i in range(40)]
    assert label_sets(texts) == {}
    assert label_sets([*texts, *_classes(20, 2)]) == {"": ("label 0", "label 1")}
