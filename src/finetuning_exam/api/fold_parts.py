"""The parts of a cross-validation: their rows, what is done of them, and what they will cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from finetuning_exam import run_file
from finetuning_exam.answer_limit import AnswerLimit
from finetuning_exam.api.run_part import RunPart
from finetuning_exam.data.check import Check
from finetuning_exam.data.encoding.stops import without_left_out
from finetuning_exam.data.encoding.tools import each_answer
from finetuning_exam.data.folds import fold_splits, whole_split
from finetuning_exam.data.split import Split
from finetuning_exam.errors import DataError, UsageError
from finetuning_exam.run_file import check_same_inputs
from finetuning_exam.run_record import Cost, Fold, RunInputs
from finetuning_exam.settings import TrainSettings
from finetuning_exam.training import run_folder
from finetuning_exam.training.checkpoint.find import checkpoints, find_checkpoint

if TYPE_CHECKING:
    from finetuning_exam.evaluation.exam import Exam, OnStage
    from finetuning_exam.evaluation.folds import ExaminedFold
    from finetuning_exam.training.prepare import Prepared


ANEW = "start a new run with another --output_dir"
"""What to do instead of resuming a cross-validation with other inputs."""


@dataclass(frozen=True, slots=True)
class FoldSplits:
    """The splits of a cross-validation: `whole` is that of the last training, on all rows and
    without an exam.
    """

    whole: Split
    folds: tuple[Split, ...]


def splits_of(check: Check, settings: TrainSettings, n_folds: int) -> FoldSplits:
    """Deal the rows of a training file to folds.

    Raises:
        UsageError: cross-validation is impossible with these files or settings.
    """
    if check.exam is not None:
        raise UsageError(*_no_exam_file(check.exam.path, settings, n_folds))
    if settings.fork is not None:
        raise UsageError(
            f"--folds {n_folds} with --fork {settings.fork}: the weights of the fork may have been "
            "trained on rows that a fold must not have seen.",
            "Remove one of the two.",
        )
    examples, fraction, seed = check.train.examples, settings.eval_fraction, settings.seed
    return FoldSplits(
        whole_split(examples, fraction, seed, check.links),
        fold_splits(examples, n_folds, fraction, seed, check.links),
    )


def _no_exam_file(path: str, settings: TrainSettings, n_folds: int) -> tuple[str, str]:
    """Return what is wrong, and how to fix it."""
    why = "in a cross-validation, the rows of the training file are the exam"
    if settings.eval_file:
        return f"--folds {n_folds} with --eval_file {path}: {why}.", "Remove one of the two."
    return (
        f"--folds {n_folds}: there is an exam file, {path}, which is found by its name; {why}.",
        "Remove --folds to use the exam file, or rename it to leave it out.",
    )


def find_parts(
    splits: FoldSplits, used: Split, home: Path, inputs: RunInputs, *, is_resumed: bool
) -> tuple[RunPart, ...]:
    """Return the folds and, last, the training on all rows, with what an earlier sitting did.

    `used` holds the rows that can be used with the model: those to train on, and those to examine;
    folds lack all others. `inputs` are those of the whole.

    Raises:
        DataError: nothing of a fold can be used.
        UsageError: a fold has other inputs.
        AdapterError: all checkpoints of a training are damaged.
    """
    usable = frozenset((*used.train, *used.validation)) & frozenset(used.exam)
    pinned = replace(inputs.pinned, total_steps=None)  # a fold has fewer rows than the whole
    n_folds = len(splits.folds)
    parts: list[RunPart] = []
    for number, split in enumerate(splits.folds, 1):
        fold, folder = Fold(number, n_folds), run_folder.fold_folder(home, number)
        left = without_left_out(split, usable)
        if not left.train or not left.exam:
            raise DataError(
                [f"{fold}: too many rows had to be left out, so none is left."],
                "Use fewer --folds, or raise --max_length.",
            )
        parts.append(RunPart(left, home, folder, pinned, fold))
    parts.append(RunPart(splits.whole, home, home, inputs.pinned, None))
    return tuple(_with_progress(part, inputs) for part in parts) if is_resumed else tuple(parts)


def _with_progress(part: RunPart, inputs: RunInputs) -> RunPart:
    """Return a part with what an earlier sitting did of it."""
    if part.fold and (examined := _read_back(part, inputs)):
        return replace(part, examined=examined)
    if run_file.is_run(part.folder) and checkpoints(part.folder):
        return replace(part, resumed=find_checkpoint(part.folder, "latest"))
    return part


def _read_back(part: RunPart, inputs: RunInputs) -> ExaminedFold | None:
    """Return the exam of a fold that was finished; None if it was not, or is damaged."""
    from finetuning_exam.evaluation.folds import ExaminedFold, read_rows

    run = run_file.read(part.folder)
    if run is None or run.is_unfinished or not run_file.is_run(part.folder):
        return None
    data = replace(inputs.data, rows_sha256=None) if inputs.data else None
    now = replace(inputs, data=data, fold=part.fold)
    check_same_inputs(run.inputs, now, str(part.folder), ANEW)
    rows = read_rows(part.folder / run_folder.EXAM_ROWS, each_answer(part.split.exam))
    return ExaminedFold(len(part.split.train), rows) if rows else None


def exam_of(prepared: Prepared, check: Check, part: RunPart | None, on_stage: OnStage) -> Exam:
    """Take the exam of a trained run; the last part of a cross-validation concludes its folds."""
    from finetuning_exam.evaluation.folds import conclude_folds
    from finetuning_exam.training.run import examine

    if part is None:
        return examine(prepared, on_stage)
    plan = prepared.exam_plan
    if part.fold is not None:
        plan = plan.for_fold(part.fold.number, part.fold.n_folds)
        return examine(replace(prepared, exam_plan=plan), on_stage)
    examples = check.train.examples
    return conclude_folds(prepared.session, plan, part.folds, examples, on_stage)


def with_costs(
    parts: tuple[RunPart, ...], prepared: Prepared
) -> tuple[tuple[RunPart, ...], AnswerLimit]:
    """Predict the cost of each part that is left to do, and choose how many examples are answered
    in all folds together; `prepared` is the training on all rows.
    """
    from finetuning_exam.training.cost.predict import PartSize, predict_parts

    sizes = [
        PartSize(
            len(part.split.train),
            len(part.split.validation),
            len(part.split.exam),
            part.resumed.step if part.resumed else 0,
        )
        for part in parts
        if part.examined is None
    ]
    predicted, answers = predict_parts(prepared, sizes)
    costs = iter(predicted)
    return tuple(
        replace(
            part,
            predicted=None if part.examined else next(costs),
            pinned=replace(part.pinned, answers=_answers_of(part, answers)),
        )
        for part in parts
    ), answers


def _answers_of(part: RunPart, answers: AnswerLimit) -> AnswerLimit:
    """Return the share of a part: that of a fold, or all where the folds are concluded."""
    return replace(answers, n=-(-answers.n // part.fold.n_folds)) if part.fold else answers


def total_cost(parts: tuple[RunPart, ...]) -> Cost:
    """Return the predicted cost of all parts that are left to do."""
    costs = [part.predicted for part in parts if part.predicted]
    return Cost(
        sum(cost.train_seconds for cost in costs),
        sum(cost.exam_seconds for cost in costs),
        max(cost.peak_bytes for cost in costs),
    )
