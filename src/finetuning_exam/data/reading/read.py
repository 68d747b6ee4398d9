"""Read files of any kind and format as examples, with the place of every fault."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from finetuning_exam.data.findings import Fault, Finding, errors, grouped
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.cells import without_nan
from finetuning_exam.data.reading.containers import read_file
from finetuning_exam.data.reading.conversation import ROLES
from finetuning_exam.data.reading.field_names import read_names, refuse_unrecognised
from finetuning_exam.data.reading.fields import listed
from finetuning_exam.data.reading.files import FileRecords, RawRecord
from finetuning_exam.data.reading.formats import Place, to_examples
from finetuning_exam.data.reading.hub import is_hub_name
from finetuning_exam.data.reading.inputs import expand, stdin_notes
from finetuning_exam.data.reading.joined import without_headers
from finetuning_exam.data.reading.layouts import Layout, find_layout
from finetuning_exam.data.reading.opening import PATH_HINT
from finetuning_exam.data.reading.packed import refuse_packed, unpack
from finetuning_exam.data.reading.remedies import refuse_columns
from finetuning_exam.data.reading.splits import without_held_out
from finetuning_exam.data.reading.turn_forms import turn_form_notes
from finetuning_exam.data.reading.unused import unused_fields
from finetuning_exam.data.records import Example
from finetuning_exam.errors import DataError, UsageError
from finetuning_exam.settings import FieldSettings

SKIP_BAD_ROWS = "To train without these records, add --skip_bad_rows."
"""The alternative of a training to correcting the records."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was read: its hash, and the layout of its records."""

    path: str
    sha256: str
    container: str
    layout: str
    n_records: int


@dataclass(frozen=True, slots=True)
class Records:
    """The records of one or several files as examples, and the findings made while reading."""

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

    A path may be a pattern such as `data/*.jsonl`, or `-` for standard input.

    Raises:
        UsageError: a file cannot be read at all, or none is given.
        DataError: a file contains no records.
    """
    if not paths:
        raise UsageError("No data file given.", PATH_HINT)
    once, notes = _once(expand(paths))
    notes += stdin_notes(once)
    parts = [_read_one(path, fields, answer_required) for path in once]
    return Records(
        tuple(source for source, _, _ in parts),
        tuple(example for _, examples, _ in parts for example in examples),
        tuple(finding for _, _, findings in parts for finding in findings) + tuple(notes),
    )


def read_sound_records(
    paths: Sequence[str], fields: FieldSettings, *, answer_required: bool = True
) -> Records:
    """Read files as `read_records` does, but raise if any record is faulty.

    Raises:
        UsageError, DataError: as `read_records`; also when any record is faulty.
    """
    records = read_records(paths, fields, answer_required=answer_required)
    refuse_errors(records.findings)
    return records


def refuse_errors(findings: Iterable[Finding], alternative: str = "") -> None:
    """Raise if a finding is an error; `alternative` is added to the hint.

    Raises:
        DataError: some findings are errors; all of them are listed.
    """
    faults = errors(findings)
    if not faults:
        return
    kinds = {fault.kind for fault in faults}
    paths = shlex.join(dict.fromkeys(fault.path for fault in faults))
    hint = faults[0].kind.hint if len(kinds) == 1 else f"Run fte check {paths} to see them by kind."
    raise DataError([line for line, _ in grouped(faults)], f"{hint} {alternative}".strip())


def exam_file_of(paths: Sequence[str], eval_file: str | None) -> str | None:
    """Return the exam file given, else the one next to a single training file, by its name.

    `train.jsonl` → `exam.jsonl`, `permits_train.csv` → `permits_exam.csv`.
    """
    if eval_file or len(paths) != 1:
        return eval_file
    train = Path(paths[0])
    sibling = train.with_name(re.sub(r"(?<![A-Za-z])train(?![A-Za-z])", "exam", train.name))
    return str(sibling) if sibling != train and sibling.is_file() else None


def _once(paths: Sequence[str]) -> tuple[list[str], list[Finding]]:
    """Return each file as first listed, and a note if it is listed again (`./x` after `x`)."""
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
            f"the file is listed {len(others) + 1:,} times (also as "
            f"{listed(dict.fromkeys(others))}) but read once",
            path,
        )
        for path, others in again.items()
    ]
    return list(first.values()), notes


def _read_one(
    path: str, fields: FieldSettings, answer_required: bool
) -> tuple[Source, list[Example], list[Finding]]:
    file = read_file(path)
    raw = file.records
    if file.container in ("Parquet", "hub dataset", "Excel"):
        raw = tuple(replace(record, value=without_nan(record.value)) for record in raw)
    records, layout, notes = _prepared(replace(file, records=raw), fields)
    examples: list[Example] = []
    sound: list[RawRecord] = []
    faults: list[Fault] = []
    findings = [*file.findings, *notes]
    for record in records:
        place = Place(path, record.line, record.column)
        try:
            examples += to_examples(record.value, layout, place, answer_required=answer_required)
            sound.append(record)
        except Fault as fault:
            faults.append(fault)
            findings.append(Finding(fault.kind, fault.detail, *place))
    refuse_unrecognised(records, layout, fields, faults, path, answer_required=answer_required)
    findings += unused_fields(sound, layout, fields, path)
    findings.sort(key=lambda finding: (finding.line, finding.column))
    n_records = len(raw) - sum(finding.kind is Kind.REPEATED_HEADER for finding in notes)
    source = Source(path, file.sha256, file.container, layout.words, n_records)
    return source, examples, findings


def _prepared(
    file: FileRecords, fields: FieldSettings
) -> tuple[Sequence[RawRecord], Layout, list[Finding]]:
    """Return the records to be parsed, by known names and unpacked, and their layout.

    Raises:
        UsageError: the file holds no records but columns, or conversations as text.
    """
    path = file.path
    refuse_columns(file.records, path)
    named, findings = read_names(file.records, fields, path)
    unpacked, notes = unpack(named, fields, path)
    layout = find_layout(
        (record.value for record in unpacked),
        fields.format,
        fields.prompt_field,
        fields.answer_field,
    )
    refuse_packed(unpacked, layout, fields, path)
    records, headers = unpacked, list[Finding]()
    if file.container != "text file":
        records, headers = without_headers(unpacked, layout, path)
    kept, held_out = without_held_out(records, (layout.prompt, layout.answer), path)
    forms = [] if layout.answer else turn_form_notes(kept, layout.prompt, ROLES, path)
    return kept, layout, [*findings, *notes, *headers, *held_out, *forms]
