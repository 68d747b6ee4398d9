"""Exams of labels that were learned, guessed or shuffled: verdict and headline are right."""

from __future__ import annotations

import pytest
from exam_labels import N_LABELS, SITUATIONS, Situation, is_right, simulate

from finetuning_exam.report.headline import headline

N_ROWS = 60


@pytest.mark.parametrize("n_labels", N_LABELS)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_simulated_exam_is_judged_rightly(situation: Situation, n_labels: int) -> None:
    """Of two exams, with balanced and with unbalanced labels, each has the right verdict."""
    for seed in (2, 3):
        exam = simulate(situation, n_labels, N_ROWS, seed)
        assert exam.overall.labels is not None
        assert exam.overall.n_clusters >= N_ROWS - 10, "rare labels may be facts"
        assert exam.overall.choice_accuracy.chance == pytest.approx(1 / n_labels)
        assert is_right(situation, exam) == (True, True), headline(exam)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("n_labels", N_LABELS)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_at_most_one_simulated_exam_in_twenty_is_wrong(situation: Situation, n_labels: int) -> None:
    """Of a hundred exams at least 95 have the right verdict and the right headline."""
    right = [
        is_right(situation, simulate(situation, n_labels, N_ROWS, seed)) for seed in range(100)
    ]
    assert sum(it[0] for it in right) >= 95
    assert sum(it[1] for it in right) >= 95
