"""Laws of reading files as examples: anything is read, or refused in words about the file."""

from __future__ import annotations

import csv
import io
import json
import math

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from read_files import write_content

from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.read import Records, read_records
from finetuning_exam.errors import DataError, UsageError
from finetuning_exam.settings import FieldSettings

pytestmark = pytest.mark.usefixtures("folder")

same_folder = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 1}]
FORMS: list[list[object]] = [
    ["What is a tree?", "A plant."],
    ["What is a tree?", "A plant.", "Why?"],
    [["What is a tree?", "A plant."]],
    [["user", "q"], ["bot", "a"]],
    [{"user": "q"}, {"assistant": "a"}],
    [{"role": "user", "parts": [{"text": "q"}]}, {"role": "model", "parts": [{"text": "a"}]}],
    [{"role": "model", "content": "Hello!"}, *TURNS],
]
TEXTS = [
    *("", "a", "What is a tree?", "id-17", "0", "1.5", "nan", "test", "train", "instruction"),
    *("output", "2024-01-02", "https://x.org/y", "['a', 'b']", "[{'role': 'user'}]", "[", "{}"),
    *(json.dumps(TURNS), json.dumps(["a", "b"]), json.dumps({"a": 1}), json.dumps(repr(TURNS))),
    *(repr(tuple(TURNS)), "['a' 'b']", "[{'role': 'user', 'content': nan}]", repr(FORMS[0])),
    *(repr(TURNS), "array(['a'], dtype=object)", "\ufeffinstruction", '"[1]"', "[[[[", "\x00"),
]
NAMES = [
    *("instruction", "output", "input", "text", "label", "messages", "conversations", "data"),
    *("prompt", "completion", "history", "instances", "weight", "train", "split", "system"),
    *("tools", "images", "id", "Unnamed: 0", "contents", "columns", "loss_mask", "question"),
    *(
        "system_instruction",
        "conversation",
        "systemInstruction",
        "chat_template_kwargs",
        "",
        "answer",
        "image",
        "loss_weight",
    ),
]
KEYS = ["role", "content", "from", "value", "weight", "train", "type", "text", "parts", "images"]
KEYS += ["user", "assistant", "thought", "functionCall"]
LEAF = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from([0.5, 1.0, 1e300])
    | st.sampled_from(TEXTS)
    | st.sampled_from(["user", "assistant", "system", "human"])
    | st.just(TURNS)
    | st.sampled_from(FORMS)
)
VALUE = st.recursive(
    LEAF,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=8,
)
ROWS = st.lists(st.dictionaries(st.sampled_from(NAMES), VALUE, max_size=5), min_size=1, max_size=4)
FIELDS = st.builds(
    FieldSettings,
    format=st.sampled_from(["auto", "auto", "auto", "messages", "text", "instruction"]),
    prompt_field=st.sampled_from([None, None, None, "data", "messages", "text"]),
)
FOREIGN = ("Expecting", "delimiter", "pyarrow", "Arrow", "Traceback", "object at 0x")


def _read(name: str, fields: FieldSettings) -> Records | str:
    try:
        records = read_records([name], fields)
    except (UsageError, DataError) as error:
        return str(error)
    for finding in records.findings:
        assert not any(word in str(finding) for word in FOREIGN)
    bad = {it.line for it in records.findings if it.kind is Kind.HELD_OUT}
    assert not bad & {example.line for example in records.examples}
    return records


def _check(name: str, fields: FieldSettings) -> None:
    read = _read(name, fields)
    if isinstance(read, str):
        assert not any(word in read for word in FOREIGN)
        assert "--format text --prompt_field id" not in read
        assert "Name the field" not in read or "_field id" not in read


@same_folder
@given(ROWS, FIELDS, st.sampled_from(["\n", "", ",\n"]))
def test_no_rows_of_json_break_the_reader(
    rows: list[dict[str, object]], fields: FieldSettings, end: str
) -> None:
    """Rows as JSON lines, joined on one line, or as an array are read or refused."""
    text = end.join(json.dumps(row, allow_nan=True) for row in rows)
    _check(write_content((text if end != ",\n" else f"[{text}]").encode()), fields)


@same_folder
@given(
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=4),
    st.lists(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=5), max_size=5),
    FIELDS,
    st.sampled_from([",", ";", "\t"]),
)
def test_no_table_breaks_the_reader(
    header: list[str], rows: list[list[str]], fields: FieldSettings, separator: str
) -> None:
    """Tables with columns that have no name, JSON in cells and repeated headers likewise."""
    text = io.StringIO()
    csv.writer(text, delimiter=separator).writerows([header, *rows, header])
    _check(write_content(text.getvalue().encode(), "d.csv"), fields)


@same_folder
@given(ROWS, FIELDS)
def test_no_columns_break_the_reader(rows: list[dict[str, object]], fields: FieldSettings) -> None:
    """Rows of Parquet, with null for absent keys and NaN for absent numbers, likewise."""
    try:
        table = pyarrow.Table.from_pylist(rows)
        numbers = pyarrow.array([math.nan] * len(rows))
        table = table.append_column("score", numbers)
        pyarrow.parquet.write_table(table, "d.parquet")
    except (pyarrow.ArrowException, TypeError, OverflowError):
        assume(False)
    _check("d.parquet", fields)
