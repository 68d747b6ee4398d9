"""Laws of the forms of conversations: all are read alike, and none breaks the reader or check."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import pytest
from drawn_conversations import PACKED, TEXTS, Json, Said, Written, written
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from read_files import AUTO, write_content

from finetuning_exam.data.check import check_files
from finetuning_exam.data.findings import errors
from finetuning_exam.data.reading.read import Records, read_records
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.errors import DataError, UsageError
from finetuning_exam.settings import CheckSettings

pytestmark = pytest.mark.usefixtures("folder")

same_folder = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

FILES: dict[str, Callable[[list[Written]], Json]] = {
    "an array": lambda rows: rows,
    "an array in a field": lambda rows: {"data": rows},
    "a list for each column": lambda rows: _columns(rows),
    "lists in a field": lambda rows: {"train": _columns(rows)},
    "orient columns": lambda rows: {
        name: dict(zip(map(str, range(len(rows))), cells, strict=True))
        for name, cells in _columns(rows).items()
    },
    "orient index": lambda rows: {str(number): row for number, row in enumerate(rows)},
    "orient split": lambda rows: {
        "columns": list(rows[0]),
        "index": list(range(len(rows))),
        "data": [list(row.values()) for row in rows],
    },
}
BY_COLUMN = [name for name in FILES if not name.startswith("an array")]
FIELDS = ["messages", "conversations", "conversation"]


def _columns(rows: Sequence[Written]) -> dict[str, list[object]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def _turns(example: Example) -> list[Turn]:
    """Return the turns of an example, the question and the answer too."""
    asked = Turn(example.asked_by, example.instruction)
    return [*example.earlier, asked, Turn("assistant", example.answer, example.weight)]


def _assert_read(found: Records, drawn: Sequence[Sequence[Said]]) -> None:
    assert errors(found.findings) == ()
    assert [_turns(it) for it in found.examples] == [[it.turn for it in turns] for turns in drawn]


ROWS = st.lists(st.tuples(written(), st.sampled_from(list(PACKED))), min_size=1, max_size=3)
OBJECTS = st.lists(written(only_objects=True), min_size=1, max_size=3)


@same_folder
@given(ROWS, st.sampled_from(FIELDS), st.sampled_from(["\n", "array"]))
def test_a_conversation_is_read_alike_in_every_form(
    rows: list[tuple[tuple[tuple[Said, ...], Json], str]], field: str, end: str
) -> None:
    """Roles, parts, calls, thoughts, weights and greetings, as a value or as text in a cell."""
    records = [{"id": 7, field: PACKED[packed](value)} for (_, value), packed in rows]
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    text = f"[{', '.join(lines)}]" if end == "array" else end.join(lines)
    found = read_records([write_content(text.encode())], AUTO)
    _assert_read(found, [turns for (turns, _), _ in rows])


@same_folder
@given(OBJECTS, st.sampled_from(FIELDS), st.sampled_from(list(FILES)), st.booleans())
def test_a_file_by_column_is_read_like_one_by_record(
    rows: list[tuple[tuple[Said, ...], Json]], field: str, form: str, is_indented: bool
) -> None:
    """Whatever pandas or Datasets write, on one line or on many."""
    value = FILES[form]([{"id": 7, field: turns} for _, turns in rows])
    found = read_records(
        [write_content(json.dumps(value, indent=1 if is_indented else None).encode())], AUTO
    )
    assert (found.sources[0].container == "JSON by column") == (form in BY_COLUMN)
    _assert_read(found, [turns for turns, _ in rows])


@same_folder
@given(ROWS, st.sampled_from(FIELDS), st.sampled_from(",;\t|"), st.booleans())
def test_a_table_is_read_like_its_records(
    rows: list[tuple[tuple[tuple[Said, ...], Json], str]],
    field: str,
    separator: str,
    has_index: bool,
) -> None:
    """A cell holds a list as text; row numbers are passed over."""
    text = io.StringIO()
    table = csv.writer(text, delimiter=separator)
    table.writerow([*([""] if has_index else []), field, "id"])
    for number, ((_, value), packed) in enumerate(rows):
        cell = PACKED[packed](value)
        cell = cell if isinstance(cell, str) else json.dumps(cell)
        table.writerow([*([str(number)] if has_index else []), cell, "7"])
    found = read_records([write_content(text.getvalue().encode(), "d.csv")], AUTO)
    _assert_read(found, [turns for (turns, _), _ in rows])


ODD = (
    st.none()
    | st.sampled_from([True, 0, -1, 0.5, "", " ", "nan", [], {}, [[]], float("nan"), "[", "{'a'}"])
    | TEXTS
    | st.sampled_from(["<think>x", "<tool_call>{", "<tool_call>\n{}\n</tool_call>", "</think>"])
    | st.sampled_from(["<|im_start|>user\nq", "[INST] q [/INST]", "### Human: q\n### Assistant: a"])
)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return every container within a value, once with each of its keys."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    held = [value[key] for key in keys]
    inner = [_places(it) for it in held if isinstance(it, dict | list)]
    return [*((value, key) for key in keys), *(it for places in inner for it in places)]


@st.composite
def spoilt(draw: st.DrawFn) -> list[Written]:
    """Return records with conversations, and places of them replaced, removed or repeated."""
    rows = draw(OBJECTS | st.lists(written(), min_size=1, max_size=3))
    records: list[Written] = [{"messages": deepcopy(value)} for _, value in rows]
    records[0].update(draw(st.dictionaries(st.sampled_from(EXTRAS), ODD, max_size=2)))
    for _ in range(draw(st.integers(1, 3))):
        holder, key = draw(st.sampled_from(_places(records)))
        how = draw(st.sampled_from(["replace", "remove", "repeat"]))
        if holder is records:
            continue
        if how == "replace":
            holder[key] = draw(ODD)
        elif how == "remove":
            del holder[key]
        elif isinstance(holder, list):
            holder.append(holder[key])
    return records


EXTRAS = ["tools", "weight", "system", "tag", "group", "text", "train", "split", "functions"]
FOREIGN = ("Expecting", "delimiter", "Traceback", "object at 0x", "NoneType", "KeyError")


@same_folder
@given(spoilt(), st.sampled_from(list(PACKED)), st.sampled_from(list(FILES)))
def test_no_spoilt_conversation_breaks_the_check(
    records: list[Written], packed: str, form: str
) -> None:
    """It is read without inventing a text, or refused with a reason in words about the data."""
    if "messages" in records[0] and packed != "a value":
        records[0]["messages"] = PACKED[packed](records[0]["messages"])
    names = dict.fromkeys(name for record in records for name in record)
    rows = [{name: record.get(name) for name in names} for record in records]
    path = write_content(json.dumps(FILES[form](rows) if names else rows).encode())
    try:
        check = check_files(CheckSettings(data=(path,)))
    except (UsageError, DataError) as error:
        said = [str(error)]
    else:
        said = [str(it) for it in check.findings]
        assert check.train.examples or said
    assert not any(word in it for it in said for word in FOREIGN)
