"""Files become examples: every container and format, every fault with its place."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetuning_exam.data.findings import Fault, Finding, Kind, errors
from finetuning_exam.data.reading.containers import Row, read_file
from finetuning_exam.data.reading.conversation import unread_keys
from finetuning_exam.data.reading.field_names import read_names, refuse_unrecognised
from finetuning_exam.data.reading.fields import listed, shown
from finetuning_exam.data.reading.formats import Layout, Place, find_layout, to_examples
from finetuning_exam.data.reading.hub import is_hub_name
from finetuning_exam.data.reading.opening import PATH_MEND
from finetuning_exam.data.records import Example
from finetuning_exam.errors import DataError, UsageError
from finetuning_exam.settings import FieldSettings

SKIP_BAD_ROWS = "--skip_bad_rows goes on without these records."
"""What else a training could do where records have errors."""


@dataclass(frozen=True, slots=True)
class Source:
    """One file that was read: its hash, and in which form its records were found."""

    path: str
    sha256: str
    container: str
    layout: str
    n_records: int


@dataclass(frozen=True, slots=True)
class Records:
    """The examples of one or several files, and what was found while reading them."""

    sources: tuple[Source, ...]
    examples: tuple[Example, ...]
    findings: tuple[Finding, ...]

    @property
    def path(self) -> str:
        """The file's path, or those of all files."""
        return ", ".join(source.path for source in self.sources)

    @property
    def sha256(self) -> str:
        """The file's hash, or the hash of all hashes in order."""
        hashes = [source.sha256 for source in self.sources]
        return (
            hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
        )


def read_records(
    paths: Sequence[str], fields: FieldSettings, *, answer_required: bool = True
) -> Records:
    """Read files one after the other; faulty records are findings, the rest are examples.

    Raises:
        UsageError: a file cannot be read at all, or none is given.
        DataError: a file holds nothing.
    """
    if not paths:
        raise UsageError("No data file is given.", PATH_MEND)
    once, notes = _once(paths)
    parts = [_read_one(path, fields, answer_required) for path in once]
    return Records(
        tuple(source for source, _, _ in parts),
        tuple(example for _, examples, _ in parts for example in examples),
        tuple(finding for _, _, findings in parts for finding in findings) + tuple(notes),
    )


def read_sound_records(
    paths: Sequence[str], fields: FieldSettings, *, answer_required: bool = True
) -> Records:
    """The same, for who can do nothing with faulty records.

    Raises:
        UsageError, DataError: as `read_records`; also when any record is faulty.
    """
    records = read_records(paths, fields, answer_required=answer_required)
    refuse_errors(records.findings)
    return records


def refuse_errors(findings: Iterable[Finding], way_on: str = "") -> None:
    """End where a finding is an error; `way_on` tells what else could be done.

    Raises:
        DataError: some are; all are named.
    """
    faults = errors(findings)
    if not faults:
        return
    kinds = {fault.kind for fault in faults}
    paths = shlex.join(dict.fromkeys(fault.path for fault in faults))
    hint = faults[0].kind.hint if len(kinds) == 1 else f"Run fte check {paths} to see them by kind."
    raise DataError([str(fault) for fault in faults], f"{hint} {way_on}".strip())


def exam_file_of(paths: Sequence[str], eval_file: str | None) -> str | None:
    """The exam file asked for, else the one that belongs to a single training file by its name.

    `train.jsonl` → `exam.jsonl`, `permits_train.csv` → `permits_exam.csv`.
    """
    if eval_file or len(paths) != 1:
        return eval_file
    train = Path(paths[0])
    beside = train.with_name(re.sub(r"(?<![A-Za-z])train(?![A-Za-z])", "exam", train.name))
    return str(beside) if beside != train and beside.is_file() else None


def _once(paths: Sequence[str]) -> tuple[list[str], list[Finding]]:
    """Each file as it is named first, and a note where it is named again, as `./x` after `x`."""
    first: dict[str, str] = {}
    again: dict[str, list[str]] = {}
    for path in paths:
        name = path if is_hub_name(path) else os.path.abspath(path)
        if name in first:
            again.setdefault(first[name], []).append(path)
        else:
            first[name] = path
    notes = [
        Finding(
            Kind.NAMED_TWICE,
            f"the file is named {len(others) + 1:,} times (also as "
            f"{listed(dict.fromkeys(others))}) and read once",
            path,
        )
        for path, others in again.items()
    ]
    return list(first.values()), notes


def _read_one(
    path: str, fields: FieldSettings, answer_required: bool
) -> tuple[Source, list[Example], list[Finding]]:
    found = read_file(path)
    rows, notes = read_names(found.rows, fields, path)
    layout = find_layout(
        (row.value for row in rows), fields.format, fields.prompt_field, fields.answer_field
    )
    examples: list[Example] = []
    sound: list[Row] = []
    faults: list[Fault] = []
    findings = [*found.findings, *notes]
    for row in rows:
        place = Place(path, row.line, row.column)
        try:
            examples += to_examples(row.value, layout, place, answer_required=answer_required)
            sound.append(row)
        except Fault as fault:
            faults.append(fault)
            findings.append(Finding(fault.kind, fault.detail, path, row.line, row.column))
    refuse_unrecognised(rows, layout, fields, faults, path, answer_required=answer_required)
    findings += _unused_fields(sound, layout, path)
    findings.sort(key=lambda finding: (finding.line, finding.column))
    source = Source(path, found.sha256, found.container, layout.words, len(rows))
    return source, examples, findings


def _unused_fields(rows: Sequence[Row], layout: Layout, path: str) -> list[Finding]:
    """Each field that no part of the format reads, at the first sound record that has it."""
    counts: Counter[str] = Counter()
    first: dict[str, Row] = {}
    for row in rows:
        unread = [key for key in row.value if key not in layout.used_fields]
        for name in {layout.prompt, layout.answer} & row.value.keys():
            unread += [f"{name}[].{key}" for key in unread_keys(row.value[name])]
        for key in unread:
            counts[key] += 1
            first.setdefault(key, row)
    return [
        Finding(
            Kind.UNUSED_FIELD,
            f"the field {shown(key)} is not used (in {times:,} of {len(rows):,} records)",
            path,
            first[key].line,
            first[key].column,
        )
        for key, times in counts.items()
    ]
