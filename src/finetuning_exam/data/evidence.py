"""Pieces of evidence and labels: what the answers of an exam stand for.

Examples that are wordings of one fact are one piece of evidence, since a model that knows the fact
is helped with all of them. An answer of many different questions is no fact but a label, as in
classification; its questions are separate pieces of evidence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from finetuning_exam.data.records import Example
from finetuning_exam.data.split import normalized, prompt_key

MOST_WORDINGS = 4
"""Up to this many questions with the same answer are taken for wordings of one fact, in a file with
few different answers."""
MOST_WORDINGS_OF_MANY = 8
"""The same in a file with at least `MANY_ANSWERS`, where they are more likely facts than labels."""
MANY_ANSWERS = 40
MOST_LABELS = 20
"""With more different answers, a file is not taken for a classification."""

LabelSets: TypeAlias = Mapping[str, tuple[str, ...]]
"""The labels that the examples of each tag choose from; a tag without labels is absent."""


def wordings(n_questions: int, n_answers: int) -> int:
    """Return how many of an answer's questions are one piece of evidence together.

    All of up to `MOST_WORDINGS` questions are in a file of up to `MOST_LABELS` different answers;
    the limit grows with the answers to `MOST_WORDINGS_OF_MANY`. Beyond the limit, each further
    question makes it less likely that they are wordings of one fact, and two more pieces are
    counted; with twice as many, every question is a piece of its own. So one more example of an
    answer never changes the count by much.
    """
    share = min(max(n_answers - MOST_LABELS, 0) / (MANY_ANSWERS - MOST_LABELS), 1.0)
    limit = MOST_WORDINGS + share * (MOST_WORDINGS_OF_MANY - MOST_WORDINGS)
    return min(n_questions, max(1, int(2 * limit) + 1 - n_questions))


def pieces_of_evidence(examples: Sequence[Example], known: Iterable[Example] = ()) -> list[str]:
    """Name the piece of evidence of each example.

    Examples with the same question or the same group are one piece. So are the first `wordings` of
    the questions that share an answer, in alphabetical order. `known` are other examples, such as
    those that were trained on: their questions and answers count where it is decided whether an
    answer is a label.
    """
    union = _Union(len(examples))
    first: dict[str, int] = {}
    keys = [prompt_key(example) for example in examples]
    for index, (example, key) in enumerate(zip(examples, keys, strict=True)):
        group = [f"group {example.group}"] if example.group else []
        for name in (f"prompt {key}", *group):
            union.join(first.setdefault(name, index), index)
    questions: dict[str, dict[int, str]] = {}
    for index, example in enumerate(examples):
        of_answer = questions.setdefault(normalized(example.answer), {})
        root = union.root(index)
        of_answer[root] = min(of_answer.get(root, keys[index]), keys[index])
    known_questions = _questions_by_answer(known)
    n_answers = len(questions.keys() | known_questions.keys())
    for answer, of_answer in questions.items():
        n_questions = len(of_answer) + len(known_questions.get(answer, ()))
        n_together = wordings(n_questions, n_answers)
        together = sorted(of_answer, key=of_answer.__getitem__)[:n_together]
        for root in together[1:]:
            union.join(together[0], root)
    return [str(union.root(index)) for index in range(len(examples))]


def label_sets(examples: Iterable[Example]) -> LabelSets:
    """Return the labels of each tag, each as it is most often written; the commonest first.

    Answers are labels if there are 2 to `MOST_LABELS` of them and each stands for more than
    `MOST_WORDINGS` different questions on average. If the answers of all examples are, every tag
    has the same labels; otherwise each tag is looked at alone. Plain texts have no answers.
    """
    asking = [example for example in examples if not example.is_plain_text]
    tags = dict.fromkeys(example.tag for example in asking)
    if labels := _labels(asking):
        return dict.fromkeys(tags, labels)
    if len(tags) < 2:
        return {}
    by_tag: dict[str, list[Example]] = {}
    for example in asking:
        by_tag.setdefault(example.tag, []).append(example)
    found = {tag: _labels(of_tag) for tag, of_tag in by_tag.items()}
    return {tag: labels for tag, labels in found.items() if labels}


def _labels(examples: Sequence[Example]) -> tuple[str, ...]:
    """Return the labels of these examples; empty if their answers are not labels."""
    spellings: dict[str, Counter[str]] = {}
    for example in examples:
        spellings.setdefault(normalized(example.answer), Counter())[example.answer] += 1
        if len(spellings) > MOST_LABELS:
            return ()
    n_questions = len({prompt_key(example) for example in examples})
    if len(spellings) < 2 or n_questions <= MOST_WORDINGS * len(spellings):
        return ()
    ordered = sorted(spellings, key=lambda answer: (-spellings[answer].total(), answer))
    return tuple(spellings[answer].most_common(1)[0][0] for answer in ordered)


def _questions_by_answer(examples: Iterable[Example]) -> dict[str, set[str]]:
    """Return the different questions of each answer; a group is one question."""
    found: dict[str, set[str]] = {}
    for example in examples:
        found.setdefault(normalized(example.answer), set()).add(
            example.group or prompt_key(example)
        )
    return found


class _Union:
    """Disjoint sets of the integers below `n` (union-find, Tarjan 1975)."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))

    def root(self, index: int) -> int:
        """Return the smallest member of the set that holds `index`."""
        while self._parent[index] != index:
            self._parent[index] = self._parent[self._parent[index]]
            index = self._parent[index]
        return index

    def join(self, one: int, other: int) -> None:
        """Merge two sets."""
        low, high = sorted((self.root(one), self.root(other)))
        self._parent[high] = low
