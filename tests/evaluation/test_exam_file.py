"""Specification of exam.json: written as ever, and read back with every figure."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetuning_exam.data.records import Example
from finetuning_exam.errors import UsageError
from finetuning_exam.evaluation.exam import Exam, FoldFigures
from finetuning_exam.evaluation.exam_file import file_of, read_exam_file, to_json, write
from finetuning_exam.evaluation.results import ChoiceAccuracy, ExamRow, Pair, Results, Shares
from finetuning_exam.evaluation.skills import SkillReport, SkillResult
from finetuning_exam.evaluation.stats import Divergence, Interval, PairedDifference, SignTest
from finetuning_exam.model.generation.generate import Answer
from finetuning_exam.model.score import Score

DIFFERENCE = PairedDifference(5.0, 3.5, Interval(-1.75, -1.25), 0.002, SignTest(9, 1, 0.02))
RESULTS = Results(
    n_examples=2,
    n_clusters=1,
    n_answered=1,
    nll_per_token=DIFFERENCE,
    bits_per_byte=Pair(2.0, 1.5),
    exact_match=Shares(0.0, 0.25, 0.5),
    chrf=PairedDifference(math.nan, math.nan, Interval(math.nan, math.nan), math.nan),
    choice_accuracy=ChoiceAccuracy(0.5, 1.0, 0.25, 0.125, 2),
    stopped=Pair(0.0, math.nan),
    repeated=Pair(1.0, 0.0),
)
EXAM = Exam(
    "improved",
    True,
    RESULTS,
    (("a", RESULTS),),
    PairedDifference(3.0, 3.5, Interval(0.25, 0.75)),
    (
        ExamRow(
            Example("Where?", "Here.", 4, "exam.jsonl", input="A map.", tag="a"),
            Score(10.0, 4, 5),
            Score(2.0, 4, 5),
            Answer("There", False, repeats=True),
            Answer("Here.", True),
            False,
            True,
        ),
        ExamRow(Example("Why?", "So.", 7, "exam.jsonl"), Score(9.0, 2, 3), Score(math.nan, 2, 3)),
    ),
    answer_reason="time",
)

DIVERGENCE = Divergence(0.25, Interval(0.125, math.nan), 40)
SKILL_RESULT = SkillResult(
    skill="code",
    n_items=25,
    chance=0.25,
    base=0.88,
    tuned=0.52,
    difference=-0.36,
    ci_low=-0.6,
    ci_high=-0.08,
    p_value=0.004,
    n_gained=0,
    n_lost=9,
    p_above_chance=1e-9,
    status="worse",
)
SKILL_REPORT = SkillReport((SKILL_RESULT,), SKILL_RESULT, 0.95, 1)
FIGURES = """\
"n_examples": 2,
"n_clusters": 1,
"n_answered": 1,
"nll_per_token": {
  "base": 5.0,
  "tuned": 3.5,
  "difference": -1.5,
  "ci_low": -1.75,
  "ci_high": -1.25,
  "p_value": 0.002,
  "signs": {
    "lower": 9,
    "higher": 1,
    "p_value": 0.02
  }
},
"bits_per_byte": {
  "base": 2.0,
  "tuned": 1.5
},
"exact_match": {
  "base": 0.0,
  "tuned": 0.25,
  "p_value": 0.5
},
"chrf": {
  "base": null,
  "tuned": null,
  "difference": null,
  "ci_low": null,
  "ci_high": null,
  "p_value": null,
  "signs": {
    "lower": 0,
    "higher": 0,
    "p_value": 1.0
  }
},
"choice_accuracy": {
  "base": 0.5,
  "tuned": 1.0,
  "chance": 0.25,
  "p_value": 0.125,
  "n_questions": 2
},
"stopped": {
  "base": 0.0,
  "tuned": null
},
"labels": null,
"calls": null,
"repeated": {
  "base": 1.0,
  "tuned": 0.0
}"""
TEXT = """\
{
  "schema_version": 4,
  "verdict": "improved",
  "is_held_out": true,
  "answering": {
    "n_answered": 1,
    "n_asking": 2,
    "reason": "time"
  },
  "folds": null,
  FIGURES,
  "forgetting": {
    "base": 3.0,
    "tuned": 3.5,
    "difference": 0.5,
    "ci_low": 0.25,
    "ci_high": 0.75,
    "p_value": null,
    "signs": {
      "lower": 0,
      "higher": 0,
      "p_value": 1.0
    }
  },
  "by_tag": {
    "a": {
      FIGURES
    }
  },
  "divergence": null,
  "skills": null,
  "examples": [
    {
      "prompt": "Where?\\n\\nA map.",
      "reference": "Here.",
      "base": "There",
      "tuned": "Here.",
      "nll_base": 2.5,
      "nll_tuned": 0.5,
      "base_chose_right": false,
      "tuned_chose_right": true,
      "tag": "a",
      "line": 4,
      "base_label": null,
      "tuned_label": null,
      "base_repeats": true,
      "tuned_repeats": false
    },
    {
      "prompt": "Why?",
      "reference": "So.",
      "base": null,
      "tuned": null,
      "nll_base": 4.5,
      "nll_tuned": null,
      "base_chose_right": null,
      "tuned_chose_right": null,
      "tag": null,
      "line": 7,
      "base_label": null,
      "tuned_label": null,
      "base_repeats": null,
      "tuned_repeats": null
    }
  ]
}
"""


def test_an_exam_is_written_word_for_word(tmp_path: Path) -> None:
    """The keys and their order are part of the file's form; what was not measured is null."""
    write(tmp_path / "exam.json", EXAM)
    overall, of_tag = FIGURES.replace("\n", "\n  "), FIGURES.replace("\n", "\n      ")
    expected = TEXT.replace("FIGURES", overall, 1).replace("FIGURES", of_tag)
    assert (tmp_path / "exam.json").read_text(encoding="utf-8") == expected


TEXTS = st.text(max_size=8)
COUNTS = st.integers(0, 10**6)
NUMBERS = st.floats() | st.floats(-5, 5)
FINITE = st.floats(0, 1)
DIFFERENCES = st.builds(
    PairedDifference,
    NUMBERS,
    NUMBERS,
    st.builds(Interval, NUMBERS, NUMBERS),
    NUMBERS,
    st.builds(SignTest, COUNTS, COUNTS, FINITE),
)
PAIRS = st.builds(Pair, NUMBERS, NUMBERS)
FIGURES_DRAWN = st.builds(
    Results,
    *(COUNTS, COUNTS, COUNTS, DIFFERENCES, PAIRS),
    st.builds(Shares, NUMBERS, NUMBERS, NUMBERS),
    DIFFERENCES,
    st.builds(ChoiceAccuracy, NUMBERS, NUMBERS, FINITE, NUMBERS, COUNTS),
    PAIRS,
)
SCORES = st.builds(Score, NUMBERS, st.integers(1, 9), COUNTS)
ANSWERS = st.none() | st.builds(Answer, TEXTS, st.booleans())
CHOSEN = st.none() | st.booleans()
ROWS = st.builds(
    ExamRow,
    st.builds(Example, TEXTS, TEXTS, COUNTS, TEXTS, input=TEXTS, tag=TEXTS),
    *(SCORES, SCORES, ANSWERS, ANSWERS, CHOSEN, CHOSEN),
)
SKILLS = st.builds(
    SkillResult,
    *(TEXTS, COUNTS, FINITE, FINITE, FINITE, FINITE, FINITE, FINITE, FINITE, COUNTS, COUNTS),
    FINITE,
    st.sampled_from(["not measurable", "worse", "better", "no measurable change"]),
)
EXAMS = st.builds(
    Exam,
    st.sampled_from(["improved", "no measurable difference", "worse", "too few examples to tell"]),
    st.booleans(),
    FIGURES_DRAWN,
    st.lists(st.tuples(TEXTS, FIGURES_DRAWN), max_size=2, unique_by=lambda item: item[0]).map(
        tuple
    ),
    DIFFERENCES,
    st.lists(ROWS, max_size=2).map(tuple),
    st.none() | st.builds(Divergence, NUMBERS, st.builds(Interval, NUMBERS, NUMBERS), COUNTS),
    st.none()
    | st.builds(
        SkillReport,
        st.lists(SKILLS, max_size=2).map(tuple),
        st.none() | SKILLS,
        FINITE,
        COUNTS,
    ),
)


@settings(deadline=None, max_examples=50)
@given(EXAMS)
def test_an_exam_comes_back_as_it_was_written(exam: Exam) -> None:
    """Every figure that was measured is read back as it was, to the last bit."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "exam.json"
        write(path, exam)
        assert read_exam_file(path) == file_of(exam)


def test_the_file_has_the_figures_of_the_exam(tmp_path: Path) -> None:
    """Verdict, overall figures, those by tag, forgetting and examples are where one looks."""
    write(tmp_path / "exam.json", EXAM)
    read = read_exam_file(tmp_path / "exam.json")
    assert (read.verdict, read.is_held_out) == ("improved", True)
    assert read.overall.nll_per_token.difference == DIFFERENCE.difference
    assert read.overall.chrf.base is None
    assert read.by_tag == {"a": read.overall}
    assert read.forgetting.ci_low == 0.25
    assert [it.tuned for it in read.examples] == ["Here.", None]


@pytest.mark.parametrize("version", [0, 1, 2])
def test_an_older_file_has_no_skills(tmp_path: Path, version: int) -> None:
    """Versions before 3 have neither divergence nor skills, which are None."""
    path = tmp_path / "exam.json"
    content = to_json(replace(EXAM, divergence=DIVERGENCE, skills=SKILL_REPORT))
    assert content.pop("divergence") == {
        "kl_per_token": 0.25,
        "ci_low": 0.125,
        "ci_high": None,
        "n_tokens": 40,
    }
    skills: Any = content.pop("skills")
    assert [it["status"] for it in skills["by_skill"]] == ["worse"]
    path.write_text(json.dumps({**content, "schema_version": version}), encoding="utf-8")
    read = read_exam_file(path)
    assert (read.divergence, read.skills) == (None, None)
    assert read == file_of(EXAM)


def test_a_file_without_a_version_is_read(tmp_path: Path) -> None:
    """A file from before there was a version has the same keys; unknown ones are ignored."""
    path = tmp_path / "exam.json"
    content = to_json(EXAM)
    del content["schema_version"]
    path.write_text(json.dumps({**content, "new": 1}), encoding="utf-8")
    assert read_exam_file(path) == file_of(EXAM)


def test_the_folds_of_a_cross_validation_are_in_the_file(tmp_path: Path) -> None:
    """The file says which adapters were examined, and that the saved one is not among them."""
    path = tmp_path / "exam.json"
    folds = (FoldFigures(24, 6, Pair(5.0, 3.5)), FoldFigures(25, 5, Pair(4.0, math.nan)))
    write(path, replace(EXAM, folds=folds))
    content = json.loads(path.read_text(encoding="utf-8"))
    first = ["schema_version", "verdict", "is_held_out", "answering", "folds", "n_examples"]
    assert list(content)[: len(first)] == first
    assert content["folds"] == {
        "n_adapters_examined": 2,
        "saved_adapter_was_examined": False,
        "each": [
            {"n_train": 24, "n_exam": 6, "nll_base": 5.0, "nll_tuned": 3.5},
            {"n_train": 25, "n_exam": 5, "nll_base": 4.0, "nll_tuned": None},
        ],
    }
    assert read_exam_file(path) == file_of(replace(EXAM, folds=folds))


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_an_older_file_does_not_say_how_many_were_answered(tmp_path: Path, version: int) -> None:
    """The files of versions 0 to 3 have no reason for their number of answers, nor loops."""
    content: dict[str, Any] = {**to_json(EXAM), "schema_version": version}
    del content["answering"]
    for figures in (content, *content["by_tag"].values()):
        del figures["repeated"]
    for example in content["examples"]:
        del example["base_repeats"], example["tuned_repeats"]
    path = tmp_path / "exam.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    found, now = read_exam_file(path), file_of(EXAM)
    assert found.answering is None
    assert found.overall == replace(now.overall, repeated=None)
    assert found.examples == tuple(
        replace(it, base_repeats=None, tuned_repeats=None) for it in now.examples
    )


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_from_before_the_folds_is_read(tmp_path: Path, version: int) -> None:
    """Versions 1 and 2 lack the key; they are exams of one adapter."""
    path = tmp_path / "exam.json"
    content = {**to_json(EXAM), "schema_version": version}
    del content["folds"]
    path.write_text(json.dumps(content), encoding="utf-8")
    assert read_exam_file(path) == file_of(EXAM)
    assert read_exam_file(path).folds is None


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    """What a newer version wrote is not guessed at."""
    path = tmp_path / "exam.json"
    path.write_text(json.dumps({**to_json(EXAM), "schema_version": 5}), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_exam_file(path)
    assert str(caught.value) == (
        f"{path} was written by a newer version of fine-tuning-exam (schema 5; this one reads up "
        "to 4). Update fine-tuning-exam."
    )


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"verdict": "improved"}'])
def test_a_file_that_is_no_whole_exam_is_refused(tmp_path: Path, content: str | None) -> None:
    """A missing, damaged or incomplete file is one line with the way out."""
    path = tmp_path / "exam.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_exam_file(path)
    assert str(caught.value) == (
        f"{path}: is missing, or is not a complete exam. "
        "Write it again with fte exam --output_file."
    )


def test_an_unknown_verdict_is_refused(tmp_path: Path) -> None:
    """A verdict is one of four."""
    path = tmp_path / "exam.json"
    write(path, replace(EXAM, verdict="splendid"))  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        read_exam_file(path)
