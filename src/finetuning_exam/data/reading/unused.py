"""Fields that are not read: notes about them, and a warning about a label beside a text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from finetuning_exam.data.findings import Finding
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.conversation import unread_keys
from finetuning_exam.data.reading.fields import as_argument, quoted
from finetuning_exam.data.reading.files import RawRecord
from finetuning_exam.data.reading.layouts import Layout
from finetuning_exam.data.reading.splits import is_for_training
from finetuning_exam.data.reading.tools import TOOLS, defines_tools
from finetuning_exam.data.reading.training_fields import is_default
from finetuning_exam.settings import FieldSettings

_LABELS = frozenset(
    {"label", "labels", "label_text", "label_name", "class", "class_name", "category", "topic"}
    | {"target", "sentiment", "intent", "emotion", "polarity", "stars", "rating", "summary"}
    | {"translation", "reply"}
)
_INDEX = re.compile(r"Unnamed: \d+(\.\d+)?|__index_level_\d+__")
"""The names that pandas gives to columns of row numbers."""


def unused_fields(
    records: Sequence[RawRecord], layout: Layout, fields: FieldSettings, path: str
) -> list[Finding]:
    """Report each field that the format does not read, at the first sound record that has it."""
    counts: Counter[str] = Counter()
    first: dict[str, RawRecord] = {}
    for record in records:
        unread = [
            key
            for key, it in record.value.items()
            if key not in layout.used_fields
            and not is_default(key, it)
            and not (key in TOOLS and defines_tools(it))
            and not is_for_training(key, it)
        ]
        for name in {layout.prompt, layout.answer} & record.value.keys():
            unread += [f"{name}[].{key}" for key in unread_keys(record.value[name], name)]
        for key in unread:
            counts[key] += 1
            first.setdefault(key, record)
    is_guess = layout.format == "text" and fields.format == "auto"
    return [
        _label(key, record, layout, path)
        if is_guess and key.strip().casefold() in _LABELS and key in record.value
        else Finding(
            Kind.ROW_NUMBERS if _INDEX.fullmatch(key) else Kind.UNUSED_FIELD,
            f"field {quoted(key)} is not used (in {counts[key]:,} of {len(records):,} records)",
            path,
            record.line,
            record.column,
        )
        for key, record in first.items()
    ]


def _label(name: str, record: RawRecord, layout: Layout, path: str) -> Finding:
    flags = f"--prompt_field {as_argument(layout.prompt)} --answer_field {as_argument(name)}"
    is_text = isinstance(record.value[name], str)
    how = f"use {flags}" if is_text else f"write its values as words, then use {flags}"
    return Finding(
        Kind.UNUSED_LABEL,
        f"field {quoted(name)} is not used, only {layout.prompt!r} is trained; to learn it as the "
        f"answer, {how}",
        path,
        record.line,
        record.column,
    )
