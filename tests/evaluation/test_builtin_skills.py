"""Laws of the built-in skills: no choice gives itself away by its place, length or form."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from operator import add, mul, sub, truediv
from pathlib import Path

import pytest
from scipy import stats

from finetuning_exam.data.reading.read import read_sound_records
from finetuning_exam.data.split import normalized
from finetuning_exam.evaluation.skills import SkillItem, read_skills
from finetuning_exam.settings import FieldSettings

ROOT = Path(__file__).parents[2]
SKILLS = (
    "arithmetic",
    "world facts",
    "spelling and grammar",
    "following a format",
    "code",
    "translation",
    "logic",
    "common sense",
)


@cache
def _items() -> tuple[SkillItem, ...]:
    return read_skills(None)


def _of(skill: str) -> list[SkillItem]:
    return [item for item in _items() if item.skill == skill]


def _credit(items: Sequence[SkillItem], rank: Callable[[str], int]) -> float:
    """Return how many questions are answered by the choice of the highest rank; ties are shared."""
    total = 0.0
    for item in items:
        ranks = [rank(choice) for choice in item.choices]
        total += (ranks[item.answer] == max(ranks)) / ranks.count(max(ranks))
    return total


def test_there_are_eight_skills_of_25_questions() -> None:
    """Every skill has the same number of questions, each with four different choices."""
    assert list(dict.fromkeys(item.skill for item in _items())) == list(SKILLS)
    assert set(Counter(item.skill for item in _items()).values()) == {25}
    assert all(len(set(item.choices)) == 4 for item in _items())


def test_every_question_is_asked_once() -> None:
    """No question occurs twice, in any skill."""
    questions = [normalized(item.question) for item in _items()]
    assert len(set(questions)) == len(questions) == 200


@pytest.mark.parametrize("skill", SKILLS)
def test_the_right_answer_is_in_every_place_equally_often(skill: str) -> None:
    """In a skill each place holds six or seven right answers, and fifty of all."""
    assert sorted(Counter(item.answer for item in _of(skill)).values()) == [6, 6, 6, 7]
    assert set(Counter(item.answer for item in _items()).values()) == {50}


@pytest.mark.parametrize("sign", [1, -1], ids=["longest", "shortest"])
def test_length_does_not_predict_the_answer(sign: int) -> None:
    """Choosing the longest or the shortest choice does as well as guessing, within what chance
    allows: in a skill at 5% in each tail, and of all questions within five points of 25%.
    """
    low, high = (float(stats.binom.ppf(tail, 25, 0.25)) for tail in (0.05, 0.95))
    for skill in SKILLS:
        assert low <= _credit(_of(skill), lambda choice: sign * len(choice)) <= high, skill
    assert 0.20 <= _credit(_items(), lambda choice: sign * len(choice)) / 200 <= 0.30


def test_the_choices_of_a_question_are_of_like_length() -> None:
    """The right answer is never three times as long as the next choice, nor a third of it."""
    for item in _items():
        lengths = [len(choice) for choice in item.choices]
        right = lengths.pop(item.answer)
        assert min(lengths) <= 3 * right, item.question
        assert right <= 3 * max(lengths), item.question


def test_case_does_not_predict_the_answer() -> None:
    """A right answer starts in upper case or ends in a mark only where a wrong one does too,
    except where the question asks for the form.
    """
    for item in _items():
        if item.skill in ("following a format", "spelling and grammar", "code"):
            continue
        right, wrong = item.choices[item.answer], set(item.choices) - {item.choices[item.answer]}
        assert any(it[0].isupper() == right[0].isupper() for it in wrong), item.question
        assert any((it[-1] in ".?!") == (right[-1] in ".?!") for it in wrong), item.question


def test_the_size_of_a_number_does_not_predict_the_answer() -> None:
    """In arithmetic the right number has each rank among the choices about equally often."""
    ranks: Counter[int] = Counter()
    for item in _of("arithmetic"):
        numbers = [int(choice.split()[0]) for choice in item.choices]
        ranks[sorted(numbers).index(numbers[item.answer])] += 1
    assert all(4 <= ranks[rank] <= 9 for rank in range(4))


def test_sums_are_right() -> None:
    """The answer of every question that is only a sum is its value."""
    signs = {"+": add, "plus": add, "-": sub, "times": mul, "divided by": truediv}
    sums = re.compile(rf"What is (\d+) ({'|'.join(map(re.escape, signs))}) (\d+)\?")
    found = [(item, it) for item in _of("arithmetic") if (it := sums.fullmatch(item.question))]
    assert len(found) >= 12
    for item, (left, sign, right) in ((item, it.groups()) for item, it in found):
        assert float(item.choices[item.answer]) == signs[sign](int(left), int(right))


def test_code_prints_what_the_answer_says(capsys: pytest.CaptureFixture[str]) -> None:
    """Every question about printed output has as its answer what Python prints."""
    start = "What does this Python code print? "
    found = [item for item in _of("code") if item.question.startswith(start)]
    assert len(found) >= 10
    for item in found:
        exec(item.question.removeprefix(start), {})
        assert capsys.readouterr().out.rstrip("\n") == item.choices[item.answer]


def test_nothing_is_in_the_example_data() -> None:
    """No question is one of the example data, and none is on its topics: what a run on that data
    learns is not counted as a skill.
    """
    paths = [str(ROOT / "train.jsonl"), str(ROOT / "exam.jsonl")]
    examples = read_sound_records(paths, FieldSettings()).examples
    taught = {normalized(it.instruction) for it in examples}
    assert not taught & {normalized(item.question) for item in _items()}
    words = {"git", "docker", "kubectl", "shell", "container", "branch", "commit", "pod"}
    for item in _items():
        text = f"{item.question} {' '.join(item.choices)}".casefold()
        assert not words & set(text.replace("?", " ").replace(".", " ").split()), item.question
