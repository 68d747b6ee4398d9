"""Specification of figures and texts as they are shown."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetuning_exam.evaluation.exam import Exam
from finetuning_exam.evaluation.stats import Interval
from finetuning_exam.report.text import (
    interval_text,
    measures,
    number,
    on_one_line,
    p_value,
    percent,
    signed,
    size,
    visible,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mred", "a‹U+001B›[31mred"),
        ("nul\x00 bell\x07 cr\r del\x7f", "nul‹U+0000› bell‹U+0007› cr‹U+000D› del‹U+007F›"),
        ("c1 \x9b31m", "c1 ‹U+009B›31m"),
        ("\u202eevil\u202c", "‹U+202E›evil‹U+202C›"),
        ("\u2066isolate\u2069", "‹U+2066›isolate‹U+2069›"),
        ("half \ud83d", "half ‹U+D83D›"),
    ],
)
def test_control_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    """Controls, bidirectional overrides and lone surrogates become visible escapes."""
    assert visible(text) == shown


def test_ordinary_text_stays_as_it_is() -> None:
    """Newline, tab, emoji, accents and right-to-left letters are not touched."""
    text = "line\n\ttab é 👍🏽 שלום ‏عربي <b>&amp;"
    assert visible(text) == text


@given(st.text(st.characters()))
def test_visible_text_can_be_encoded_and_is_harmless(text: str) -> None:
    """The result is always valid UTF-8 without an escape character, and is stable."""
    shown = visible(text)
    shown.encode("utf-8")
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert visible(shown) == shown


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 MB"),
        (640.4e6, "640 MB"),
        (999.4e6, "999 MB"),
        (999.6e6, "1.0 GB"),
        (1.94e9, "1.9 GB"),
        (12_345e9, "12,345.0 GB"),
    ],
)
def test_sizes_are_in_decimal_units(n_bytes: float, text: str) -> None:
    """Sizes are whole megabytes below a gigabyte, then gigabytes with one decimal."""
    assert size(n_bytes) == text


def test_one_line_has_no_newline_or_tab() -> None:
    """In text that must stay on one line, newline and tab are escaped too."""
    assert on_one_line("a\nb\tc\x00") == "a‹U+000A›b‹U+0009›c‹U+0000›"


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_absent_figures_are_a_dash(value: float | None) -> None:
    """None, NaN and infinity are shown as a dash, without sign or unit."""
    assert number(value) == signed(value) == percent(value) == "–"


def test_figures_have_plain_minus_signs_and_no_negative_zero() -> None:
    """The minus sign is the hyphen-minus; a change that rounds to zero has no sign."""
    assert number(-1234.5678) == "-1,234.568"
    assert number(-0.0001) == "0.000"
    assert signed(0.5, 1) == "+0.5"
    assert signed(-0.0001) == signed(0.0001) == "0.000"
    assert percent(0.256, 0) == "26%"


def test_an_interval_shows_both_bounds_or_a_dash() -> None:
    """An interval that could not be computed is a dash."""
    assert interval_text(Interval(-1.75, 0.25), 2) == "-1.75 to +0.25"
    assert interval_text(Interval(math.nan, math.nan)) == "–"


def test_a_small_p_value_is_never_shown_as_zero() -> None:
    """Values below 0.001 are shown as a bound."""
    assert p_value(1e-9) == "p < 0.001"
    assert p_value(0.04) == "p = 0.040"


def test_measures_show_base_tuned_and_change(exam: Exam) -> None:
    """Every figure of the exam has its line; NaN is a dash, in the change too."""
    lines = {line.name: (line.base, line.tuned, line.change) for line in measures(exam.overall)}
    assert lines["NLL per token (nats)"] == ("5.000", "3.500", "-1.500 (-1.750 to -1.250)")
    assert lines["Multiple choice (chance 25%)"] == (
        "30.0%",
        "80.0%",
        "+50.0 points (p < 0.001)",
    )
    assert lines["Stopped on their own"] == ("10.0%", "–", "–")
