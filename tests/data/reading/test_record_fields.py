"""Specification of reading the fields of a record as examples."""

from __future__ import annotations

import pytest
from record_forms import (
    ALPACA,
    ASK,
    CHAT,
    DOLLY,
    GSM8K,
    PLACE,
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
from finetuning_exam.data.reading.formats import Place, to_examples
from finetuning_exam.data.reading.layouts import Layout
from finetuning_exam.data.records import Example, Turn


def test_all_fields_of_a_record() -> None:
    """Every field of an instruction has its place in the example."""
    row: Row = {
        "instruction": "q",
        "input": "i",
        "output": "a",
        "system": "s",
        "history": [["q1", "a1"]],
        "tag": "t",
        "group": "g",
        "category": "c",
    }
    (example,) = to_examples(row, ALPACA, Place("d.json", 3, 41))
    assert example == Example(
        "q",
        "a",
        3,
        "d.json",
        input="i",
        tag="t",
        group="g",
        earlier=(Turn("system", "s"), Turn("user", "q1"), Turn("assistant", "a1")),
        column=41,
    )


@pytest.mark.parametrize("layout", [ALPACA, TRL, GSM8K, DOLLY], ids=lambda it: it.words)
def test_null_is_absent_in_optional_fields(layout: Layout) -> None:
    """null, which tables have for missing values, is the same as no field."""
    bare: Row = {layout.prompt: "q", layout.answer: "a"}
    nulls = dict.fromkeys(layout.used_fields, None)
    assert (
        one_example({**nulls, **bare}, layout)
        == one_example(bare, layout)
        == Example("q", "a", 7, "d.jsonl")
    )


def test_an_empty_cell_of_a_table_is_absent() -> None:
    """A table has "" for a missing input, system text or history."""
    row: Row = {"instruction": "q", "output": "a"}
    row |= dict.fromkeys(("input", "system", "history"), "")
    assert one_example(row, ALPACA) == Example("q", "a", 7, "d.jsonl")


def test_tags_and_groups_may_be_whole_numbers() -> None:
    """An integer names a tag or a group like its text."""
    example = one_example({"instruction": "q", "output": "a", "tag": 0, "group": -12}, ALPACA)
    assert (example.tag, example.group) == ("0", "-12")


@pytest.mark.parametrize("layout", [CHAT, TEXT, TASKS], ids=lambda it: it.words)
def test_every_layout_has_tags_and_groups(layout: Layout) -> None:
    """`tag` and `group` are also read next to turns, texts and instances."""
    row: Row = {
        "messages": [ASK, SAY],
        "text": "t",
        "instruction": "q",
        "instances": [{"output": "a"}],
        "tag": "x",
        "group": "y",
    }
    example = one_example(row, layout)
    assert (example.tag, example.group) == ("x", "y")


def test_context_is_the_input_of_a_response() -> None:
    """Dolly's `context` is the input; next to a filled `input` it is a fault."""
    row: Row = {"instruction": "q", "context": "c", "response": "a"}
    assert one_example(row, DOLLY).input == "c"
    assert one_example({**row, "input": ""}, DOLLY).input == "c"
    assert complaint_about({**row, "input": "i"}, DOLLY) == (
        Kind.DUPLICATE_KEY,
        "fields 'input' and 'context' have the same meaning",
    )
    assert one_example({"instruction": "q", "context": "c", "output": "a"}, ALPACA).input == ""


def test_a_named_field_is_not_read_twice() -> None:
    """A field named as prompt or answer is not also read as an input or a tag."""
    example = one_example({"input": "q", "output": "a"}, own_fields("input", "output"))
    assert (example.instruction, example.input) == ("q", "")
    example = one_example({"instruction": "q", "input": "a"}, own_fields("instruction", "input"))
    assert (example.answer, example.input) == ("a", "")
    example = one_example({"text": "q", "tag": "a"}, own_fields("text", "tag"))
    assert (example.answer, example.tag) == ("a", "")
    example = one_example({"group": "q", "output": "a"}, own_fields("group", "output"))
    assert (example.instruction, example.group) == ("q", "")
    for name in ("system", "system_prompt", "history"):
        assert one_example({name: "q", "output": "a"}, own_fields(name, "output")).earlier == ()


def test_each_instance_is_an_example() -> None:
    """One instruction with several inputs and outputs gives several examples of one line."""
    row: Row = {
        "instruction": "Sort.",
        "system": "s",
        "instances": [{"input": "b a", "output": "a b"}, {"input": None, "output": "none"}],
        "tag": "t",
    }
    first, second = to_examples(row, TASKS, PLACE)
    before = (Turn("system", "s"),)
    assert first == Example("Sort.", "a b", 7, "d.jsonl", input="b a", tag="t", earlier=before)
    assert second == Example("Sort.", "none", 7, "d.jsonl", tag="t", earlier=before)


def test_a_plain_text_is_all_answer() -> None:
    """A plain text has no question; its whitespace is kept."""
    example = one_example({"text": " Once upon.\n"}, TEXT)
    assert example == Example("", " Once upon.\n", 7, "d.jsonl")
    assert example.is_plain_text


def test_prompt_and_completion_as_turns() -> None:
    """TRL's conversational form is one conversation; its turns are named by their own field."""
    row: Row = {"prompt": [{"role": "system", "content": "s"}, ASK], "completion": [SAY]}
    assert one_example(row, TRL) == Example("q", "a", 7, "d.jsonl", earlier=(Turn("system", "s"),))
    assert complaint_about({"prompt": [ASK, SAY], "completion": [SAY]}, TRL) == (
        Kind.BAD_TURNS,
        "turn 1 of 'completion' is an assistant turn; expected a user turn",
    )
    assert complaint_about({"prompt": [ASK], "completion": "a"}, TRL) == (
        Kind.WRONG_TYPE,
        "field 'completion' is a string; expected a list",
    )
    assert complaint_about({"prompt": [ASK], "completion": [SAY], "input": "i"}, TRL) == (
        Kind.BAD_TURNS,
        "'history' and 'input' cannot be combined with a prompt that is a list of turns",
    )
    assert one_example({"prompt": [ASK]}, TRL, answer_required=False).answer == ""


def test_an_answer_may_be_absent_where_none_is_required() -> None:
    """If no answer is required it may be missing or null, but a present one must be text."""
    without: tuple[Row, ...] = ({"instruction": "q"}, {"instruction": "q", "output": None})
    for row in without:
        assert one_example(row, ALPACA, answer_required=False) == Example("q", "", 7, "d.jsonl")
    wrong = {"instruction": "q", "output": 5}
    assert complaint_about(wrong, ALPACA, answer_required=False) == (
        Kind.WRONG_TYPE,
        "field 'output' is a number; expected a string",
    )
    assert complaint_about({"instruction": "q", "output": ""}, ALPACA, answer_required=False) == (
        Kind.EMPTY_ANSWER,
        "field 'output' is empty",
    )
    assert one_example({"messages": [ASK]}, CHAT, answer_required=False).answer == ""
    assert one_example({"prompt": "q", "labels": [1]}, TRL, answer_required=False).answer == ""


@pytest.mark.parametrize("blank", [" ", "\t\n", "\u00a0", "\u200b", "\ufeff", "\u3164"])
def test_a_name_in_which_nothing_can_be_seen_is_absent(blank: str) -> None:
    """Blank cells are no tag, and no group that would hold all their rows together."""
    row: Row = {"instruction": "q", "output": "a", "tag": blank, "group": blank}
    example = one_example(row, ALPACA)
    assert (example.tag, example.group) == ("", "")


@pytest.mark.parametrize("blank", [" ", "\t\n", "\u00a0", "\u200b", "\ufeff", "\u3164"])
def test_a_text_in_which_nothing_can_be_seen_is_absent(blank: str) -> None:
    """A blank input or system text adds no section to the prompt, as if it were not there."""
    row: Row = {"instruction": "q", "output": "a"}
    assert one_example(row | {"input": blank, "system": blank}, ALPACA) == one_example(row, ALPACA)
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    system = {"role": "system", "content": blank}
    assert one_example({"messages": [system, *turns]}, CHAT) == one_example(
        {"messages": turns}, CHAT
    )
    (kept,) = one_example({"messages": [system, *turns], "system": "s"}, CHAT).earlier
    assert kept == Turn("system", "s")
