"""exam.json: the exam for programs, with the keys of the contract."""

from __future__ import annotations

import math

from finetuning_exam.durable import Json
from finetuning_exam.evaluation.exam import Exam
from finetuning_exam.evaluation.results import ExamRow, Pair, Results
from finetuning_exam.evaluation.stats import PairedDifference


def exam_to_json(exam: Exam) -> Json:
    """The whole exam. What could not be measured is null."""
    by_tag: dict[str, Json] = {tag: _results(results) for tag, results in exam.by_tag}
    return {
        "verdict": exam.verdict,
        "is_held_out": exam.is_held_out,
        **_results(exam.overall),
        "forgetting": _difference(exam.forgetting),
        "by_tag": by_tag,
        "examples": [_row(row) for row in exam.rows],
    }


def _results(results: Results) -> dict[str, Json]:
    choice = results.choice_accuracy
    return {
        "n_examples": results.n_examples,
        "n_clusters": results.n_clusters,
        "n_answered": results.n_answered,
        "nll_per_token": _difference(results.nll_per_token),
        "bits_per_byte": _pair(results.bits_per_byte),
        "exact_match": {
            **_pair(results.exact_match),
            "p_value": _number(results.exact_match.p_value),
        },
        "chrf": _difference(results.chrf),
        "choice_accuracy": {
            "base": _number(choice.base),
            "tuned": _number(choice.tuned),
            "chance": choice.chance,
            "p_value": _number(choice.p_value),
            "n_questions": choice.n_questions,
        },
        "stopped": _pair(results.stopped),
    }


def _difference(difference: PairedDifference) -> dict[str, Json]:
    signs = difference.signs
    return {
        "base": _number(difference.base),
        "tuned": _number(difference.tuned),
        "difference": _number(difference.difference),
        "ci_low": _number(difference.interval.low),
        "ci_high": _number(difference.interval.high),
        "p_value": _number(difference.p_value),
        "signs": {"lower": signs.n_lower, "higher": signs.n_higher, "p_value": signs.p_value},
    }


def _row(row: ExamRow) -> dict[str, Json]:
    example = row.example
    return {
        "prompt": f"{example.instruction}\n\n{example.input}"
        if example.input
        else example.instruction,
        "reference": example.answer,
        "base": row.base_answer.text if row.base_answer else None,
        "tuned": row.tuned_answer.text if row.tuned_answer else None,
        "nll_base": _number(row.base_score.nll_per_token),
        "nll_tuned": _number(row.tuned_score.nll_per_token),
        "base_chose_right": row.base_chose_right,
        "tuned_chose_right": row.tuned_chose_right,
        "tag": example.tag or None,
        "line": example.line,
    }


def _pair(pair: Pair) -> dict[str, Json]:
    return {"base": _number(pair.base), "tuned": _number(pair.tuned)}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
