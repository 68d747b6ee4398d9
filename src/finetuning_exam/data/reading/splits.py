"""Records that a field assigns to another split than training, in a file with training records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from finetuning_exam.data.findings import Finding
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.fields import quoted
from finetuning_exam.data.reading.files import RawRecord

_FIELDS = ("split", "data_split", "dataset_split", "partition", "subset", "set")
_TRAINED = ("train", "training", "trn")
_HELD_OUT = (
    "test",
    "testing",
    "validation",
    "valid",
    "val",
    "dev",
    "eval",
    "evaluation",
    "holdout",
)


def without_held_out(
    records: Sequence[RawRecord], named: Sequence[str | None], path: str
) -> tuple[Sequence[RawRecord], list[Finding]]:
    """Return the records that are not held out, and an error for each of the others.

    Only if the file has records of both kinds; `named` are the fields of prompt and answer. A file
    whose records are all of one split is read as it is.
    """
    for field in _FIELDS:
        if field in named:
            continue
        splits = [_split(record.value.get(field)) for record in records]
        counts = Counter(splits)
        if any(counts[it] for it in _TRAINED) and any(counts[it] for it in _HELD_OUT):
            return _separate(records, splits, field, path)
    return records, []


def is_for_training(name: str, value: object) -> bool:
    """Return whether a field assigns its record to the training split."""
    return name in _FIELDS and _split(value) in _TRAINED


def _separate(
    records: Sequence[RawRecord], splits: Sequence[str], field: str, path: str
) -> tuple[Sequence[RawRecord], list[Finding]]:
    counts = ", ".join(
        f"{quoted(split) if split else 'none'}: {count:,}"
        for split, count in Counter(splits).items()
    )
    kept: list[RawRecord] = []
    found: list[Finding] = []
    for record, split in zip(records, splits, strict=True):
        if split in _HELD_OUT:
            detail = f"field {field!r} is {split!r}, so it is not for training ({counts})"
            found.append(Finding(Kind.HELD_OUT, detail, path, record.line, record.column))
        else:
            kept.append(record)
    return kept, found


def _split(value: object) -> str:
    return value.strip().casefold() if isinstance(value, str) and len(value) < 40 else ""
