"""Layouts of records, and the examples or faults of a record."""

from __future__ import annotations

import pytest

from finetuning_exam.data.findings import Fault
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.formats import Place, to_examples
from finetuning_exam.data.reading.layouts import Layout, find_layout
from finetuning_exam.data.records import Example
from finetuning_exam.settings import Format

PLACE = Place("d.jsonl", 7)
ALPACA = Layout("instruction", "instruction", "output")
DOLLY = Layout("instruction", "instruction", "response")
QUERY = Layout("instruction", "query", "response")
TRL = Layout("prompt_completion", "prompt", "completion")
GSM8K = Layout("question_answer", "question", "answer")
TASKS = Layout("instruction", "instruction", "instances")
CHAT = Layout("messages", "messages", "")
SHAREGPT = Layout("sharegpt", "conversations", "")
TEXT = Layout("text", "text", "")
ASK = {"role": "user", "content": "q"}
SAY = {"role": "assistant", "content": "a"}

Row = dict[str, object]


def found_layout(
    *rows: Row, wanted: Format = "auto", prompt: str | None = None, answer: str | None = None
) -> Layout:
    """Return the layout of records that are all in one file."""
    return find_layout(iter(rows), wanted, prompt, answer)


def one_example(row: Row, layout: Layout, *, answer_required: bool = True) -> Example:
    """Return the only example of a record."""
    (example,) = to_examples(row, layout, PLACE, answer_required=answer_required)
    return example


def complaint_about(row: Row, layout: Layout, *, answer_required: bool = True) -> tuple[Kind, str]:
    """Return the kind and the text of a record's fault."""
    with pytest.raises(Fault) as caught:
        to_examples(row, layout, PLACE, answer_required=answer_required)
    return caught.value.kind, caught.value.detail


def own_fields(prompt: str, answer: str) -> Layout:
    """Return the layout of a pair whose fields are named by flags."""
    return Layout("instruction", prompt, answer)
