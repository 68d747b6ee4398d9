"""exam.json: the exam for programs, with every figure and every example.

The dataclasses have the keys of the file, in its order; a figure that could not be measured is
None, which is null in the file.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finetuning_exam.answer_limit import AnswerReason
from finetuning_exam.data.encoding.chat import question
from finetuning_exam.durable import Json, finite, read_object, write_json
from finetuning_exam.errors import UsageError
from finetuning_exam.evaluation.calls_file import CallFigures, call_figures
from finetuning_exam.evaluation.folds_file import Folds, folds_of
from finetuning_exam.evaluation.labels_file import Labels, label_figures
from finetuning_exam.evaluation.skills_file import (
    DivergenceFigures,
    SkillsFigures,
    divergence_figures,
    skills_figures,
)
from finetuning_exam.evaluation.verdict import Verdict
from finetuning_exam.run_file import check_schema_version

if TYPE_CHECKING:  # these import torch, which a reader does without
    from finetuning_exam.evaluation.exam import Exam
    from finetuning_exam.evaluation.results import ExamRow, Pair, Results
    from finetuning_exam.evaluation.stats import PairedDifference

SCHEMA_VERSION = 4
"""A file without a version is of version 0. Versions 0 and 1 have the same keys and lack those of
classifications, version 2 `folds` and those of the divergence and of skills, version 3 `answering`
and those of answers that repeat themselves; these are None for them.
"""


@dataclass(frozen=True, slots=True)
class Sides:
    """One figure of base and tuned model."""

    base: float | None
    tuned: float | None


@dataclass(frozen=True, slots=True)
class Share(Sides):
    """A share of all answers, with the p-value of tuned against base."""

    p_value: float | None


@dataclass(frozen=True, slots=True)
class Choice(Sides):
    """Share of multiple-choice questions answered right, and what guessing would give."""

    chance: float
    p_value: float | None
    n_questions: int


@dataclass(frozen=True, slots=True)
class Signs:
    """Pieces of evidence whose figure fell and rose, with the p-value of the sign test."""

    lower: int
    higher: int
    p_value: float


@dataclass(frozen=True, slots=True)
class Difference(Sides):
    """A figure of base and tuned model with their difference, its interval and its tests."""

    difference: float | None
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    signs: Signs


@dataclass(frozen=True, slots=True)
class Figures:
    """All figures of one set of examples: nats per token, bits, shares, and chrF from 0 to 100.

    `labels` is None where the examples are no classification.
    """

    n_examples: int
    n_clusters: int
    n_answered: int
    nll_per_token: Difference
    bits_per_byte: Sides
    exact_match: Share
    chrf: Difference
    choice_accuracy: Choice
    stopped: Sides
    labels: Labels | None = None
    calls: CallFigures | None = None
    repeated: Sides | None = None


@dataclass(frozen=True, slots=True)
class ExaminedExample:
    """One example: its answers, their scores, and where it comes from; in a classification also the
    labels that were picked.
    """

    prompt: str
    reference: str
    base: str | None
    tuned: str | None
    nll_base: float | None
    nll_tuned: float | None
    base_chose_right: bool | None
    tuned_chose_right: bool | None
    tag: str | None
    line: int
    base_label: str | None = None
    tuned_label: str | None = None
    base_repeats: bool | None = None
    tuned_repeats: bool | None = None


@dataclass(frozen=True, slots=True)
class Answering:
    """How many of the examples that ask something were answered, chosen at random, and why no more:
    see `AnswerReason`.
    """

    n_answered: int
    n_asking: int
    reason: AnswerReason


@dataclass(frozen=True, slots=True)
class ExamFile:
    """The content of an exam.json; in the file the overall figures are at its top level.

    `folds` is None unless the exam is that of a cross-validation.
    """

    verdict: Verdict
    is_held_out: bool
    overall: Figures
    forgetting: Difference
    by_tag: dict[str, Figures]
    examples: tuple[ExaminedExample, ...]
    folds: Folds | None = None
    divergence: DivergenceFigures | None = None
    skills: SkillsFigures | None = None
    answering: Answering | None = None


def write(path: Path, exam: Exam) -> None:
    """Write an exam to a file.

    Raises:
        DiskError, UsageError: it cannot be written.
    """
    write_json(path, to_json(exam))


def to_json(exam: Exam) -> dict[str, Json]:
    """Return the whole exam as the file holds it."""
    content = file_of(exam)
    parts = asdict(content)
    parts["examples"] = parts.pop("examples")  # last, since it is by far the longest
    overall: dict[str, Json] = parts.pop("overall")
    first = {name: parts.pop(name) for name in ("verdict", "is_held_out", "answering", "folds")}
    return {
        "schema_version": SCHEMA_VERSION,
        **first,
        **overall,
        **parts,
    }


def read_exam_file(path: Path) -> ExamFile:
    """Read an exam.json of this version or an older one.

    Raises:
        UsageError: it is missing, damaged or incomplete, or a newer version wrote it.
    """
    from pydantic import TypeAdapter, ValidationError

    content = read_object(path)
    check_schema_version(path, content.get("schema_version"), SCHEMA_VERSION)
    try:
        return TypeAdapter(ExamFile).validate_json(
            json.dumps({**content, "overall": content}), strict=True
        )
    except ValidationError as error:
        raise UsageError(
            f"{path}: is missing, or is not a complete exam.",
            "Write it again with fte exam --output_file.",
        ) from error


def file_of(exam: Exam) -> ExamFile:
    """Return what the exam.json of an exam holds."""
    return ExamFile(
        verdict=exam.verdict,
        is_held_out=exam.is_held_out,
        overall=_figures(exam.overall),
        forgetting=_difference(exam.forgetting),
        by_tag={tag: _figures(results) for tag, results in exam.by_tag},
        examples=tuple(map(_example, exam.rows)),
        folds=folds_of(exam.folds),
        divergence=divergence_figures(exam.divergence) if exam.divergence else None,
        skills=skills_figures(exam.skills) if exam.skills else None,
        answering=Answering(exam.overall.n_answered, exam.n_asking, exam.answer_reason),
    )


def _figures(results: Results) -> Figures:
    match, choice = results.exact_match, results.choice_accuracy
    return Figures(
        n_examples=results.n_examples,
        n_clusters=results.n_clusters,
        n_answered=results.n_answered,
        nll_per_token=_difference(results.nll_per_token),
        bits_per_byte=_sides(results.bits_per_byte),
        exact_match=Share(finite(match.base), finite(match.tuned), finite(match.p_value)),
        chrf=_difference(results.chrf),
        choice_accuracy=Choice(
            base=finite(choice.base),
            tuned=finite(choice.tuned),
            chance=choice.chance,
            p_value=finite(choice.p_value),
            n_questions=choice.n_questions,
        ),
        stopped=_sides(results.stopped),
        labels=label_figures(results.labels) if results.labels else None,
        calls=call_figures(results.calls) if results.calls else None,
        repeated=_sides(results.repeated),
    )


def _difference(difference: PairedDifference) -> Difference:
    signs = difference.signs
    return Difference(
        base=finite(difference.base),
        tuned=finite(difference.tuned),
        difference=finite(difference.difference),
        ci_low=finite(difference.interval.low),
        ci_high=finite(difference.interval.high),
        p_value=finite(difference.p_value),
        signs=Signs(signs.n_lower, signs.n_higher, signs.p_value),
    )


def _example(row: ExamRow) -> ExaminedExample:
    example = row.example
    return ExaminedExample(
        prompt=question(example),
        reference=example.answer,
        base=row.base_answer.text if row.base_answer else None,
        tuned=row.tuned_answer.text if row.tuned_answer else None,
        nll_base=finite(row.base_score.nll_per_token),
        nll_tuned=finite(row.tuned_score.nll_per_token),
        base_chose_right=row.base_chose_right,
        tuned_chose_right=row.tuned_chose_right,
        tag=example.tag or None,
        line=example.line,
        base_label=row.base_label,
        tuned_label=row.tuned_label,
        base_repeats=row.base_answer.repeats if row.base_answer else None,
        tuned_repeats=row.tuned_answer.repeats if row.tuned_answer else None,
    )


def _sides(pair: Pair) -> Sides:
    return Sides(finite(pair.base), finite(pair.tuned))
