"""A line of a file becomes an `Example`, or a fault that names it. The only place with dicts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from finetuning_exam.data.findings import place
from finetuning_exam.errors import DataError, UsageError

KNOWN_FIELDS = (("instruction", "output"), ("prompt", "completion"), ("question", "answer"))
OPTIONAL_FIELDS = ("input", "tag", "group")


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class Example:
    """One record: what is asked, what is to be answered, and where it stands.

    A conversation's last question and answer are `instruction` and `answer`; what was said before,
    a system turn first, is `earlier`. A plain text has no instruction, only an answer.
    """

    instruction: str
    answer: str
    line: int
    path: str
    input: str = ""
    tag: str = ""
    group: str = ""
    earlier: tuple[Turn, ...] = ()
    column: int = 0
    """Where the record starts in its line, from 1; 0 where it is alone on its line."""

    @property
    def where(self) -> str:
        """`path:line` (and column), as errors and reports name a record."""
        return place(self.path, self.line, self.column)

    @property
    def is_plain_text(self) -> bool:
        """Whether there is no question, only a text to learn."""
        return not self.instruction and not self.earlier


@dataclass(frozen=True, slots=True)
class FieldNames:
    """Which fields of a record hold the instruction and the answer."""

    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class Records:
    """All examples of one file and the fields they were read from."""

    path: str
    sha256: str
    fields: FieldNames
    examples: tuple[Example, ...]
    ignored_fields: tuple[str, ...]


class _LineFault(ValueError):
    """What is wrong with one line; the reader adds path and line number."""


def read_records(
    path: str,
    prompt_field: str | None = None,
    answer_field: str | None = None,
    *,
    answer_required: bool = True,
) -> Records:
    """Read a file of JSON lines, one object a line.

    Blank lines, a byte-order mark and CRLF are accepted. Field names are taken from the
    arguments, else from the first object (`KNOWN_FIELDS`).

    Raises:
        UsageError: the path is not a readable file.
        DataError: any line is faulty, all faults together, each as `path:line: what`.
    """
    content = _read_bytes(path)
    faults: list[tuple[int, str]] = []
    rows: list[tuple[int, dict[str, object]]] = []
    for number, line in _lines(content):
        try:
            rows.append((number, _parse_object(line)))
        except _LineFault as fault:
            faults.append((number, str(fault)))
    if not rows and not faults:
        raise DataError(
            [f"{path}: the file holds no records."],
            'Write one JSON object a line, such as {"instruction": "…", "output": "…"}.',
        )
    fields = _field_names(rows, prompt_field, answer_field)
    examples: list[Example] = []
    for number, row in rows:
        try:
            examples.append(_to_example(row, fields, path, number, answer_required))
        except _LineFault as fault:
            faults.append((number, str(fault)))
    if faults:
        lines = [f"{path}:{number}: {fault}." for number, fault in sorted(faults)]
        raise DataError(lines, _mend([fault for _, fault in faults]))
    used = {fields.prompt, fields.answer, *OPTIONAL_FIELDS}
    ignored = sorted({key for _, row in rows for key in row} - used)
    sha256 = hashlib.sha256(content).hexdigest()
    return Records(path, sha256, fields, tuple(examples), tuple(ignored))


def _read_bytes(path: str) -> bytes:
    """The bytes of a regular file.

    Raises:
        UsageError: it is missing, a folder, no regular file, or not readable.
    """
    file = Path(path)
    mend = "Give the path of a file of JSON lines."
    try:
        if not file.exists():
            raise UsageError(f"{path}: no such file.", mend)
        if not file.is_file():
            kind = "a folder" if file.is_dir() else "not a regular file"
            raise UsageError(f"{path}: is {kind}.", mend)
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}).", mend) from error


def _lines(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Numbered lines that are not blank; only a line feed ends a line (text may hold U+2028)."""
    body = content.removeprefix(b"\xef\xbb\xbf")
    for number, line in enumerate(body.split(b"\n"), start=1):
        if line.strip(b" \t\r"):
            yield number, line


def _parse_object(line: bytes) -> dict[str, object]:
    """One line as an object.

    Raises:
        _LineFault: bad UTF-8, not JSON, not an object, a key twice, NaN, or nested too deeply.
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _LineFault(
            f"not UTF-8 (byte 0x{line[error.start]:02x} at byte {error.start + 1})"
        ) from error
    try:
        value = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise _LineFault(f"not valid JSON ({error.msg} at column {error.pos + 1})") from error
    except RecursionError:
        raise _LineFault("nested too deeply") from None
    except _LineFault:
        raise
    except ValueError:  # Python's own limit against integers that take quadratic time to read
        raise _LineFault("a number has too many digits") from None
    if not isinstance(value, dict):
        raise _LineFault(f"{_json_type(value)} where an object belongs")
    return value


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    seen: dict[str, object] = {}
    for key, value in pairs:
        if key in seen:
            raise _LineFault(f"the field {key!r} occurs twice")
        seen[key] = value
    return seen


def _no_constant(name: str) -> NoReturn:
    raise _LineFault(f"{name} is not JSON")


def _field_names(
    rows: list[tuple[int, dict[str, object]]], prompt: str | None, answer: str | None
) -> FieldNames:
    """The fields asked for, else the known pair of which the first object has most."""
    first = rows[0][1] if rows else {}
    known = max(KNOWN_FIELDS, key=lambda pair: sum(name in first for name in pair))
    fields = FieldNames(prompt or known[0], answer or known[1])
    if fields.prompt == fields.answer:
        raise UsageError(
            f"--prompt_field and --answer_field are both {fields.prompt!r}.", "Give two fields."
        )
    return fields


def _to_example(
    row: dict[str, object], fields: FieldNames, path: str, line: int, answer_required: bool
) -> Example:
    instruction = _text(row, fields.prompt)
    if not instruction.strip():
        raise _LineFault(f"the field {fields.prompt!r} is empty")
    if answer_required or fields.answer in row:
        answer = _text(row, fields.answer)
        if not answer.strip():
            raise _LineFault(f"the field {fields.answer!r} is empty")
    else:
        answer = ""
    others = (key for key in OPTIONAL_FIELDS if key not in (fields.prompt, fields.answer))
    optional = {key: _text(row, key) for key in others if row.get(key) is not None}
    return Example(
        instruction,
        answer,
        line,
        path,
        input=optional.get("input", ""),
        tag=optional.get("tag", ""),
        group=optional.get("group", ""),
    )


def _text(row: dict[str, object], field: str) -> str:
    """The string in a field.

    Raises:
        _LineFault: it is missing, no string, or holds half of a surrogate pair.
    """
    if field not in row:
        there = ", ".join(repr(key) for key in row) or "none"
        raise _LineFault(f"the field {field!r} is missing (fields: {there})")
    value = row[field]
    if not isinstance(value, str):
        raise _LineFault(f"the field {field!r} is {_json_type(value)} where text belongs")
    if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        raise _LineFault(f"the field {field!r} holds half of a surrogate pair")
    return value


def _json_type(value: object) -> str:
    names = {
        type(None): "null",
        bool: "a boolean",
        int: "a number",
        float: "a number",
        list: "a list",
        str: "a string",
    }
    return names.get(type(value), "an object")


def _mend(faults: list[str]) -> str:
    if all("is missing" in fault for fault in faults):
        return "Add it, or name the fields with --prompt_field and --answer_field."
    return "Mend that line." if len(faults) == 1 else "Mend these lines."
