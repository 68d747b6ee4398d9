"""The field names of a whole file: matched to known ones, or refused once if none is known.

A name that differs from a known one only in case or surrounding whitespace (`Question `) is read
as that one, and a note says so. Roles of turns are read in the same way, without a note.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import replace

from finetuning_exam.data.findings import Fault, Finding
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.fields import as_argument, listed
from finetuning_exam.data.reading.files import RawRecord
from finetuning_exam.data.reading.layouts import CONVERSATION_FIELDS, PAIRS, Layout
from finetuning_exam.data.reading.remedies import hint_for_field, unrecognised
from finetuning_exam.errors import UsageError
from finetuning_exam.settings import FieldSettings

_KNOWN = frozenset(
    {name for pair in PAIRS for name in pair.used_fields} | {*CONVERSATION_FIELDS, "text"}
)
_NEAR = 0.6


def read_names(
    records: Sequence[RawRecord], fields: FieldSettings, path: str
) -> tuple[tuple[RawRecord, ...], list[Finding]]:
    """Rename fields to the known names they match, with a note for each renamed field.

    Only if it is unambiguous: no record has the known name, and exactly one name matches it.
    """
    first = _first_records(records)
    similar: dict[str, list[str]] = {}
    for name in first:
        known = name.strip().casefold() if len(name) < 100 else name
        if known in _KNOWN and known not in first:
            similar.setdefault(known, []).append(name)
    named = (fields.prompt_field, fields.answer_field)
    taken = {
        names[0]: known
        for known, names in similar.items()
        if len(names) == 1 and names[0] not in named
    }
    notes = [
        Finding(
            Kind.FIELD_NAME,
            f"field {name!r} is read as {known!r}",
            path,
            first[name].line,
            first[name].column,
        )
        for name, known in taken.items()
    ]
    if not taken:
        return tuple(records), notes
    renamed = (
        replace(it, value={taken.get(name, name): value for name, value in it.value.items()})
        for it in records
    )
    return tuple(renamed), notes


def _first_records(records: Iterable[RawRecord]) -> dict[str, RawRecord]:
    """Return the names of all fields, each with the first record that has it."""
    first: dict[str, RawRecord] = {}
    for record in records:
        for name in record.value:
            first.setdefault(name, record)
    return first


def refuse_unrecognised(
    records: Sequence[RawRecord],
    layout: Layout,
    fields: FieldSettings,
    faults: Sequence[Fault],
    path: str,
    *,
    answer_required: bool,
) -> None:
    """Refuse a file once if all of its records lack a field.

    The file passes if a record is sound or has a fault other than a field's name. If one of the
    two fields is present, a single record is left to its own fault.

    Raises:
        UsageError: no record has a field that every record needs.
    """
    are_names = all(it.kind in (Kind.MISSING_FIELD, Kind.MISSPELT_FIELD) for it in faults)
    if not records or len(faults) < len(records) or not are_names:
        return
    present = tuple(_first_records(records))
    for flag, given in (("prompt", fields.prompt_field), ("answer", fields.answer_field)):
        if given is not None and given not in present and (flag == "prompt" or answer_required):
            raise _unknown_field(flag, given, present, path)
    needed = [layout.prompt, *([layout.answer] if layout.answer and answer_required else [])]
    absent = [name for name in needed if name not in present]
    if len(absent) == len(needed) and layout.answer not in present:
        raise unrecognised(records, present, path)
    if absent and len(records) > 1 and all(it.kind is Kind.MISSING_FIELD for it in faults):
        what = f"{path}: no record has a field {absent[0]!r} (fields: {listed(present)})."
        raise UsageError(what, hint_for_field(absent[0], records, layout, present))


def _unknown_field(flag: str, given: str, present: Sequence[str], path: str) -> UsageError:
    folded = {name.strip().casefold(): name for name in present if len(name) < 100}
    near = difflib.get_close_matches(given.strip().casefold(), folded, n=1, cutoff=_NEAR)
    return UsageError(
        f"--{flag}_field {as_argument(given)}: no record in {path} has this field "
        f"(fields: {listed(present)}).",
        f"Did you mean {folded[near[0]]!r}?" if near else "Use one of these fields.",
    )
