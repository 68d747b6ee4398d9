"""Lists that are stored as texts, as in tables without lists: read as their values.

The texts are JSON, or Python's notation, which data frames write into tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice

from finetuning_exam.data.findings import Fault, Finding
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.fields import as_argument
from finetuning_exam.data.reading.files import RawRecord
from finetuning_exam.data.reading.layouts import CONVERSATION_FIELDS, PAIRS, Layout
from finetuning_exam.data.reading.packed_text import (
    are_turns,
    is_json,
    is_literal,
    is_python,
    value_of_text,
)
from finetuning_exam.data.reading.turn_forms import are_texts
from finetuning_exam.errors import UsageError
from finetuning_exam.settings import FieldSettings

_TURNS = ("prompt", "completion", "text", "contents", "data")
_LISTS = ("history", "instances")
_JSON = ("JSON", "json.loads")


def unpack(
    records: Sequence[RawRecord], fields: FieldSettings, path: str
) -> tuple[Sequence[RawRecord], list[Finding]]:
    """Replace texts by the lists they describe where the field's name says that it holds lists.

    A conversation field is unpacked if any of its texts is a list; its other texts remain, and
    are faults of their records. `prompt`, `completion`, `text`, `contents` and `data` are unpacked
    only if every text is a list of turns, `history` and `instances` only if every text is a list.
    Fields that a flag names as text are left alone.

    Raises:
        UsageError: every text of a conversation field is in Python's notation, and none can be
            restored.
    """
    in_turns = fields.format in ("messages", "sharegpt")
    named = () if in_turns else (fields.prompt_field, fields.answer_field)
    conversations = {*CONVERSATION_FIELDS, *([fields.prompt_field] if in_turns else [])}
    notes: list[Finding] = []
    known = {name: None for record in records for name in record.value}
    for name in known if fields.format != "text" else ():
        if name in named or name not in (*conversations, *_TURNS, *_LISTS):
            continue
        texts = _texts(records, name, joined=name in conversations)
        if not texts:
            continue
        lists = _lists(name, texts)
        if name in conversations and not lists and all(map(_is_only_python, texts.values())):
            raise UsageError(
                f"{path}: field {name!r} holds lists in Python's notation as text.",
                python_hint(name, texts.values()),
            )
        if not lists or (name not in conversations and len(lists) < len(texts)):
            continue
        changed = list(records)
        for index, value in lists.items():
            record = changed[index]
            changed[index] = replace(record, value={**record.value, name: value})
        first = changed[min(lists)]
        records = changed
        notation, _ = _notation({min(lists): texts[min(lists)]})
        detail = f"field {name!r} holds {notation} as text; its lists are read"
        notes.append(Finding(Kind.UNPACKED, detail, path, first.line, first.column))
    return records, notes


def python_hint(name: str, texts: Iterable[object]) -> str:
    """Return how to write values in Python's notation as JSON; arrays cannot be restored."""
    write = 'df.to_json("new.jsonl", orient="records", lines=True)'
    if all(is_literal(text) for text in islice(texts, 10)):
        return f"Restore its values with df[{name!r}].map(ast.literal_eval), then write {write}."
    return f"Write the original data frame as JSON: {write}."


def refuse_packed(
    records: Sequence[RawRecord], layout: Layout, fields: FieldSettings, path: str
) -> None:
    """Refuse a file whose conversations would be trained as the text of their JSON.

    Raises:
        UsageError: every text of the prompt or answer is a list of turns, in JSON or in Python's
            notation, or every plain text is a record in JSON, and no flag names the field.
    """
    if fields.format == "text" or fields.prompt_field or fields.answer_field:
        return
    for name in filter(None, (layout.prompt, layout.answer)):
        if any(isinstance(record.value.get(name), list) for record in records):
            continue  # then its texts are faults of their records
        texts = _texts(records, name)
        start = next((text.lstrip()[0] for text in texts.values()), "")
        if (
            start == "{"
            and layout.format == "text"
            and all(_is_record(_value(text)) for text in texts.values())
        ):
            notation, call = _notation(texts)
            raise UsageError(
                f"{path}: field {name!r} holds records in {notation} as text.",
                f"Write the records themselves: {call}(record[{name!r}]) returns each.",
            )
        if start != "[":
            continue
        if all(are_turns(_value(text)) for text in texts.values()):
            raise UsageError(
                f"{path}: field {name!r} holds conversations in {_notation(texts)[0]} as text.",
                f"Read them with --format messages --prompt_field {as_argument(name)}.",
            )
        if all(_is_only_python(text) and "'role'" in text for text in texts.values()):
            raise UsageError(
                f"{path}: field {name!r} holds conversations in Python's notation as text.",
                python_hint(name, texts.values()),
            )


def _texts(records: Sequence[RawRecord], name: str, *, joined: bool = False) -> dict[int, str]:
    """Return the texts of a field that are not empty, by the index of their record.

    With `joined`, a list of JSON objects as texts counts as the text of their list.
    """
    texts: dict[int, str] = {}
    for index, record in enumerate(records):
        value = record.value.get(name)
        if isinstance(value, str):
            if value.strip():
                texts[index] = value
        elif joined and isinstance(value, list) and value and isinstance(value[0], str):
            items = [it for it in value if isinstance(it, str) and it.lstrip().startswith("{")]
            if len(items) == len(value):
                texts[index] = f"[{','.join(items)}]"
    return texts


def _lists(name: str, texts: dict[int, str]) -> dict[int, list[object]]:
    """Return the lists that the texts of a field describe."""
    lists: dict[int, list[object]] = {}
    for index, text in texts.items():
        if text.lstrip()[0] not in '["(':
            if name in (*_TURNS, *_LISTS):  # all texts must be lists
                return {}
            continue
        value = _value(text)
        if isinstance(value, list) and (name not in _TURNS or _are_turns(name, value)):
            lists[index] = value
    return lists


def _are_turns(name: str, value: list[object]) -> bool:
    return are_turns(value) or (name == "data" and are_texts(value))


def _is_record(value: object) -> bool:
    """Return whether a value is an object with the fields of a known format."""
    if not isinstance(value, dict):
        return False
    pairs = [{layout.prompt, layout.answer} for layout in PAIRS]
    return any(names <= value.keys() for names in [*pairs, *({it} for it in CONVERSATION_FIELDS)])


def _is_only_python(text: str) -> bool:
    return is_python(text) and not is_json(text)


def _notation(texts: dict[int, str]) -> tuple[str, str]:
    """Return the notation of texts by the first of them, and the call that reads it."""
    first = next(iter(texts.values()))
    return ("Python's notation", "ast.literal_eval") if _is_only_python(first) else _JSON


def _value(text: str) -> object:
    try:
        return value_of_text(text)
    except Fault:
        return None
