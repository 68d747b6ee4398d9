"""A copy of data without unusable records and exact duplicates. The original is not touched.

A conversation that begins with the assistant is written without this first turn.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Set
from dataclasses import dataclass
from itertools import groupby

from finetuning_exam.data.check import content
from finetuning_exam.data.findings import Finding
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.containers import read_file
from finetuning_exam.data.reading.formats import Place
from finetuning_exam.data.reading.greeting import without_greeting
from finetuning_exam.data.reading.read import Records
from finetuning_exam.data.records import Example


@dataclass(frozen=True, slots=True)
class CleanCopy:
    """The lines of a cleaned file, one JSON object each, and a finding for each record left out.

    `changed` has a finding for each record that is written without its first turn.
    """

    lines: tuple[str, ...]
    left_out: tuple[Finding, ...]
    changed: tuple[Finding, ...] = ()


def clean_copy(records: Records, findings: Iterable[Finding]) -> CleanCopy:
    """Return all records except exact duplicates, repeated headers and those with an error.

    All fields are kept, but a greeting before the first question is left out of its record. A
    record with several instances is a duplicate if all of them occur in earlier records.

    Raises:
        UsageError, DataError: a file can no longer be read.
    """
    paths = [source.path for source in records.sources]
    faults: dict[Place, Finding] = {}
    duplicates: dict[Place, Finding] = {}
    greetings: dict[Place, Finding] = {}
    for finding in findings:
        place = Place(finding.path, finding.line, finding.column)
        if finding.kind is Kind.GREETING_FIRST and finding.path in paths:
            greetings[place] = finding
            continue
        is_unusable = finding.kind.severity == "error" or finding.kind is Kind.REPEATED_HEADER
        if is_unusable and finding.path in paths:
            faults.setdefault(place, finding)
        elif finding.kind is Kind.EXACT_DUPLICATE:
            duplicates.setdefault(place, finding)
    repeated = _repeated(records.examples, faults.keys())
    left_out = faults | {place: duplicates[place] for place in repeated}
    lines: list[str] = []
    for path in paths:
        for record in read_file(path).records:
            place = Place(path, record.line, record.column)
            if place not in left_out:
                begins_late = place in greetings
                lines.append(_line(without_greeting(record.value) if begins_late else record.value))
    changed = tuple(it for place, it in greetings.items() if place not in left_out)
    order = {path: number for number, path in enumerate(paths)}
    reasons = sorted(left_out.items(), key=lambda it: (order[it[0].path], it[0].line, it[0].column))
    return CleanCopy(tuple(lines), tuple(finding for _, finding in reasons), changed)


def left_out_lines(left_out: Iterable[Finding]) -> tuple[str, ...]:
    """Return one JSON object for each record left out: its place, and why."""
    return tuple(
        json.dumps(
            {"where": it.where, "kind": it.kind.name.lower(), "why": it.detail}, ensure_ascii=False
        )
        for it in left_out
    )


def _repeated(examples: Iterable[Example], left_out: Set[Place]) -> list[Place]:
    """Return the records whose examples all occur in earlier records that are not left out."""
    repeated: list[Place] = []
    known: set[tuple[object, ...]] = set()
    for place, group in groupby(examples, key=lambda it: Place(it.path, it.line, it.column)):
        contents = {content(example) for example in group}
        if place in left_out:
            continue
        if contents <= known:
            repeated.append(place)
        known |= contents
    return repeated


def _line(value: dict[str, object]) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:  # tables may hold NaN and infinite numbers, which JSON lacks
        text = json.dumps(value, default=str)
        return json.dumps(json.loads(text, parse_constant=lambda _: None), ensure_ascii=False)
