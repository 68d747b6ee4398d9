"""Specification of lists stored as text: JSON and Python's notation are read, with a note."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence

import pyarrow
import pyarrow.parquet
import pytest
from read_files import AUTO, texts_of, write_content

from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.read import Records, read_records
from finetuning_exam.errors import UsageError
from finetuning_exam.settings import FieldSettings

pytestmark = pytest.mark.usefixtures("folder")

TURNS = [
    {"role": "user", "content": "What is a tree?"},
    {"role": "assistant", "content": "A plant, isn't it?"},
]
SHAREGPT = [{"from": "human", "value": "What is a tree?"}, {"from": "gpt", "value": "A plant."}]
Columns = Mapping[str, Sequence[object]]
PAIRS = [{"human": "What is a tree?", "assistant": "A plant."}]


def _write(columns: Columns, form: str) -> str:
    """Write the columns as a file of one form, and return its name."""
    rows = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    if form == "csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(rows)
        return write_content(text.getvalue().encode(), "d.csv")
    if form == "parquet":
        pyarrow.parquet.write_table(pyarrow.table(columns), "d.parquet")
        return "d.parquet"
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    return write_content(lines.encode())


def _read(columns: Columns, form: str = "jsonl", fields: FieldSettings = AUTO) -> Records:
    return read_records([_write(columns, form)], fields)


def _refusal(columns: Columns, form: str = "jsonl") -> str:
    with pytest.raises(UsageError) as caught:
        _read(columns, form)
    return str(caught.value)


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize("name", ["messages", "conversations", "conversation"])
@pytest.mark.parametrize("turns", [TURNS, SHAREGPT, PAIRS], ids=["openai", "sharegpt", "pairs"])
def test_conversations_in_json_are_read(form: str, name: str, turns: object) -> None:
    """In any kind of file, a conversation field of JSON texts is read as its lists, with a note."""
    found = _read({"id": ["a1", "a2"], name: [json.dumps(turns)] * 2}, form)
    assert [it.instruction for it in found.examples] == ["What is a tree?"] * 2
    line = 2 if form == "csv" else 1
    notes = [it for it in found.findings if it.kind is Kind.UNPACKED]
    assert [(it.line, it.detail) for it in notes] == [
        (line, f"field {name!r} holds JSON as text; its lists are read")
    ]


@pytest.mark.parametrize(
    "packed",
    [
        json.dumps(json.dumps(TURNS)),
        [json.dumps(turn) for turn in TURNS],
        " \n" + json.dumps(TURNS, indent=1) + "\n",
    ],
    ids=["text of a text", "list of texts", "indented"],
)
def test_other_ways_to_pack_a_conversation_are_read(packed: object) -> None:
    """A text inside a text, and a list whose turns are texts, are the same conversation."""
    (example,) = _read({"messages": [packed]}).examples
    assert example.answer == "A plant, isn't it?"


def test_prompt_and_completion_in_json_are_read() -> None:
    """TRL's conversational form in a table; a history and instances likewise."""
    columns: Columns = {
        "prompt": [json.dumps(TURNS[:1])] * 2,
        "completion": [json.dumps(TURNS[1:])] * 2,
    }
    assert [it.instruction for it in _read(columns, "csv").examples] == ["What is a tree?"] * 2
    history = json.dumps([["Hello there.", "Good day."]])
    found = _read(
        {"instruction": ["What is it?"] * 2, "output": ["It is."] * 2, "history": [history, ""]},
        "csv",
    )
    assert [len(it.earlier) for it in found.examples] == [2, 0]


def test_a_text_that_is_no_list_is_a_fault_of_its_record() -> None:
    """Beside conversations in JSON, another text is refused with its own reason."""
    texts: list[object] = [json.dumps(TURNS)] * 2
    texts += ["[{'role': array('user')}]", "hello", "", '[{"role": "user",}]', '{"role": "user"}']
    found = _read({"messages": texts}, "csv")
    assert len(found.examples) == 2
    errors = [it for it in found.findings if it.kind.severity == "error"]
    assert [(it.kind, it.line, it.detail) for it in errors] == [
        (
            Kind.PYTHON_NOTATION,
            4,
            "field 'messages' is Python's notation as text; expected a list",
        ),
        (Kind.WRONG_TYPE, 5, "field 'messages' is a string; expected a list"),
        (Kind.BAD_TURNS, 6, "field 'messages' is empty"),
        (
            Kind.NOT_JSON,
            7,
            "field 'messages' is text and not valid JSON (comma before a closing bracket "
            "at column 17)",
        ),
        (Kind.WRONG_TYPE, 8, "field 'messages' is JSON as text; expected a list"),
    ]


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize(
    "turns", [TURNS, SHAREGPT, PAIRS, tuple(TURNS), [["What is a tree?", "x"]]]
)
def test_pythons_notation_is_read(form: str, turns: object) -> None:
    """The text of a list that `str` wrote is read as its list, with one note."""
    found = _read({"id": ["a1", "a2"], "messages": [repr(turns)] * 2}, form)
    assert [it.instruction for it in found.examples] == ["What is a tree?"] * 2
    notes = [it.detail for it in found.findings if it.kind is Kind.UNPACKED]
    assert notes == ["field 'messages' holds Python's notation as text; its lists are read"]


@pytest.mark.parametrize(
    "texts",
    [
        ("What's a tree?", "It's a plant."),
        ["What's a tree?", "It's a plant."],
        (("What's a tree?", "It's a plant."),),
        [("What's a tree?", "It's a plant.")],
        ["What's a tree?", 'It\'s a "plant".'],
    ],
)
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_texts_with_apostrophes_are_read(form: str, texts: object) -> None:
    """Python writes them with JSON's quotation marks, but for those that have both."""
    found = _read({"messages": [repr(texts)] * 2}, form)
    assert [it.instruction for it in found.examples] == ["What's a tree?"] * 2
    assert {it.answer.replace('"', "") for it in found.examples} == {"It's a plant."}


def test_nan_in_pythons_notation_is_nothing() -> None:
    """A data frame writes it where a turn lacks a field; in a text it stays what it is."""
    text = (
        "[{'role': 'user', 'content': 'A nan, nan?', 'weight': nan}, "
        "{'role': 'bot', 'content': 'nan.'}]"
    )
    (example,) = _read({"messages": [text]}).examples
    assert (example.instruction, example.answer) == ("A nan, nan?", "nan.")


@pytest.mark.parametrize(
    "text",
    [
        "[{'role': 'user', 'content': array(['q'], dtype=object)}]",
        "[{'role': 'user', 'content': 'q'} {'role': 'assistant', 'content': 'a'}]",
        "['What is a tree?' 'A plant.']",
        "[{'role': 'user', 'content': None if True else 'q'}]",
        "[{'role': 'user', 'content': __import__('os').getcwd()}]",
        "[{'role': 'user', 'content': b'q'}]",
        "[" * 101 + "'a'," + "]" * 101,
        "['a', " + "1 -1 " * 100_000 + "]",
        "[" + "'a b', " * (1 << 18) + "'b']",
    ],
    ids=range(9),
)
def test_what_is_no_literal_is_refused_once(text: str) -> None:
    """Nothing is executed, no texts are joined, and a literal has a largest size and depth."""
    assert _refusal({"id": ["a1", "a2"], "messages": [text] * 2}).startswith(
        "d.jsonl: field 'messages' holds lists in Python's notation as text. "
    )


def test_arrays_cannot_be_restored_from_their_text() -> None:
    """Numpy writes no commas, so the hint is to write the data frame anew."""
    text = "[{'role': 'user', 'content': 'q'}\n {'role': 'assistant', 'content': 'a'}]"
    assert "Write the original data frame as JSON" in _refusal({"messages": [text] * 2}, "csv")


@pytest.mark.parametrize("name", ["text", "instruction", "output"])
def test_conversations_in_json_are_never_trained_as_text(name: str) -> None:
    """A field of text whose values are all lists of turns is read or refused, in both notations."""
    row: Columns = {"instruction": ["a b"] * 2, "output": ["c d"] * 2}
    columns = (
        {"text": [json.dumps(TURNS)] * 2}
        if name == "text"
        else {
            **row,
            name: [json.dumps(TURNS)] * 2,
        }
    )
    for notation, text in (("JSON", json.dumps(TURNS)), ("Python's notation", repr(TURNS))):
        changed: Columns = {**columns, name: [text] * 2}
        if name == "text":
            found = _read(changed, "csv")
            assert [it.answer for it in found.examples] == ["A plant, isn't it?"] * 2
            (note,) = texts_of(found.findings)
            assert f"field 'text' holds {notation} as text; its lists are read" in note
            continue
        assert _refusal(changed, "csv") == (
            f"d.csv: field {name!r} holds conversations in {notation} as text. "
            f"Read them with --format messages --prompt_field {name}."
        )


@pytest.mark.parametrize(
    "row",
    [{"messages": TURNS}, {"instruction": "q", "output": "a"}, {"prompt": "q", "completion": "a"}],
)
def test_records_in_json_are_never_trained_as_text(row: object) -> None:
    """A plain text that is a record of a known format in JSON is refused; other JSON is text."""
    assert _refusal({"text": [json.dumps(row)] * 2}) == (
        "d.jsonl: field 'text' holds records in JSON as text. "
        "Write the records themselves: json.loads(record['text']) returns each."
    )
    assert len(_read({"text": ['{"colour": "green"}']}).examples) == 1


def test_the_remedy_for_conversations_in_json_works() -> None:
    """With the flags that the error names, the conversations are read."""
    fields = FieldSettings(format="messages", prompt_field="text")
    found = _read({"text": [json.dumps(TURNS)] * 2}, "csv", fields)
    assert [it.answer for it in found.examples] == ["A plant, isn't it?"] * 2


def test_json_that_is_asked_for_is_text() -> None:
    """An answer in JSON is an answer, and a field named as text is text."""
    answer: list[object] = ['{"colour": "green"}', '["green", "brown"]']
    found = _read({"instruction": ["What colour?", "Which?"], "output": answer})
    assert [it.answer for it in found.examples] == answer
    fields = FieldSettings(format="text", prompt_field="messages")
    (example,) = _read({"messages": [json.dumps(TURNS)]}, fields=fields).examples
    assert example.answer == json.dumps(TURNS)
    assert texts_of(_read({"text": ["[sic] a text."]}).findings) == []


@pytest.mark.parametrize(
    "text", ["[{'role': array('user')}]", "[{'role': 'user'} {'role': 'assistant'}]"]
)
def test_a_few_texts_beside_lists_do_not_refuse_the_file(text: str) -> None:
    """They are faults of their records, and the others are read."""
    found = _read({"messages": [TURNS, text, TURNS, json.dumps(TURNS)]})
    assert [it.line for it in found.examples] == [1, 3, 4]
    assert [(it.kind, it.line) for it in found.findings if it.kind is not Kind.UNPACKED] == [
        (Kind.PYTHON_NOTATION, 2)
    ]
