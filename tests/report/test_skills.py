"""Lost skills and the divergence, in the headline, the terminal, the page and the card."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
from rich.console import Console

from finetuning_exam.evaluation.exam import Exam
from finetuning_exam.evaluation.skills import (
    SkillAnswer,
    SkillItem,
    SkillReport,
    report_skills,
)
from finetuning_exam.evaluation.stats import Divergence, Interval, PairedDifference
from finetuning_exam.report.card import model_card
from finetuning_exam.report.headline import headline
from finetuning_exam.report.html import render_report
from finetuning_exam.report.skills import divergence_words, lost_words, skill_table
from finetuning_exam.report.terminal import exam_summary
from finetuning_exam.run_record import RunRecord

LOST, KEPT, CHANCE, GAINED = (22, 13), (20, 18), (6, 6), (12, 25)


def _report(skills: Mapping[str, tuple[int, int]], n_items: int = 25) -> SkillReport:
    """Return a report of skills with so many right answers of base and tuned model."""
    answers = []
    for name, (base, tuned) in skills.items():
        for number in range(n_items):
            item = SkillItem(name.replace("_", " "), f"{number}?", tuple("abcd"), 0, number, "own")
            answers.append(SkillAnswer(item, number < base, number < tuned))
    return report_skills(answers)


def _with(exam: Exam, **skills: tuple[int, int]) -> Exam:
    return replace(exam, skills=_report(skills))


def _shown(exam: Exam, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(exam_summary(exam))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_lost_skill_is_named(exam: Exam) -> None:
    """The headline names a skill that is measurably worse, with both shares."""
    assert headline(_with(exam, arithmetic=LOST, code=KEPT)) == (
        "Improved, but it lost a skill: held-out answers became significantly more likely; "
        "lost arithmetic: 88% → 52%."
    )


def test_several_lost_skills_are_named(exam: Exam) -> None:
    """Up to three are named, the rest is counted."""
    found = headline(_with(exam, code=LOST, world_facts=LOST, logic=KEPT))
    assert found.startswith("Improved, but it lost 2 skills: ")
    assert found.endswith("; lost code (88% → 52%), world facts (88% → 52%).")
    many = headline(_with(exam, **{f"skill_{n}": LOST for n in range(5)}))
    assert many.endswith("skill 1 (88% → 52%), skill 2 (88% → 52%) and 2 more.")


def test_many_small_losses_are_a_loss(exam: Exam) -> None:
    """Where no skill alone is measurably worse, all of them together may be."""
    found = headline(_with(exam, code=(20, 17), logic=(20, 16), spelling=(20, 17)))
    assert found.startswith("Improved, but it lost skills: ")
    assert found.endswith("; fewer right answers over all skills: 80% → 67%.")


def test_a_skill_can_be_lost_without_held_out_rows(unmeasured_exam: Exam) -> None:
    """An exam on training rows says nothing about them, but what was lost elsewhere is lost."""
    found = headline(_with(unmeasured_exam, code=LOST))
    assert found.endswith("it says nothing about new questions; lost code: 88% → 52%.")


def test_forgetting_and_lost_skills_are_both_reported(exam: Exam) -> None:
    """Serious forgetting stays in front; the skills follow."""
    forgetting = PairedDifference(3.0, 3.5, Interval(0.4, 0.6))
    found = headline(replace(_with(exam, code=LOST), forgetting=forgetting))
    assert found.startswith("Improved, but it forgot: ")
    assert found.endswith("less likely (perplexity +65%); lost code: 88% → 52%.")


def test_a_lost_skill_is_reported_whatever_the_verdict(exam: Exam, form_only_exam: Exam) -> None:
    """A skill may be lost for nothing, too."""
    worse = headline(replace(_with(exam, code=LOST), verdict="worse"))
    assert worse.endswith("less likely; lost code: 88% → 52%.")
    nothing = headline(replace(_with(exam, code=LOST), verdict="no measurable difference"))
    assert nothing == (
        "No measurable difference on the held-out examples, but it lost a skill: "
        "lost code: 88% → 52%."
    )
    form = headline(_with(form_only_exam, code=LOST))
    assert form.endswith("no measurable improvement; lost code: 88% → 52%.")


@pytest.mark.parametrize(
    "report",
    [
        pytest.param(_report({"code": CHANCE, "logic": CHANCE}), id="at chance"),
        pytest.param(_report({"code": (9, 0)}), id="nearly at chance"),
        pytest.param(_report({"code": (11, 10), "logic": (11, 11)}, 12), id="few questions"),
        pytest.param(_report({}), id="no question was asked"),
    ],
)
def test_nothing_is_claimed_where_nothing_is_measurable(exam: Exam, report: SkillReport) -> None:
    """A base at chance, or few questions: no skill is called kept, lost or unchanged."""
    found = replace(exam, skills=report)
    assert headline(found) == headline(exam)
    assert lost_words(report) == ""
    lines = skill_table(report).lines
    assert all(it.status == "not measurable" for it in lines if it.name != "all skills")
    assert "none measurable with this base" in " ".join(_shown(found).split())


def test_the_terminal_shows_each_skill(exam: Exam) -> None:
    """In 80 columns each skill is one line, with its shares, its change and what that means."""
    skills = {"spelling_and_grammar": LOST, "code": CHANCE, "logic": KEPT, "facts": GAINED}
    shown = _shown(_with(exam, **skills))
    lines = {" ".join(line.split()) for line in shown.splitlines()}
    assert max(map(len, shown.splitlines())) <= 80
    assert {
        "spelling and grammar 88% → 52% -36 (-60 to -9) measurably worse",
        "code 24% → 24% 0 (-20 to +20) not measurable",
        "logic 80% → 72% -8 (-31 to +14) no measurable change",
        "facts 48% → 100% +52 (+22 to +74) measurably better",
        "all skills 60% → 62% +2 (-8 to +12) no measurable change",
        "Skills: 100 multiple-choice questions about 4 skills, 3 of them measurable: 1",
        "worse, 1 better",
    } <= lines
    assert "Not measurable: the base is not measurably better than guessing" in shown


def test_the_terminal_has_no_table_of_noise(exam: Exam) -> None:
    """Where no skill is measurable, the terminal has one sentence; the report has the table."""
    shown = _shown(_with(exam, code=CHANCE, logic=CHANCE))
    assert "Skills: 50 multiple-choice questions about 2 skills, none measurable" in shown
    assert "points" not in shown
    assert "Bonferroni" not in shown


def test_page_and_card_have_the_table_of_the_terminal(exam: Exam, run: RunRecord) -> None:
    """All three show the same lines and the same notes."""
    divergence = Divergence(0.0213, Interval(0.0181, 0.0244), 4000)
    found = replace(_with(exam, code=LOST, logic=CHANCE), divergence=divergence)
    assert found.skills is not None
    table = skill_table(found.skills)
    page, card = render_report(found, run, ()), model_card(found, run)
    shown = " ".join(_shown(found).split())
    for line in table.lines:
        cells = (line.name, line.n_items, line.shares, line.change, line.status)
        heading, *rest = (f"<td>{it}</td>" for it in cells)
        assert "".join(rest) in page
        assert heading.removeprefix("<td>").removesuffix("</td>") in page
        assert f"| {' | '.join(cells)} |" in card
    for note in (table.summary, *table.notes, divergence_words(divergence)):
        assert note in page
        assert note in card
        assert note in shown
    assert divergence_words(divergence) == (
        "KL(base‖tuned) 0.0213 nats per token (95% interval: 0.0181 to 0.0244)"
    )
    assert "verdict unsure" in page, "a lost skill is a doubt"


def test_without_skills_there_is_no_table(exam: Exam, run: RunRecord) -> None:
    """With --skills none nothing is shown of skills."""
    for text in (_shown(exam), render_report(exam, run, ()), model_card(exam, run)):
        assert "Skills" not in text
    assert lost_words(None) == ""


def test_a_divergence_that_was_not_measured_is_not_zero() -> None:
    """Without general text, or with one paragraph, nothing is claimed of it."""
    nothing = Interval(math.nan, math.nan)
    assert divergence_words(None) == "KL(base‖tuned) was not measured"
    assert divergence_words(Divergence(math.nan, nothing, 0)) == "KL(base‖tuned) was not measured"
    assert divergence_words(Divergence(0.5, nothing, 3)) == "KL(base‖tuned) 0.5000 nats per token"


def test_names_are_made_safe(exam: Exam, run: RunRecord) -> None:
    """A skill's name may hold anything: it stays on one line, and formats nothing."""
    report = _report({"a|b\n<i>" + "x" * 80: LOST, "other": KEPT})
    found = replace(exam, skills=report)
    assert "<i>" not in render_report(found, run, ())
    assert "a\\|b‹U\\+000A›\\<i\\>" in model_card(found, run)
    assert "x" * 41 not in _shown(found)
