"""A small exam and a run built by hand, without a model or files."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from finetuning_exam.data.records import Example
from finetuning_exam.evaluation.exam import Exam
from finetuning_exam.evaluation.results import ChoiceAccuracy, ExamRow, Pair, Results, Shares
from finetuning_exam.evaluation.stats import Interval, PairedDifference
from finetuning_exam.model.generation.generate import Answer
from finetuning_exam.model.score import Score
from finetuning_exam.run_record import (
    AdapterRecord,
    BaseRecord,
    DataRecord,
    MicroBatches,
    RunRecord,
    ScalePoint,
    TrainingPlan,
    TrainingResult,
)
from finetuning_exam.settings import TrainSettings


def _row(index: int, change: float, instruction: str = "", answer: str = "ls -l") -> ExamRow:
    """A row of ten tokens whose NLL changes by `change` nats per token from 5."""
    return ExamRow(
        Example(instruction or f"Question {index}?", answer, index + 1, "exam.jsonl", tag="shell"),
        Score(50.0, 10, len(answer)),
        Score(50.0 + 10 * change, 10, len(answer)),
        Answer("base says this", False),
        Answer("ls -a", True),
        False,
        True,
    )


def _results(n_examples: int) -> Results:
    """Figures of a clear improvement."""
    return Results(
        n_examples,
        n_examples,
        n_examples,
        PairedDifference(5.0, 3.5, Interval(-1.75, -1.25)),
        Pair(2.0, 1.4),
        Shares(0.0, 0.25, 0.001),
        PairedDifference(12.3, 45.6, Interval(30.0, 36.5)),
        ChoiceAccuracy(0.3, 0.8, 0.25, 0.0001, n_examples),
        Pair(0.1, math.nan),
    )


@pytest.fixture
def make_row() -> Callable[..., ExamRow]:
    """Makes a row; see `_row`."""
    return _row


@pytest.fixture
def make_results() -> Callable[[int], Results]:
    """Makes figures; see `_results`."""
    return _results


@pytest.fixture
def exam() -> Exam:
    """Forty held-out rows, thirty better, ten worse."""
    rows = tuple(_row(index, -2.0 + 0.065 * index) for index in range(40))
    results = _results(40)
    forgetting = PairedDifference(3.0, 3.01, Interval(-0.01, 0.02))
    return Exam("improved", True, results, (("shell", results),), forgetting, rows)


@pytest.fixture
def form_only_exam(exam: Exam) -> Exam:
    """Likelihood rose, multiple choice did not."""
    choice = ChoiceAccuracy(0.3, 0.3, 0.25, 1.0, 40)
    return replace(exam, overall=replace(exam.overall, choice_accuracy=choice))


@pytest.fixture
def unmeasured_exam(exam: Exam) -> Exam:
    """Four training rows: nothing held out, nothing answered, no interval."""
    nan = math.nan
    unknown = PairedDifference(5.0, 4.0, Interval(nan, nan))
    absent = PairedDifference(nan, nan, Interval(nan, nan))
    nothing = Pair(nan, nan)
    choice = ChoiceAccuracy(nan, nan, 0.25, 1.0, 0)
    overall = Results(4, 4, 0, unknown, Pair(2.0, 1.0), Shares(nan, nan), absent, choice, nothing)
    rows = tuple(
        replace(row, base_answer=None, tuned_answer=None, base_chose_right=None)
        for row in exam.rows
    )[:4]
    return Exam("too few examples to tell", False, overall, (), unknown, rows)


@pytest.fixture
def run() -> RunRecord:
    """A run of the built-in base on the example data."""
    return RunRecord(
        command="fte train train.jsonl --seed 7",
        settings=TrainSettings(seed=7),
        plan=TrainingPlan(3e-3, 16.0, 47, 752, 23, 76, MicroBatches(2048)),
        data=DataRecord(
            ("train.jsonl",), "a1" * 32, "exam.jsonl", "b2" * 32, 672, 75, 40, False, 0, "f6" * 32
        ),
        base=BaseRecord("builtin", "c3" * 32, 7_123_456, 512),
        adapter=AdapterRecord(42, 812_345, "d4" * 32),
        template="plain",
        template_sha256="e5" * 32,
        device="cpu",
        dtype="float32",
        threads=2,
        result=TrainingResult(
            *(752, 456, 4.3, None, 312_345, 83.2, 1.1, 3754.1, False),
            adapter_scale=0.75,
            frontier=tuple(
                ScalePoint(scale, 4.3 - 2 * scale, 3.1 + scale**2 / 2)
                for scale in (0.0, 0.25, 0.5, 0.75, 1.0)
            ),
        ),
        seconds={"load": 1.4, "train": 93.2, "exam": 21.7},
    )


@pytest.fixture
def metrics() -> tuple[dict[str, float], ...]:
    """Rows as metrics.jsonl has them."""
    training = [{"step": s, "epoch": s / 47, "loss": 5 - s / 200} for s in range(5, 753, 5)]
    validation = [{"step": s, "epoch": s / 47, "eval_loss": 4 - s / 400} for s in range(0, 753, 76)]
    return (*training, *validation)
