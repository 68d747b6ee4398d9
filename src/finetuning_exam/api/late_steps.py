"""Files that a run writes besides its adapter and its exam: a failure costs that file only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finetuning_exam.durable import write_text
from finetuning_exam.errors import DiskError, IncompleteError, UserError
from finetuning_exam.training.run_folder import CARD, METRICS, REPORT

if TYPE_CHECKING:
    from finetuning_exam.evaluation.exam import Exam
    from finetuning_exam.run_record import RunRecord


@dataclass(frozen=True, slots=True)
class LateFailure:
    """A file that could not be written after the training, and why."""

    file: str
    reason: str
    is_disk_fault: bool = False

    def __str__(self) -> str:
        return f"{self.file} could not be written: {self.reason}."


def attempt(file: str, write: Callable[[], None]) -> LateFailure | None:
    """Write one file; return the failure, whatever it is, instead of ending the run with it."""
    try:
        write()
    except UserError as error:
        return LateFailure(file, error.what.rstrip("."), isinstance(error, DiskError))
    except Exception as error:  # a fault of a library or of ours: the training is not lost for it
        reason = (str(error).strip() or "no reason given").splitlines()[0].rstrip(".")
        return LateFailure(file, f"{type(error).__name__}: {reason}")
    return None


def incomplete(failures: tuple[LateFailure, ...]) -> UserError:
    """Return the error with which a command ends whose run lacks some files."""
    files = ", ".join(it.file for it in failures)
    what = f"the adapter and exam.json are complete, but without {files} (see the warnings above)."
    if any(it.is_disk_fault for it in failures):
        return DiskError(what, "Free some space, and take the exam again with fte exam.")
    return IncompleteError(what)


def write_report(folder: Path, exam: Exam, record: RunRecord) -> None:
    """Write report.html.

    Raises:
        DiskError, UsageError: it cannot be written.
    """
    from finetuning_exam.report.html import render_report
    from finetuning_exam.training.progress import read_metrics

    metrics = read_metrics(folder / METRICS)
    write_text(folder / REPORT, render_report(exam, record, metrics))


def write_card(folder: Path, exam: Exam, record: RunRecord) -> None:
    """Write README.md, the model card.

    Raises:
        DiskError, UsageError: it cannot be written.
    """
    from finetuning_exam.report.card import model_card

    write_text(folder / CARD, model_card(exam, record))
