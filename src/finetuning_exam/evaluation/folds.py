"""The exam of a cross-validation: the rows of all folds, each examined by the fold's own adapter.

The rows of a finished fold are kept in a file, with everything that a conclusion needs. Numbers are
read back as the same floats (JSON has their shortest exact form), so a resumed cross-validation
concludes what an undisturbed one does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from finetuning_exam.data.encoding.tools import each_answer
from finetuning_exam.data.records import Example
from finetuning_exam.durable import read_object, write_text
from finetuning_exam.evaluation.exam import (
    Exam,
    FoldFigures,
    OnStage,
    measure_losses,
)
from finetuning_exam.evaluation.exam_plan import ExamPlan
from finetuning_exam.evaluation.results import ExamRow, Pair
from finetuning_exam.model.score import mean_nll
from finetuning_exam.model.session import Session


@dataclass(frozen=True, slots=True)
class ExaminedFold:
    """A fold whose exam is taken: the number of rows it was trained on, and the examined rows."""

    n_train: int
    rows: tuple[ExamRow, ...]

    @property
    def figures(self) -> FoldFigures:
        """The size of the fold and its NLL per token."""
        return FoldFigures(
            self.n_train,
            len(self.rows),
            Pair(
                mean_nll([row.base_score for row in self.rows]),
                mean_nll([row.tuned_score for row in self.rows]),
            ),
        )


def conclude_folds(
    session: Session,
    plan: ExamPlan,
    folds: Sequence[ExaminedFold],
    order: Sequence[Example],
    on_stage: OnStage = lambda stage: None,
) -> Exam:
    """Conclude the exam of a cross-validation from the rows of its folds, sorted as in `order`.

    `session` holds the adapter that was trained on all rows. It answers none of them; it is only
    measured on general text and in skills, for what it lost.
    """
    position = {example: index for index, example in enumerate(each_answer(order))}
    rows = sorted(
        (row for fold in folds for row in fold.rows), key=lambda row: position[row.example]
    )
    # Every row that was trained on is among those examined.
    plan = replace(plan, is_held_out=True, known=())
    return measure_losses(session, rows, plan, on_stage, tuple(fold.figures for fold in folds))


def write_rows(path: Path, rows: Sequence[ExamRow]) -> None:
    """Write examined rows to a file, to be read back by `read_rows`.

    Raises:
        DiskError, UsageError: it cannot be written.
    """
    write_text(path, json.dumps({"rows": [asdict(row) for row in rows]}))


def read_rows(path: Path, examples: Sequence[Example]) -> tuple[ExamRow, ...] | None:
    """Return the rows of a file; None where it is missing or damaged, or if they are not those of
    these examples.

    The examples replace those of the file, which may have been read from another place.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        rows = TypeAdapter(tuple[ExamRow, ...]).validate_python(read_object(path).get("rows"))
    except ValidationError:
        return None
    found = [replace(row.example, path="") for row in rows]
    if found != [replace(example, path="") for example in examples]:
        return None
    return tuple(replace(row, example=example) for row, example in zip(rows, examples, strict=True))
