"""What stops a training on encoded data: the same for `fte check` and `fte train`."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace

from finetuning_exam.data.findings import Finding, errors, grouped
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.read import SKIP_BAD_ROWS, refuse_errors
from finetuning_exam.data.records import Example
from finetuning_exam.data.split import Split
from finetuning_exam.errors import DataError


def without_left_out(split: Split, kept: Set[Example]) -> Split:
    """Return a split without the examples that cannot be used with the model."""
    train, validation, exam = (
        tuple(example for example in part if example in kept)
        for part in (split.train, split.validation, split.exam)
    )
    return replace(split, train=train, validation=validation, exam=exam)


def what_stops(
    split: Split, left: Split, findings: Sequence[Finding], *, skip_bad_rows: bool = False
) -> tuple[Finding, ...]:
    """Return the findings that keep a training from starting.

    These are the errors among `findings`, unless bad rows are skipped, and parts of the split of
    which nothing is `left`.
    """
    found = errors(findings)
    places = {(it.path, it.line, it.column) for it in found} if not skip_bad_rows else set()
    stops = [] if skip_bad_rows else list(found)
    for examples, kept, use in (
        (split.train, left.train, "train on"),
        (split.exam, left.exam, "examine"),
    ):
        # An error is reported already, and a reason to stop on its own.
        if not kept and any((it.path, it.line, it.column) not in places for it in examples):
            paths = ", ".join(dict.fromkeys(it.path for it in examples))
            n = len(examples)
            what = "the only one" if n == 1 else f"all {n:,}"
            detail = f"no rows left to {use}: {what} had to be left out"
            stops.append(Finding(Kind.NOTHING_LEFT, detail, paths))
    return tuple(stops)


def refuse_stops(stops: Sequence[Finding], findings: Sequence[Finding], left: Split) -> None:
    """Raise if anything stops the training; what was left out of an empty part is listed too.

    Raises:
        DataError: there are `stops`.
    """
    empty = [stop for stop in stops if stop.kind is Kind.NOTHING_LEFT]
    if not empty:
        refuse_errors(stops, SKIP_BAD_ROWS if left.train and left.exam else "")
        return
    left_out = [it for it in findings if it.kind is Kind.ANSWER_TOO_LONG or it in errors([it])]
    reasons = {it.kind for it in left_out}
    hint = empty[0].kind.hint
    if len(reasons) == 1 and Kind.ANSWER_TOO_LONG not in reasons:
        hint = left_out[0].kind.hint
    raise DataError([str(stop) for stop in empty] + [line for line, _ in grouped(left_out)], hint)
