"""Specification of JSON by column or by row label, as data frames write it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from read_files import read_content, texts_of

from finetuning_exam.data.fix import clean_copy
from finetuning_exam.data.reading import containers, files
from finetuning_exam.data.reading.read import Records
from finetuning_exam.errors import DataError, UsageError

pytestmark = pytest.mark.usefixtures("folder")

Table = dict[str, list[Any]]
PAIRS: Table = {"question": ["What?", "Who?", "Why?"], "answer": ["A.", "B.", "C."]}
INPUTS: Table = {"instruction": ["q", "r"], "input": [None, "x"], "output": ["a", "b"]}
TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
CHATS: Table = {"id": [1, 2], "messages": [TURNS, TURNS]}
TEXTS: Table = {"text": ["A tree is a plant.", "A bush, too."]}
GERMAN: Table = {"Output": ["a", "b"], "Instruction": ["q", "r"], "tag": ["x", "y"]}
TABLES = {"pairs": PAIRS, "inputs": INPUTS, "chats": CHATS, "texts": TEXTS, "renamed": GERMAN}


def _records(table: Table) -> list[dict[str, Any]]:
    return [dict(zip(table, cells, strict=True)) for cells in zip(*table.values(), strict=True)]


def _by_label(table: Table, labels: list[str]) -> dict[str, dict[str, Any]]:
    return {name: dict(zip(labels, cells, strict=True)) for name, cells in table.items()}


def _forms(table: Table) -> dict[str, object]:
    """Return a table in each of pandas' orients, and in those of other tools."""
    rows = _records(table)
    numbers = [str(it) for it in range(len(rows))]
    words = [f"row {it}" for it in numbers]
    cells = [list(row.values()) for row in rows]
    split = {"columns": list(table), "index": [*range(len(rows))], "data": cells}
    return {
        "columns": _by_label(table, numbers),
        "columns by words": _by_label(table, words),
        "index": dict(zip(numbers, rows, strict=True)),
        "index by words": dict(zip(words, rows, strict=True)),
        "split": split,
        "split without labels": {"columns": list(table), "data": cells},
        "tight": {**split, "index_names": [None], "column_names": [None]},
        "table": {"schema": {"fields": []}, "data": rows},
        "records": rows,
        "data": {"data": rows},
        "lists": table,
        "lists in data": {"data": table},
        "lists in train": {"train": table},
        "columns in data": {"data": _by_label(table, numbers)},
        "split in data": {"data": split},
    }


FORMS = [
    (f"{name}: {form}", table, value)
    for name, table in TABLES.items()
    for form, value in _forms(table).items()
]


def _examples(found: Records) -> list[tuple[object, ...]]:
    return [(it.earlier, it.instruction, it.input, it.answer, it.tag) for it in found.examples]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(("table", "value"), [it[1:] for it in FORMS], ids=[it[0] for it in FORMS])
def test_each_orient_gives_the_same_examples(
    table: Table, value: object, indent: int | None
) -> None:
    """A table by column, by label, split or as records is one and the same."""
    lines = "".join(json.dumps(row) + "\n" for row in _records(table))
    expected = _examples(read_content(lines.encode()))
    found = read_content(json.dumps(value, indent=indent).encode())
    assert _examples(found) == expected
    assert len(expected) == len(next(iter(table.values())))


def test_a_record_by_column_is_named_by_its_number() -> None:
    """The line of a finding is the number of the record, as in Parquet files."""
    found = read_content(json.dumps({**PAIRS, "answer": ["A.", "", "C."]}).encode())
    assert [it.container for it in found.sources] == ["JSON by column"]
    assert texts_of(found.findings) == ["d.jsonl:2: field 'answer' is empty."]
    copy = clean_copy(found, found.findings)
    assert [json.loads(line)["answer"] for line in copy.lines] == ["A.", "C."]


ONE_RECORD: dict[str, object] = {
    "a conversation": {"messages": TURNS},
    "of turns and turns": {"prompt": TURNS[:1], "completion": TURNS[1:]},
    "of texts in turn": {"data": ["What is a tree?", "A plant."]},
    "of pairs": {"messages": [["What is a tree?", "A plant."], ["Is it big?", "Yes."]]},
    "with a history": {"instruction": "q", "output": "a", "history": [["a", "b"]]},
}


@pytest.mark.parametrize("value", ONE_RECORD.values(), ids=ONE_RECORD)
def test_a_record_of_lists_is_not_taken_for_columns(value: object) -> None:
    """Lists that are turns are the values of one record."""
    found = read_content(json.dumps(value).encode())
    assert len(found.examples) == 1
    assert found.sources[0].container in ("JSON lines", "JSON array")


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (
            {"question": ["q", "r"], "answer": ["a"]},
            "its columns have different lengths ('question': 2, 'answer': 1).",
        ),
        (
            {"columns": ["question", "answer"], "data": [["q", "a"], ["r"]]},
            "row 2 of 'data' has 1 cells, but there are 2 columns.",
        ),
        (
            {"train": PAIRS, "test": PAIRS},
            "is one object with several splits: train, test.",
        ),
        (
            [["q", "a"], ["r", "b"]],
            "is a list of lists of values, without the names of their columns.",
        ),
    ],
)
def test_a_table_that_does_not_fit_is_told_once(value: object, what: str) -> None:
    """Uneven columns, several splits and values without names are refused, with the way out."""
    with pytest.raises((UsageError, DataError)) as caught:
        read_content(json.dumps(value).encode())
    assert what in str(caught.value)


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("form", ["lists", "columns", "index", "split", "lists in data"])
def test_nan_by_column_is_nothing(form: str, indent: int | None) -> None:
    """Python writes NaN where a data frame has nothing; Infinity stays a fault."""
    table: Table = {**INPUTS, "input": [float("nan"), "x"]}
    found = read_content(json.dumps(_forms(table)[form], indent=indent).encode())
    assert [it.input for it in found.examples] == ["", "x"]
    assert found.findings == ()
    endless = _forms({**INPUTS, "input": [float("inf"), "x"]})[form]
    (finding,) = read_content(json.dumps(endless, indent=indent).encode()).findings
    assert "Infinity is not valid JSON" in str(finding)


def test_a_long_line_may_be_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data frames write one line; its length counts only if it is a single record."""
    monkeypatch.setattr(containers, "MAX_LINE_BYTES", 100)
    lines = files.Stream.lines
    monkeypatch.setattr(files.Stream, "lines", lambda self: lines(self, 100))
    many: Table = {"question": [f"What is {it}?" for it in range(30)], "answer": ["It is."] * 30}
    assert len(read_content(json.dumps(many).encode()).examples) == 30
    assert len(read_content(json.dumps({"data": _records(many)}).encode()).examples) == 30
    (finding,) = read_content(json.dumps({"question": "q" * 200, "answer": "a"}).encode()).findings
    assert "the line is longer than" in str(finding)


VALUE = st.recursive(
    st.none() | st.integers(0, 2) | st.sampled_from(["", "q", "What is it?"]) | st.just(TURNS),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["0", "1", "x", "role", "text"]), inner, max_size=3)
    ),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        "0",
        "1",
        "question",
        "answer",
        "text",
        "messages",
        "columns",
        "data",
        "index",
        "train",
        "test",
    ]
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(KEYS, VALUE | st.dictionaries(KEYS, VALUE, max_size=3), max_size=4))
def test_no_object_breaks_the_reader_of_columns(value: dict[str, object]) -> None:
    """Any object is a table, a record, or one error in words."""
    said = ""
    try:
        found = read_content(json.dumps(value).encode())
        assert found.sources[0].n_records >= len({it.line for it in found.examples})
    except (UsageError, DataError) as error:
        said = str(error)
    assert "object at 0x" not in said
