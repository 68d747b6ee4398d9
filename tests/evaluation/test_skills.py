"""Skills: the reader of their questions, and what right answers of base and tuned support."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from finetuning_exam.errors import DataError, UserError
from finetuning_exam.evaluation.skills import (
    MAX_ITEMS,
    SkillAnswer,
    SkillItem,
    SkillReport,
    SkillResult,
    p_at_least,
    read_skills,
    report_skills,
)
from finetuning_exam.evaluation.stats import CONFIDENCE

ITEM = {"skill": "colors", "question": "Which color is snow?", "choices": ["a", "b"], "answer": 1}


def _write(path: Path, *items: object) -> str:
    path.write_text("".join(json.dumps(it) + "\n" for it in items), encoding="utf-8")
    return str(path)


# The reader


def test_a_file_is_read_as_written(tmp_path: Path) -> None:
    """Every record is a question with its place; blank lines and other fields do not matter."""
    path = tmp_path / "skills.jsonl"
    second = {**ITEM, "question": " 2 > 1? ", "choices": ["no", "yes", "maybe"], "id": 7}
    path.write_text(f"{json.dumps(ITEM)}\n\n{json.dumps(second)}\n", encoding="utf-8")
    assert read_skills(str(path)) == (
        SkillItem("colors", "Which color is snow?", ("a", "b"), 1, 1, str(path)),
        SkillItem("colors", "2 > 1?", ("no", "yes", "maybe"), 1, 3, str(path)),
    )


def test_a_json_array_is_read_too(tmp_path: Path) -> None:
    """A file may have any form of a data file."""
    path = tmp_path / "skills.json"
    path.write_text(json.dumps([ITEM, {**ITEM, "answer": 0, "question": "?"}], indent=1))
    assert [it.answer for it in read_skills(str(path))] == [1, 0]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"skill": None}, "field 'skill' is null; expected a string."),
        ({"question": " "}, "field 'question' is empty."),
        ({"choices": "a, b"}, "field 'choices' is a string; expected a list."),
        ({"choices": ["a"], "answer": 0}, "1 choices; expected 2 to 8."),
        ({"choices": list("abcdefghi")}, "9 choices; expected 2 to 8."),
        ({"choices": ["a", 2]}, "choice 1 is a number; expected a string."),
        ({"choices": ["a", "\t"]}, "choice 1 is empty."),
        ({"choices": ["a", "b", "a"]}, "the choice 'a' is listed twice."),
        ({"answer": "b"}, "field 'answer' is a string; expected the index of the right choice."),
        ({"answer": True}, "field 'answer' is a boolean; expected the index of the right choice."),
        ({"answer": 2}, "answer 2 is not the index of a choice (0 to 1)."),
        ({"answer": -1}, "answer -1 is not the index of a choice (0 to 1)."),
        ({"question": ITEM["question"], "answer": 0}, "the same question as in line 1."),
    ],
)
def test_a_faulty_question_is_named(
    tmp_path: Path, change: dict[str, object], expected: str
) -> None:
    """The error names file, line and fault, and shows what a question looks like."""
    path = _write(tmp_path / "own.jsonl", ITEM, {**ITEM, "question": "And coal?", **change})
    with pytest.raises(DataError) as caught:
        read_skills(path)
    assert caught.value.faults == (f"{path}:2: {expected}",)
    assert "answer is the index of the right choice, from 0." in caught.value.hint


@pytest.mark.parametrize("name", list(ITEM))
def test_a_missing_field_is_named(tmp_path: Path, name: str) -> None:
    """Each of the four fields is required."""
    path = _write(tmp_path / "own.jsonl", {key: ITEM[key] for key in ITEM if key != name})
    with pytest.raises(DataError, match=rf":1: missing field '{name}'"):
        read_skills(path)


def test_all_faults_are_listed_in_the_order_of_lines(tmp_path: Path) -> None:
    """Lines that are not JSON and faulty questions are reported together."""
    path = tmp_path / "own.jsonl"
    faulty = json.dumps({**ITEM, "answer": 5})
    path.write_text(f"{faulty}\n{{]\n{json.dumps(ITEM)}\n{faulty}\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_skills(str(path))
    assert [fault.split(":")[1] for fault in caught.value.faults] == ["1", "2", "4"]
    assert "not valid JSON" in caught.value.faults[1]


def test_a_file_that_is_no_list_of_questions_is_refused(tmp_path: Path) -> None:
    """Missing, empty and oversized files are errors; the built-in skills are not used instead."""
    empty = tmp_path / "empty.jsonl"
    empty.write_bytes(b"\n")
    many = _write(tmp_path / "many.jsonl", *({**ITEM, "question": str(i)} for i in range(2001)))
    for path, expected in (
        (str(tmp_path / "none.jsonl"), "no such file"),
        (str(tmp_path), "is a folder"),
        ("hub:owner/name", "no such file"),
        (str(empty), r"no records found. Write one question per line"),
        (many, f"2,001 questions, more than {MAX_ITEMS:,}. Use a sample"),
    ):
        with pytest.raises(UserError, match=expected):
            read_skills(path)


def test_reading_and_statistics_load_no_torch() -> None:
    """A program that only reads a report of skills does without torch."""
    code = (
        "import sys; from finetuning_exam.evaluation.skills import read_skills; read_skills(None)\n"
        "print({'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# The report


def _answers(
    skill: str, kept: int, lost: int = 0, gained: int = 0, never: int = 0, n_choices: int = 4
) -> list[SkillAnswer]:
    """Return answers by what became of them: right in both, only in base, only in tuned, none."""
    item = SkillItem(skill, "?", tuple("abcdefgh"[:n_choices]), 0, 1, "x.jsonl")
    pairs = [(True, True)] * kept + [(True, False)] * lost
    pairs += [(False, True)] * gained + [(False, False)] * never
    return [SkillAnswer(item, *pair) for pair in pairs]


def _only(report: SkillReport) -> SkillResult:
    (result,) = report.skills
    return result


def test_the_figures_of_a_skill() -> None:
    """Shares, difference, tests and interval are those of the counts."""
    found = _only(report_skills(_answers("code", kept=12, lost=2, gained=3, never=8)))
    assert (found.skill, found.n_items, found.chance) == ("code", 25, 0.25)
    assert (found.base, found.tuned, found.difference) == (14 / 25, 15 / 25, 1 / 25)
    assert (found.n_gained, found.n_lost) == (3, 2)
    assert found.p_value == stats.binomtest(3, 5).pvalue == 1.0
    expected = stats.binomtest(14, 25, 0.25, alternative="greater").pvalue
    assert found.p_above_chance == pytest.approx(expected)
    assert found.ci_low < 0 < found.difference < found.ci_high
    assert found.status == "no measurable change"


@pytest.mark.parametrize(
    ("n_right", "status"), [(0, "not measurable"), (10, "not measurable"), (11, "worse")]
)
def test_a_base_at_chance_is_not_measurable(n_right: int, status: str) -> None:
    """Of 25 questions with four choices, eleven right answers are the least that guessing would
    give in fewer than one of twenty bases; with fewer a loss of all of them is not counted.
    """
    found = _only(report_skills(_answers("logic", 0, lost=n_right, never=25 - n_right)))
    assert found.status == status
    assert (found.p_above_chance <= 0.05) == (n_right >= 11)


def test_a_gain_from_chance_is_not_measurable() -> None:
    """A skill that the base does not have is never reported as kept, better or worse."""
    found = _only(report_skills(_answers("logic", kept=6, gained=19)))
    assert found.p_value < 1e-4
    assert found.status == "not measurable"


@pytest.mark.parametrize(
    ("lost", "gained", "status"),
    [
        (0, 0, "no measurable change"),
        (5, 0, "no measurable change"),  # p = 0.0625
        (6, 0, "worse"),  # p = 0.03125
        (0, 5, "no measurable change"),
        (0, 6, "better"),
        (7, 3, "no measurable change"),
    ],
)
def test_worse_and_better_need_the_exact_test(lost: int, gained: int, status: str) -> None:
    """A single skill is judged at 5%, and its interval excludes zero only if the test does."""
    found = _only(report_skills(_answers("code", 13, lost, gained, 12 - lost - gained)))
    assert found.status == status
    excludes_zero = found.ci_low > 0 or found.ci_high < 0
    assert excludes_zero == (status in ("worse", "better"))


def test_several_skills_share_one_level() -> None:
    """With eight skills six lost answers are no longer enough, but nine are: p < 0.05 / 8. The
    skills at chance count too.
    """
    at_chance = [it for i in range(6) for it in _answers(f"s{i}", kept=6, never=19)]
    answers = [*_answers("six", 10, lost=6, never=9), *_answers("nine", 8, lost=9, never=8)]
    report = report_skills([*at_chance, *answers])
    assert report.confidence == pytest.approx(1 - 0.05 / 8)
    found = {it.skill: it.status for it in report.skills}
    assert found["six"] == "no measurable change"
    assert found["nine"] == "worse"
    assert report_skills(answers).skills[0].status == "no measurable change"
    assert report_skills(answers[:25]).skills[0].status == "worse"


def test_small_losses_of_many_skills_show_overall() -> None:
    """All questions together are one comparison at 95%, which sees what no single skill shows."""
    report = report_skills([it for i in range(8) for it in _answers(f"s{i}", 12, 2, 0, 11)])
    assert {it.status for it in report.skills} == {"no measurable change"}
    assert report.overall is not None
    assert report.overall.status == "worse"
    assert (report.overall.n_items, report.overall.n_lost) == (200, 16)


def test_too_few_questions_say_nothing() -> None:
    """With fewer than twenty questions, finding no change is not evidence of none."""
    assert _only(report_skills(_answers("own", kept=19))).status == "not measurable"
    assert _only(report_skills(_answers("own", kept=20))).status == "no measurable change"
    assert _only(report_skills(_answers("own", 0, lost=12))).status == "worse"


def test_skills_keep_the_order_of_their_questions() -> None:
    """Skills are not sorted, and questions of one skill need not stand together."""
    mixed = zip(_answers("b", 3), _answers("a", 3), strict=True)
    report = report_skills([it for pair in mixed for it in pair], n_left_out=2)
    assert [(it.skill, it.n_items) for it in report.skills] == [("b", 3), ("a", 3)]
    assert report.n_left_out == 2


def test_no_question_gives_an_empty_report() -> None:
    """If no question fits into the model's context, the report says how many were left out."""
    assert report_skills([], 9) == SkillReport((), None, CONFIDENCE, 9)


def test_a_report_is_plain_numbers() -> None:
    """A report becomes JSON without NaN, and each skill has the keys that programs rely on."""
    report = report_skills(_answers("code", kept=1))
    content = json.loads(json.dumps(asdict(report), allow_nan=False))
    assert content["skills"][0]["status"] == "not measurable"
    assert content["skills"][0]["difference"] == 0.0


@given(
    st.integers(0, 30),
    st.lists(st.sampled_from([2, 3, 4, 8]), min_size=1, max_size=30),
)
def test_chances_of_guessing(n_right: int, widths: Sequence[int]) -> None:
    """With equal chances the p-value is the binomial one; it falls as right answers rise."""
    mixed = [1 / width for width in widths]
    assert p_at_least(0, mixed) == pytest.approx(1)
    assert p_at_least(n_right + 1, mixed) <= p_at_least(n_right, mixed)
    assert p_at_least(len(widths), mixed) == pytest.approx(_product(mixed))
    equal = [mixed[0]] * len(mixed)
    expected = stats.binom.sf(n_right - 1, len(equal), mixed[0])
    assert p_at_least(n_right, equal) == pytest.approx(expected, abs=1e-12)


def _product(values: Sequence[float]) -> float:
    result = 1.0
    for value in values:
        result *= value
    return result
