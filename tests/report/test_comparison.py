"""Answers side by side as a page: differences are marked, references give scores."""

from __future__ import annotations

import pytest

from finetuning_exam.report.comparison import (
    Answered,
    Comparison,
    marked,
    render_comparison,
    score_note,
    summary,
)
from finetuning_exam.report.page import N_CHARACTERS_SHOWN

HOSTILE = "<script>alert(1)</script>\u202e</style>"
KNOWN = Comparison(
    "How do I list files?",
    Answered("use dir", stopped=False, nll_per_token=3.25),
    Answered("use ls", nll_per_token=0.5),
    "use ls",
)


def test_words_that_are_not_in_the_reference_are_marked() -> None:
    """Both answers are marked against the reference; without one, the tuned against the base."""
    assert [it.text for it in marked(KNOWN, KNOWN.base) if it.is_new] == ["dir"]
    assert not any(it.is_new for it in marked(KNOWN, KNOWN.tuned))
    free = Comparison("q", KNOWN.base, KNOWN.tuned)
    assert not any(it.is_new for it in marked(free, free.base))
    assert [it.text for it in marked(free, free.tuned) if it.is_new] == ["ls"]


def test_an_answer_has_a_note_with_its_scores() -> None:
    """With a reference the note has chrF and the reference's NLL; a cut answer is always noted."""
    assert score_note(KNOWN.tuned, "use ls") == "chrF 100 · reference NLL 0.50 per token"
    assert score_note(KNOWN.base, "").endswith("did not stop on its own")
    assert score_note(Answered("x"), "") == ""
    assert score_note(Answered(" "), "") == "empty answer"


def test_the_summary_covers_questions_with_a_reference() -> None:
    """Questions without a reference are not counted; without any reference it is empty."""
    free = Comparison("q", KNOWN.base, KNOWN.tuned)
    assert summary([free]) == ""
    found = summary([KNOWN, free, KNOWN])
    assert found.startswith(
        "2 questions with a reference, base → tuned: exact match 0% → 100%, chrF "
    )
    assert found.endswith(" → 100.0")


@pytest.mark.parametrize("reference", ["", "x" * 10])
def test_a_long_answer_is_cut_and_says_so(reference: str) -> None:
    """The page counts the characters it leaves out; no file has them, so none is named."""
    long = "x" * (N_CHARACTERS_SHOWN + 5)
    one = Comparison(long, Answered(long), Answered(long), reference)
    page = render_comparison([one], "out", "builtin", "fte compare")
    assert page.count("… (5 more characters)") == 3
    assert "x" * (N_CHARACTERS_SHOWN + 1) not in page
    assert "exam.json" not in page


@pytest.mark.parametrize("reference", ["", HOSTILE])
def test_hostile_texts_stay_text(reference: str) -> None:
    """Nothing from data, model or names becomes markup or a control character."""
    one = Comparison(HOSTILE, Answered(HOSTILE), Answered(HOSTILE + " more"), reference)
    page = render_comparison([one], HOSTILE, HOSTILE, HOSTILE)
    assert "<script" not in page
    assert "\u202e" not in page
    assert page.count("</style>") == 1
    assert "default-src 'none'" in page


def test_the_page_shows_every_question_and_how_to_reproduce_it() -> None:
    """The page has the questions, both answers, scores, marks and the command."""
    page = render_comparison([KNOWN], "out", "builtin", "fte compare --prompts exam.jsonl")
    for text in ("How do I list files?", "<mark>dir</mark>", "chrF 100", "fte compare --prompts"):
        assert text in page
