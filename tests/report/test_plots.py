"""Specification of the plots."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from xml.etree import ElementTree

import matplotlib
import pytest

from finetuning_exam.evaluation.exam import Exam
from finetuning_exam.evaluation.results import ExamRow
from finetuning_exam.report.plots import (
    difference_plot,
    frontier_plot,
    frontier_words,
    loss_plot,
    loss_words,
    share_words,
    sorted_differences,
)
from finetuning_exam.run_record import RunRecord

Metrics = tuple[dict[str, float], ...]
MakeRow = Callable[..., ExamRow]


def test_all_plots_can_stand_in_one_page(exam: Exam, metrics: Metrics, run: RunRecord) -> None:
    """Ids are unique across the plots, and every reference points within its own plot."""
    page = loss_plot(metrics, 456) + difference_plot(exam.rows) + frontier_plot(run.result)
    ids = re.findall(r'\bid="([^"]+)"', page)
    used = re.findall(r'href="#([^"]+)"', page) + re.findall(r"url\(#([^)]+)\)", page)
    assert len(ids) == len(set(ids))
    assert used
    assert set(used) <= set(ids)


def test_the_frontier_names_each_scale_and_the_one_kept(run: RunRecord) -> None:
    """Plot and words have the base and all scales, and what each one learned and lost."""
    plot = frontier_plot(run.result)
    for name in ("base", "0.25", "0.5", "0.75 (kept)", "1"):
        assert f">{name}</text>" in plot
    assert frontier_words(run.result) == (
        "Validation loss at each scale, and the change in perplexity of general text (another "
        "sample than the exam's): base 4.300, 0.25 3.800 (+3.2%), 0.5 3.300 (+13.3%), "
        "0.75 2.800 (+32.5%), 1 2.300 (+64.9%). Scale 0.75 was kept."
    )


def test_plots_have_no_prolog_style_or_date(exam: Exam, metrics: Metrics, run: RunRecord) -> None:
    """A plot is a single svg element without style sheet or metadata."""
    for plot in (loss_plot(metrics, 456), difference_plot(exam.rows), frontier_plot(run.result)):
        assert plot.startswith("<svg ")
        assert ElementTree.fromstring(plot).get("role") == "img"
        assert not re.search(r"<style|<metadata|<script|<\?xml|<!DOCTYPE", plot)


def test_ink_follows_the_page(metrics: Metrics) -> None:
    """Text and axes inherit the colour of the surrounding text; there is no background."""
    plot = loss_plot(metrics, 456)
    assert "currentColor" in plot
    assert not re.search(r"#(0{6}|010203|f{6})\b", plot)


def test_same_figures_give_same_bytes(exam: Exam, metrics: Metrics) -> None:
    """Plots are deterministic and leave matplotlib's settings unchanged."""
    before = dict(matplotlib.rcParams)
    assert loss_plot(metrics, 456) == loss_plot(metrics, 456)
    assert difference_plot(exam.rows) == difference_plot(exam.rows)
    assert dict(matplotlib.rcParams) == before


def test_plot_of_many_examples_stays_small(make_row: MakeRow) -> None:
    """Two thousand examples need less than 100 KB."""
    rows = [make_row(index, math.sin(index) - 0.3) for index in range(2000)]
    assert len(difference_plot(rows)) < 100_000


def test_a_long_run_stays_small() -> None:
    """Ten thousand logged steps need less than 500 KB."""
    metrics = tuple({"step": s, "loss": 3 + math.sin(s)} for s in range(10_000))
    assert len(loss_plot(metrics, 1)) < 500_000


def test_loss_plot_marks_the_kept_step(metrics: Metrics) -> None:
    """The step that was kept is in the legend and in the text alternative."""
    plot = loss_plot(metrics, 456)
    assert "kept: step 456" in plot
    assert (
        "The adapter from step 456 was kept." in ElementTree.fromstring(plot).attrib["aria-label"]
    )


def test_loss_words_give_start_and_end(metrics: Metrics) -> None:
    """The caption gives the first and last loss; if a step was logged twice, the later counts."""
    assert loss_words((*metrics, {"step": 750.0, "loss": 0.5}), 456) == (
        "Training loss went from 4.975 at step 5 to 0.500 at step 750. "
        "Validation loss went from 4.000 at step 0 to 2.290 at step 684. "
        "The adapter from step 456 was kept."
    )


@pytest.mark.parametrize("rows", [(), ({"step": 1.0, "loss": math.nan},)])
def test_without_a_logged_loss_the_plot_is_a_message(rows: Metrics) -> None:
    """A run of a few steps may log nothing; the plot then shows a message."""
    assert "No loss was logged." in loss_plot(rows, 4)


def test_a_single_logged_step_is_visible() -> None:
    """A single point has a marker, since a line needs two points."""
    alone = loss_plot(({"step": 1.0, "loss": 3.0},), 1)
    assert alone.count("<use ") > loss_plot((), 1).count("<use ")


def test_shares_count_better_and_worse(exam: Exam, make_row: MakeRow) -> None:
    """The title counts the examples below and above zero; unchanged ones count as neither."""
    assert share_words(exam.rows) == "Better on 31 of 40 (78%), worse on 9 (22%)"
    assert share_words([make_row(0, 0.0)]) == "Better on 0 of 1 (0%), worse on 0 (0%)"
    assert share_words([]) == "No examples"
    assert "No examples." in difference_plot([])


def test_differences_are_sorted_per_token(exam: Exam, make_row: MakeRow) -> None:
    """Each example has one difference in nats per token, most improved first; NaN is left out."""
    rows = [make_row(0, 0.5), make_row(1, -1.0), make_row(2, math.nan)]
    assert sorted_differences(rows).tolist() == [-1.0, 0.5]
