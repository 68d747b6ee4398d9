"""Specification of the faults of a record, and of misspelled fields."""

from __future__ import annotations

import pytest
from record_forms import (
    ALPACA,
    ASK,
    CHAT,
    DOLLY,
    GSM8K,
    SAY,
    TASKS,
    TEXT,
    TRL,
    Row,
    complaint_about,
    one_example,
    own_fields,
)

from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.layouts import Layout

FAULTS: dict[str, tuple[Kind, Row, Layout]] = {
    "missing field 'output' (fields: 'instruction')": (
        Kind.MISSING_FIELD,
        {"instruction": "q"},
        ALPACA,
    ),
    "missing field 'instruction' (fields: none)": (Kind.MISSING_FIELD, {}, ALPACA),
    "missing field 'instruction' (fields: 'input', 'output')": (
        Kind.MISSING_FIELD,
        {"input": "q", "output": "a"},
        ALPACA,
    ),
    "missing field 'messages' (fields: 'text')": (Kind.MISSING_FIELD, {"text": "t"}, CHAT),
    "missing field 'text' (fields: 'id')": (Kind.MISSING_FIELD, {"id": 1}, TEXT),
    "missing field 'completion' (fields: 'prompt', 'answer')": (
        Kind.MISSING_FIELD,
        {"prompt": "q", "answer": "a"},
        TRL,
    ),
    "missing field 'instances' (fields: 'instruction')": (
        Kind.MISSING_FIELD,
        {"instruction": "q"},
        TASKS,
    ),
    "instance 2: missing field 'output' (fields: 'input')": (
        Kind.MISSING_FIELD,
        {"instruction": "q", "instances": [{"output": "a"}, {"input": "i"}]},
        TASKS,
    ),
    "field 'instruction' is null; expected a string": (
        Kind.WRONG_TYPE,
        {"instruction": None, "output": "a"},
        ALPACA,
    ),
    "field 'output' is null; expected a string": (
        Kind.WRONG_TYPE,
        {"instruction": "q", "output": None},
        ALPACA,
    ),
    "field 'instruction' is a list; expected a string": (
        Kind.WRONG_TYPE,
        {"instruction": ["q"], "output": "a"},
        ALPACA,
    ),
    "field 'input' is a number; expected a string": (
        Kind.WRONG_TYPE,
        {"instruction": "q", "output": "a", "input": 5},
        ALPACA,
    ),
    "field 'tag' is a number; expected a string": (
        Kind.WRONG_TYPE,
        {"instruction": "q", "output": "a", "tag": 1.5},
        ALPACA,
    ),
    "field 'group' is a boolean; expected a string": (
        Kind.WRONG_TYPE,
        {"instruction": "q", "output": "a", "group": True},
        ALPACA,
    ),
    "field 'system' is an object; expected a string": (
        Kind.WRONG_TYPE,
        {"messages": [ASK, SAY], "system": {}},
        CHAT,
    ),
    "field 'instances' is a string; expected a list": (
        Kind.WRONG_TYPE,
        {"instruction": "q", "instances": "a"},
        TASKS,
    ),
    "instance 1 is a string; expected an object": (
        Kind.WRONG_TYPE,
        {"instruction": "q", "instances": ["a"]},
        TASKS,
    ),
    "field 'history' is a string; expected a list": (
        Kind.WRONG_TYPE,
        {"instruction": "q", "output": "a", "history": "before"},
        ALPACA,
    ),
    "pair 2 of 'history' is not a list of a question and an answer": (
        Kind.BAD_TURNS,
        {"instruction": "q", "output": "a", "history": [["q", "a"], ["q"]]},
        ALPACA,
    ),
    "pair 1 of 'history' contains an empty text": (
        Kind.BAD_TURNS,
        {"instruction": "q", "output": "a", "history": [["q", " "]]},
        ALPACA,
    ),
    "pair 1 of 'history' is not a list of a question and an answer": (
        Kind.BAD_TURNS,
        {"instruction": "q", "output": "a", "history": [["q", "a", "b"]]},
        ALPACA,
    ),
    "pair 1 of 'history' is null; expected a string": (
        Kind.WRONG_TYPE,
        {"instruction": "q", "output": "a", "history": [[None, "a"]]},
        ALPACA,
    ),
    "field 'instances' is empty": (
        Kind.EMPTY_ANSWER,
        {"instruction": "q", "instances": []},
        TASKS,
    ),
    "field 'instruction' is empty": (
        Kind.EMPTY_PROMPT,
        {"instruction": " \n", "output": "a"},
        ALPACA,
    ),
    "field 'instruction' is empty (if 'input' is the question, use --prompt_field input)": (
        Kind.EMPTY_PROMPT,
        {"instruction": "", "output": "a", "input": "q"},
        ALPACA,
    ),
    "field 'question' is empty (if 'context' is the question, use --prompt_field context)": (
        Kind.EMPTY_PROMPT,
        {"question": "", "answer": "a", "context": "q"},
        GSM8K,
    ),
    "field 'output' is empty": (
        Kind.EMPTY_ANSWER,
        {"instruction": "q", "output": "\t"},
        ALPACA,
    ),
    "field 'text' is empty": (Kind.EMPTY_ANSWER, {"text": ""}, TEXT),
    "field 'instruction' contains an unpaired surrogate": (
        Kind.LONE_SURROGATE,
        {"instruction": "\ud83d", "output": "a"},
        ALPACA,
    ),
    "field 'group' contains an unpaired surrogate": (
        Kind.LONE_SURROGATE,
        {"instruction": "q", "output": "a", "group": "\udc00"},
        ALPACA,
    ),
    "pair 1 of 'history' contains an unpaired surrogate": (
        Kind.LONE_SURROGATE,
        {"instruction": "q", "output": "a", "history": [["q", "\udc00"]]},
        ALPACA,
    ),
}


@pytest.mark.parametrize(("what", "case"), FAULTS.items(), ids=FAULTS)
def test_a_faulty_record_is_named(what: str, case: tuple[Kind, Row, Layout]) -> None:
    """A faulty record is reported with its field and the value found there."""
    kind, row, layout = case
    assert complaint_about(row, layout) == (kind, what)


def test_many_fields_are_not_all_listed() -> None:
    """A missing field is reported with at most thirty of those present."""
    row: Row = dict.fromkeys([*(f"f{number}" for number in range(32)), "x" * 50], 1)
    _, detail = complaint_about(row, ALPACA)
    assert detail.endswith("'f28', 'f29', and 3 more)")


@pytest.mark.parametrize(
    ("row", "layout", "wrong", "right"),
    [
        ({"instruction": "q", "ouput": "a"}, ALPACA, "ouput", "output"),
        ({"instruction": "q", "outptu": "a"}, ALPACA, "outptu", "output"),
        ({"Instruction": "q", "output": "a"}, ALPACA, "Instruction", "instruction"),
        ({"INSTRUCTION": "q", "RESPONSE": "a"}, DOLLY, "INSTRUCTION", "instruction"),
        ({"instruction": "q", " output": "a"}, ALPACA, " output", "output"),
        ({"instruction": "q", "output": "a", "inptu": "i"}, ALPACA, "inptu", "input"),
        ({"instruction": "q", "output": "a", "inputs": "i"}, ALPACA, "inputs", "input"),
        ({"instruction": "q", "output": "a", "tags": "t"}, ALPACA, "tags", "tag"),
        ({"instruction": "q", "output": "a", "groups": 3}, ALPACA, "groups", "group"),
        ({"instruction": "q", "output": "a", "sytem": "s"}, ALPACA, "sytem", "system"),
        ({"instruction": "q", "output": "a", "histroy": []}, ALPACA, "histroy", "history"),
        ({"mesages": [ASK, SAY]}, CHAT, "mesages", "messages"),
        ({"asks": "q", "say": "a"}, own_fields("ask", "say"), "asks", "ask"),
        ({"texts": "t"}, TEXT, "texts", "text"),
    ],
)
def test_a_misspelt_field_is_named(row: Row, layout: Layout, wrong: str, right: str) -> None:
    """A field whose name is nearly that of an absent one is a fault, and never ignored silently."""
    assert complaint_about(row, layout) == (
        Kind.MISSPELT_FIELD,
        f"unknown field {wrong!r}; did you mean {right!r}?",
    )


@pytest.mark.parametrize(
    "more",
    [
        {"outputs": "x"},
        {"tags": ["x", "y"]},
        {"tags": None},
        {"groups": 1.5},
        {"inputs": {"a": 1}},
        {"inputs": 3},
        {"category": "x"},
        {"Source": "x", "id": 3, "topic": "y"},
        {"label": "good"},
        {"label": 1},
        {"scores": [1, 2]},
        {"chosen": "x"},
        {"images": []},
        {"tools": "a hammer"},
        {"x" * 100_000: "y"},
    ],
    ids=lambda more: str(more)[:30],
)
def test_other_fields_are_accepted(more: Row) -> None:
    """A field that cannot be a misspelling, or is a note about a complete record, is ignored."""
    assert one_example({"instruction": "q", "output": "a", **more}, ALPACA).answer == "a"


def test_a_missing_field_is_reported_before_a_misspelled_optional_one() -> None:
    """In a record of another format, names are not taken for misspelled optional ones."""
    assert complaint_about({"inputs": "q", "targets": "a"}, ALPACA) == (
        Kind.MISSING_FIELD,
        "missing field 'instruction' (fields: 'inputs', 'targets')",
    )
