"""The names of a file's fields as a whole: taken for known ones, or told once where none is.

A name that differs from a known one only in case or in white space around it (`Question `) is read
as that one, and a note says so. Roles of turns are read in the same way, without a note.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence

from finetuning_exam.data.findings import Fault, Finding, Kind
from finetuning_exam.data.reading.fields import listed, shown
from finetuning_exam.data.reading.files import Row
from finetuning_exam.data.reading.layouts import CONVERSATION_FIELDS, PAIRS, Layout
from finetuning_exam.errors import UsageError
from finetuning_exam.settings import FieldSettings

_KNOWN = frozenset(
    {name for pair in PAIRS for name in pair.used_fields} | {*CONVERSATION_FIELDS, "text"}
)
_QUESTIONS = (
    "question",
    "prompt",
    "input",
    "query",
    "instruction",
    "user",
    "human",
    "ask",
    "request",
    "task",
    "frage",
    "eingabe",
    "aufgabe",
    "anfrage",
    "pregunta",
    "domanda",
    "pergunta",
    "vraag",
    "pytanie",
    "q",
)
_ANSWERS = (
    "answer",
    "response",
    "output",
    "completion",
    "assistant",
    "reply",
    "solution",
    "target",
    "label",
    "antwort",
    "ausgabe",
    "lösung",
    "réponse",
    "reponse",
    "respuesta",
    "risposta",
    "resposta",
    "antwoord",
    "odpowiedź",
    "a",
)
"""What people call the two fields."""
_NEAR = 0.6


def read_names(
    rows: Sequence[Row], fields: FieldSettings, path: str
) -> tuple[tuple[Row, ...], list[Finding]]:
    """Rows with names of fields as they are known, and a note for each name taken for another.

    Only where it is unambiguous: no record has the known name, and a single name is like it.
    """
    first = _first_rows(rows)
    alike: dict[str, list[str]] = {}
    for name in first:
        known = name.strip().casefold() if len(name) < 100 else name
        if known in _KNOWN and known not in first:
            alike.setdefault(known, []).append(name)
    named = (fields.prompt_field, fields.answer_field)
    taken = {
        names[0]: known
        for known, names in alike.items()
        if len(names) == 1 and names[0] not in named
    }
    notes = [
        Finding(
            Kind.FIELD_NAME,
            f"the field {name!r} is read as {known!r}",
            path,
            first[name].line,
            first[name].column,
        )
        for name, known in taken.items()
    ]
    return tuple(_renamed(row, taken) for row in rows) if taken else tuple(rows), notes


def _renamed(row: Row, taken: Mapping[str, str]) -> Row:
    value = {taken.get(name, name): it for name, it in row.value.items()}
    return Row(row.line, row.column, value)


def _first_rows(rows: Iterable[Row]) -> dict[str, Row]:
    """The names of all fields, each with the first row that has it."""
    first: dict[str, Row] = {}
    for row in rows:
        for name in row.value:
            first.setdefault(name, row)
    return first


def refuse_unrecognised(
    rows: Sequence[Row],
    layout: Layout,
    fields: FieldSettings,
    faults: Sequence[Fault],
    path: str,
    *,
    answer_required: bool,
) -> None:
    """Say once of a file what holds for each of its records: that a field is not there.

    Nothing is said where a record is sound, or a fault is another than a field's name. Where one
    of two fields is there, a single record is left to its own fault.

    Raises:
        UsageError: no record has a field that every record needs.
    """
    names = _KINDS_OF_NAMES
    if not rows or len(faults) < len(rows) or any(it.kind not in names for it in faults):
        return
    there = _first_rows(rows)
    for flag, given in (("prompt", fields.prompt_field), ("answer", fields.answer_field)):
        if given is not None and given not in there and (flag == "prompt" or answer_required):
            raise _mistyped(flag, given, tuple(there), path)
    needed = [layout.prompt, *([layout.answer] if layout.answer and answer_required else [])]
    absent = [name for name in needed if name not in there]
    if len(absent) == len(needed) and layout.answer not in there:
        what = f"{path}: the form of the records is not recognised (fields: {listed(there)})."
        raise UsageError(what, _mend_of_form(rows, there))
    if absent and len(rows) > 1 and all(it.kind is Kind.MISSING_FIELD for it in faults):
        what = f"{path}: no record has the field {absent[0]!r} (fields: {listed(there)})."
        raise UsageError(what, _mend_of_one(absent[0], rows, layout, there))


_KINDS_OF_NAMES = (Kind.MISSING_FIELD, Kind.MISSPELT_FIELD)


def _mistyped(flag: str, given: str, there: Sequence[str], path: str) -> UsageError:
    folded = {name.strip().casefold(): name for name in there if len(name) < 100}
    near = difflib.get_close_matches(given.strip().casefold(), folded, n=1, cutoff=_NEAR)
    return UsageError(
        f"--{flag}_field {shlex.quote(given)}: no record of {path} has it "
        f"(fields: {listed(there)}).",
        f"Did you mean {folded[near[0]]!r}?" if near else "Give one of these.",
    )


def _mend_of_form(rows: Sequence[Row], there: Iterable[str]) -> str:
    texts = [name for name in there if _is_text(rows, name)]
    if not texts:
        return 'Write records such as {"instruction": "…", "output": "…"}.'
    if len(texts) == 1:
        return f"If it is plain text: --format text --prompt_field {shlex.quote(texts[0])}."
    question, answer = _like(texts, _QUESTIONS), _like(texts, _ANSWERS)
    words = "Name them" if question and answer else "Name them, such as"
    question = question or next(name for name in texts if name != answer)
    answer = answer or next(name for name in texts if name != question)
    flags = f"--prompt_field {shlex.quote(question)} --answer_field {shlex.quote(answer)}"
    return f"{words}: {flags}."


def _mend_of_one(absent: str, rows: Sequence[Row], layout: Layout, there: Iterable[str]) -> str:
    flag, usual = ("prompt", _QUESTIONS) if absent == layout.prompt else ("answer", _ANSWERS)
    texts = [
        name
        for name in there
        if name not in (layout.prompt, layout.answer, "tag", "group", "system")
        and _is_text(rows, name)
    ]
    if not texts:
        return f"Add it, or name it with --{flag}_field."
    name = _like(texts, usual)
    words = "Name it" if name else "Name it, such as"
    return f"{words}: --{flag}_field {shlex.quote(name or texts[0])}."


def _is_text(rows: Sequence[Row], name: str) -> bool:
    """Whether a field holds text wherever it is, and has a name that can be shown whole."""
    values = [row.value[name] for row in rows if row.value.get(name) is not None]
    return shown(name) == repr(name) and bool(values) and all(isinstance(it, str) for it in values)


def _like(names: Sequence[str], usual: Sequence[str]) -> str | None:
    """The first name that is, else holds, a usual word; short words must be the whole name."""

    def holds(word: str, name: str) -> bool:
        return len(word) > 2 and word in name

    tests: tuple[Callable[[str, str], bool], ...] = (str.__eq__, holds)
    for test in tests:
        for word in usual:
            for name in names:
                if test(word, name.strip().casefold()):
                    return name
    return None
