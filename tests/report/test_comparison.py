"""Answers side by side as a page: what differs is marked, references give scores."""

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


def test_what_the_reference_does_not_say_is_marked() -> None:
    """With a reference both are marked against it, without one the tuned against the base."""
    assert [it.text for it in marked(KNOWN, KNOWN.base) if it.is_new] == ["dir"]
    assert not any(it.is_new for it in marked(KNOWN, KNOWN.tuned))
    free = Comparison("q", KNOWN.base, KNOWN.tuned)
    assert not any(it.is_new for it in marked(free, free.base))
    assert [it.text for it in marked(free, free.tuned) if it.is_new] == ["ls"]


def test_scores_stand_under_an_answer() -> None:
    """ChrF and the reference's NLL with a reference; that an answer did not stop always."""
    assert score_note(KNOWN.tuned, "use ls") == "chrF 100 · reference 0.50 nats per token"
    assert score_note(KNOWN.base, "").endswith("did not stop by itself")
    assert score_note(Answered("x"), "") == ""
    assert score_note(Answered(" "), "") == "an empty answer"


def test_the_summary_is_of_questions_with_a_reference() -> None:
    """The others have no figures; without any there is no summary."""
    free = Comparison("q", KNOWN.base, KNOWN.tuned)
    assert summary([free]) == ""
    found = summary([KNOWN, free, KNOWN])
    assert found.startswith("2 with references, base → tuned: word for word 0% → 100%, chrF ")
    assert found.endswith(" → 100.0")


@pytest.mark.parametrize("reference", ["", "x" * 10])
def test_a_long_answer_is_cut_and_says_so(reference: str) -> None:
    """What does not fit is counted; nothing is said of a file, since none has the answers."""
    long = "x" * (N_CHARACTERS_SHOWN + 5)
    one = Comparison(long, Answered(long), Answered(long), reference)
    page = render_comparison([one], "out", "builtin", "fte compare")
    assert page.count("… (5 more characters)") == 3
    assert "x" * (N_CHARACTERS_SHOWN + 1) not in page
    assert "exam.json" not in page


@pytest.mark.parametrize("reference", ["", HOSTILE])
def test_hostile_texts_stay_text(reference: str) -> None:
    """Nothing from data, model or names becomes markup, and no character acts."""
    one = Comparison(HOSTILE, Answered(HOSTILE), Answered(HOSTILE + " more"), reference)
    page = render_comparison([one], HOSTILE, HOSTILE, HOSTILE)
    assert "<script" not in page
    assert "\u202e" not in page
    assert page.count("</style>") == 1
    assert "default-src 'none'" in page


def test_the_page_shows_every_question_and_how_to_get_it_again() -> None:
    """Questions, both answers, scores, marks and the command."""
    page = render_comparison([KNOWN], "out", "builtin", "fte compare --prompts exam.jsonl")
    for text in ("How do I list files?", "<mark>dir</mark>", "chrF 100", "fte compare --prompts"):
        assert text in page
