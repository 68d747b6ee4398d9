"""Specification of null and NaN, which stand for nothing, in tables and in JSON."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

import datasets
import numpy
import pyarrow
import pyarrow.parquet
import pytest
from read_files import AUTO, texts_of, write_content

from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.read import Records, read_records

pytestmark = pytest.mark.usefixtures("folder")

NAN = math.nan


def _read(**columns: Sequence[object]) -> Records:
    pyarrow.parquet.write_table(pyarrow.table(columns), "d.parquet")
    return read_records(["d.parquet"], AUTO)


@pytest.mark.parametrize("name", ["input", "system", "tag", "group", "history", "weight", "split"])
def test_a_column_of_nan_is_absent(name: str) -> None:
    """A column of doubles without a number is a column without values."""
    records = _read(instruction=["q", "r"], output=["a", "b"], **{name: [NAN, NAN]})
    assert [(it.input, it.tag, it.group, it.earlier) for it in records.examples] == [
        ("", "", "", ())
    ] * 2
    assert [it for it in records.findings if it.kind is not Kind.UNUSED_FIELD] == []


def test_nan_in_a_required_column_is_empty() -> None:
    """It is no number where text belongs."""
    records = _read(instruction=["q", "r"], output=[NAN, NAN])
    assert [(it.kind, str(it)) for it in records.findings] == [
        (Kind.EMPTY_ANSWER, f"d.parquet:{line}: field 'output' is empty.") for line in (1, 2)
    ]


def test_null_and_nan_inside_turns_are_absent() -> None:
    """A table gives every turn and part every key; only a value counts."""
    part = {"type": "text", "text": "What is it?", "image_url": None}
    image = {"type": "image_url", "text": None, "image_url": {"url": "x"}}
    more = {"tool_calls": None, "weight": NAN, "train": None, "name": None}

    def turns(*parts: object) -> object:
        return [
            {"role": "user", "content": list(parts), **more},
            {"role": "assistant", "content": [{**part, "text": "A plant."}], **more},
        ]

    records = _read(messages=[turns(part), turns(part, part), turns(part, image)])
    assert [it.instruction for it in records.examples] == ["What is it?", "What is it?" * 2]
    assert texts_of(records.findings) == [
        "d.parquet:3: part 2 of field 'content' of turn 1 of 'messages' has type 'image_url'; "
        "only text is supported."
    ]


def test_a_weight_in_a_table_is_read() -> None:
    """Beside NaN, which is none, a real weight counts."""
    weights = [NAN, 0.0, 0.5]
    records = _read(instruction=["q", "r", "s"], output=["a", "b", "c"], weight=weights)
    assert [(it.line, it.kind) for it in records.findings] == [(2, Kind.NOT_TRAINED)]
    assert [it.weight for it in records.examples] == [1, 0.5]


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (datetime.date(2024, 1, 2), "a date"),
        (datetime.datetime(2024, 1, 2, 3, 4), "a date"),
        (numpy.datetime64("2024-01-02T03:04", "ns"), "a date"),
        (Decimal("1.5"), "a number"),
        (b"x", "binary"),
        ({"a": "b"}, "an object"),
    ],
)
def test_other_values_are_named(value: object, what: str) -> None:
    """A table holds more types than JSON; each has its name where text belongs."""
    (found,) = _read(instruction=["q"], output=[value]).findings
    assert found.detail == f"field 'output' is {what}; expected a string"


def test_hub_datasets_have_the_same_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Datasets library returns NaN where a column of doubles lacks a number."""
    rows = [{"instruction": "q", "output": "a", "input": NAN}]
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows)
    (example,) = read_records(["hub:o/n"], AUTO).examples
    assert example.input == ""


def _as_parquet(rows: Sequence[Mapping[str, object]]) -> str:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows]), "d")
    return "d"


def _as_lines(rows: Sequence[Mapping[str, object]]) -> str:
    return write_content("".join(f"{json.dumps(row)}\n" for row in rows).encode())


READERS: dict[str, Callable[[Sequence[Mapping[str, object]]], str]] = {
    "Parquet": _as_parquet,
    "JSON lines": _as_lines,
    "JSON array": lambda rows: write_content(json.dumps(rows).encode()),
    "JSON in a field": lambda rows: write_content(json.dumps({"data": rows}, indent=1).encode()),
    "JSON by column": lambda rows: write_content(
        json.dumps({name: [row[name] for row in rows] for name in rows[0]}).encode()
    ),
}
every_reader = pytest.mark.parametrize("write", READERS.values(), ids=READERS)


@every_reader
@pytest.mark.parametrize("name", ["input", "system", "tag", "group", "weight"])
def test_nan_of_a_data_frame_is_nothing_in_every_file(
    write: Callable[[Sequence[Mapping[str, object]]], str], name: str
) -> None:
    """`json.dumps` writes it as it is, which is no JSON, but the meaning is sure."""
    rows = [{"instruction": it, "output": "a", name: NAN} for it in ("q", "r")]
    found = read_records([write(rows)], AUTO)
    bare = [
        (it.instruction, it.input, it.tag, it.group, it.earlier, it.weight) for it in found.examples
    ]
    assert bare == [("q", "", "", "", (), 1), ("r", "", "", "", (), 1)]
    assert [it for it in found.findings if it.kind is not Kind.UNUSED_FIELD] == []


@every_reader
@pytest.mark.parametrize("name", ["instruction", "output"])
def test_nan_is_no_question_and_no_answer_in_any_file(
    write: Callable[[Sequence[Mapping[str, object]]], str], name: str
) -> None:
    """It is an error of its record alone, and never the word "nan"."""
    rows: list[dict[str, object]] = [{"instruction": it, "output": "a"} for it in ("q", "r", "s")]
    rows[1][name] = None if write is _as_parquet else NAN  # a column of texts has no NaN
    found = read_records([write(rows)], AUTO)
    assert [it.instruction for it in found.examples] == ["q", "s"]
    (finding,) = [it for it in found.findings if it.kind.severity == "error"]
    assert finding.detail.startswith(f"field {name!r} is ")
