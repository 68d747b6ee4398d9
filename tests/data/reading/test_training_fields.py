"""Specification of fields that would change training: honoured, default, or refused by name."""

from __future__ import annotations

import json
import math

import pytest
from read_files import AUTO, read_content, write_content
from record_forms import (
    ALPACA,
    ASK,
    CHAT,
    SAY,
    TASKS,
    TEXT,
    Row,
    complaint_about,
    one_example,
    own_fields,
)

from finetuning_exam.data.fix import clean_copy
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.formats import Place, to_examples
from finetuning_exam.data.reading.layouts import Layout
from finetuning_exam.data.reading.read import read_records

pytestmark = pytest.mark.usefixtures("folder")

PAIR: Row = {"instruction": "q", "output": "a"}
TURNS: Row = {"messages": [ASK, SAY]}
PLAIN: Row = {"text": "t"}
FORMS = [(PAIR, ALPACA), (TURNS, CHAT), (PLAIN, TEXT)]
SWITCH = "choosing what is trained by record is not supported"


@pytest.mark.parametrize(("row", "layout"), FORMS, ids=["pair", "turns", "text"])
@pytest.mark.parametrize(
    ("name", "value", "detail"),
    [
        ("train_on_inputs", True, f"is true; {SWITCH}"),
        ("loss_mask", [0, 1], "chooses what is trained, which is not supported"),
        ("history", [["q", "a"]], "is not read in this format, but belongs to the prompt"),
        (
            "chat_template_kwargs",
            {"enable_thinking": False},
            "is not read in this format, but belongs to the prompt",
        ),
    ],
)
def test_a_choice_of_what_is_trained_is_refused(
    row: Row, layout: Layout, name: str, value: object, detail: str
) -> None:
    """A weight, a mask or a part of the prompt that is not read is an error in every format."""
    if name == "history" and layout is ALPACA:
        assert one_example({**row, name: value}, layout).earlier
        return
    found = complaint_about({**row, name: value}, layout)
    assert found == (Kind.CHANGES_TRAINING, f"field {name!r} {detail}")


@pytest.mark.parametrize(("row", "layout"), FORMS, ids=["pair", "turns", "text"])
@pytest.mark.parametrize(
    "more",
    [
        {"weight": 1},
        {"weight": 1.0, "loss_weight": None},
        {"weight": True},
        {"weight": "1"},
        {"weight": "", "system_message": "", "tools": "", "image": ""},
        {"weight": math.nan},
        {"train": True},
        {"train": "true", "train_on_inputs": False},
        {"images": [], "image": None, "tools": [], "functions": {}},
        {"image": {"bytes": None, "path": None}},
        {"loss_mask": None, "history": [], "systemInstruction": None},
        {"loss": 0.25},
    ],
)
def test_defaults_and_nothing_are_accepted(row: Row, layout: Layout, more: Row) -> None:
    """What is done anyway, and null, NaN or empty values, are no fault."""
    assert one_example({**row, **more}, layout) == one_example(row, layout)


@pytest.mark.parametrize(("row", "layout"), FORMS, ids=["pair", "turns", "text"])
@pytest.mark.parametrize(
    ("more", "weight"),
    [
        ({"weight": 0.5}, 0.5),
        ({"weight": 5}, 5),
        ({"weight": "0.25"}, 0.25),
        ({"loss_weight": 2, "sample_weight": 3}, 6),
    ],
)
def test_the_weight_of_a_record_is_kept(row: Row, layout: Layout, more: Row, weight: float) -> None:
    """It is a factor of the loss, in every format."""
    assert one_example({**row, **more}, layout).weight == weight


@pytest.mark.parametrize(("row", "layout"), FORMS, ids=["pair", "turns", "text"])
@pytest.mark.parametrize(
    "more", [{"weight": 0}, {"weight": "0"}, {"sample_weight": False}, {"train": "no"}]
)
def test_a_record_of_weight_0_is_left_out(row: Row, layout: Layout, more: Row) -> None:
    """It is not trained, and a warning says so."""
    assert complaint_about({**row, **more}, layout) == (Kind.NOT_TRAINED, "its weight is 0")


def test_weights_of_a_record_and_its_turns_are_multiplied() -> None:
    """Each answer has its own."""
    turns = [ASK, {**SAY, "weight": 0.5}, ASK, SAY]
    assert one_example({"messages": turns, "weight": 4}, CHAT).weights == (2, 4)
    tasks: Row = {"instruction": "q", "weight": 2, "instances": [{"output": "a", "weight": 3}]}
    assert one_example(tasks, TASKS).weight == 6


def test_a_default_is_not_an_unused_field() -> None:
    """A weight of 1 is honoured, so no note says that it is not used."""
    rows = [{**PAIR, "weight": 1, "train": True, "images": [], "tools": None}] * 2
    content = "".join(json.dumps(row) + "\n" for row in rows)
    assert read_content(content.encode()).findings == ()


@pytest.mark.parametrize("name", ["weight", "sample_weight"])
@pytest.mark.parametrize("value", ["high", [1], {"a": 1}])
def test_a_weight_must_be_a_number(name: str, value: object) -> None:
    """Anything else is a wrong type."""
    kind, detail = complaint_about({**PAIR, name: value}, ALPACA)
    assert kind is Kind.WRONG_TYPE
    assert detail.endswith("; expected a number")


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("weight", "0", "a string; expected a number"),
        ("weight", "1", "a string; expected a number"),
        ("loss_weight", [1], "a list; expected a number"),
        ("train", "no", "a string; expected a number"),
        ("loss", {"a": 1}, "an object; expected a number"),
    ],
)
def test_a_mask_of_a_turn_must_have_its_type(key: str, value: object, what: str) -> None:
    """Text where a number belongs is refused as such."""
    row: Row = {"messages": [ASK, {**SAY, key: value}]}
    detail = f"field {key!r} of turn 2 of 'messages' is {what}"
    assert complaint_about(row, CHAT) == (Kind.WRONG_TYPE, detail)


@pytest.mark.parametrize(
    ("row", "layout", "detail"),
    [
        (
            {**PLAIN, "system": "Be kind."},
            TEXT,
            "field 'system' is not read; plain text has no system prompt",
        ),
        (
            {**PAIR, "system_message": "Be kind."},
            ALPACA,
            "field 'system_message' is not read; rename it to 'system'",
        ),
        (
            {**TURNS, "systemInstruction": {"parts": [{"text": "Be kind."}]}},
            CHAT,
            "field 'systemInstruction' is not read; rename it to 'system'",
        ),
        (
            {"instruction": "q", "instances": [{"output": "a"}], "history": [["q", "a"]]},
            TASKS,
            "field 'history' is not read in this format, but belongs to the prompt",
        ),
    ],
)
def test_a_system_text_that_is_not_read_is_refused(row: Row, layout: Layout, detail: str) -> None:
    """A part of the prompt is never dropped."""
    assert complaint_about(row, layout) == (Kind.CHANGES_TRAINING, detail)


TOOLS = [[{"name": "f"}], {"name": "f"}, '[{"name": "f"}]']


@pytest.mark.parametrize(("row", "layout"), FORMS[:2], ids=["pair", "turns"])
@pytest.mark.parametrize("tools", TOOLS)
def test_tools_are_read_beside_questions(row: Row, layout: Layout, tools: object) -> None:
    """They are part of the prompt."""
    assert one_example({**row, "tools": tools}, layout).tools == '[{"name": "f"}]'


@pytest.mark.parametrize("tools", TOOLS)
def test_tools_beside_a_plain_text_are_refused(tools: object) -> None:
    """It has no prompt that they could be part of."""
    found = complaint_about({**PLAIN, "tools": tools}, TEXT)
    assert found == (Kind.BAD_TOOLS, "field 'tools' defines tools, but plain text calls none")


@pytest.mark.parametrize(
    "answer", ['[{"name": "f", "arguments": {}}]', '{"name": "f", "parameters": null}']
)
def test_an_answer_beside_tools_may_be_a_call_in_json(answer: str) -> None:
    """It is read as a call (xLAM), which any other answer is not."""
    row: Row = {"query": "q", "response": answer, "tools": TOOLS[0]}
    found = one_example(row, own_fields("query", "response")).answer
    assert found == '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    others = [
        *('{"a": 1}', '{"name": "Bob", "age": 5}', '{"name": "g", "arguments": {}}'),
        *('[{"name": "Hotel", "price": 1}]', '{"name": "f", "arguments": {}} Done.'),
    ]
    for other in others:
        words: Row = {**row, "response": other}
        assert one_example(words, own_fields("query", "response")).answer == other
    turns: Row = {"messages": [ASK, {**SAY, "content": answer}], "tools": TOOLS[0]}
    assert one_example(turns, CHAT).answer == answer


def test_a_broken_call_beside_tools_is_an_error() -> None:
    """It would teach broken JSON."""
    broken = '<tool_call>\n{"name": "f", "argum\n</tool_call>'
    row: Row = {"messages": [ASK, {**SAY, "content": broken}]}
    assert complaint_about({**row, "tools": TOOLS[0]}, CHAT)[0] is Kind.BAD_TOOLS
    assert one_example(row, CHAT).answer == broken


def test_an_instance_of_weight_0_is_left_out() -> None:
    """The others of its record are kept."""
    instances = [{"output": "a"}, {"output": "wrong", "weight": 0}]
    (found,) = to_examples({"instruction": "q", "instances": instances}, TASKS, Place("d", 1))
    assert found.answer == "a"


@pytest.mark.parametrize(("row", "layout"), FORMS, ids=["pair", "turns", "text"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("images", ["x.png"]),
        ("image", "x.png"),
        ("image", {"bytes": b"x", "path": None}),
        ("audio", {"array": [0.5]}),
        ("videos", [{"path": "x.mp4"}]),
    ],
)
def test_media_are_refused_in_every_format(
    row: Row, layout: Layout, name: str, value: object
) -> None:
    """A record about an image is never trained without it."""
    kind, detail = complaint_about({**row, name: value}, layout)
    assert kind is Kind.UNSUPPORTED
    assert detail.startswith(f"field {name!r} is for multimodal training; ")


@pytest.mark.parametrize(
    "turn",
    [
        {**ASK, "images": ["x.png"]},
        {"role": "user", "content": [{"type": "text", "text": "q", "image_url": {"url": "x"}}]},
        {"role": "user", "content": [{"type": "text", "text": "q", "input_audio": "x"}]},
    ],
)
def test_media_in_turns_are_refused(turn: Row) -> None:
    """They are refused even where the part or the turn has a text too."""
    kind, detail = complaint_about({"messages": [turn, SAY]}, CHAT)
    assert kind is Kind.UNSUPPORTED
    assert detail.endswith("; only text is supported")


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({"weight": 0}, Kind.NOT_TRAINED),
        ({"train": False}, Kind.NOT_TRAINED),
        ({"weight": -1}, Kind.WRONG_TYPE),
        ({"images": ["x.png"]}, Kind.UNSUPPORTED),
        ({"tools": [{"name": "f"}]}, Kind.BAD_TOOLS),
    ],
)
def test_every_form_of_a_turn_has_the_same_rules(more: Row, kind: Kind) -> None:
    """A pair in one object, a turn, and an instance are refused alike, and nothing is accepted."""
    nothing: Row = dict.fromkeys(more)
    for turns in ([ASK, {**SAY, **more}], [{"human": "q", "assistant": "a", **more}]):
        assert complaint_about({"messages": turns}, CHAT)[0] is kind
    instance: Row = {"instruction": "q", "instances": [{"output": "a", **more}]}
    assert complaint_about(instance, TASKS)[0] is kind
    assert one_example({"messages": [{"human": "q", "assistant": "a", **nothing}]}, CHAT)
    assert one_example({"instruction": "q", "instances": [{"output": "a", **nothing}]}, TASKS)


SPLITS = {
    "test": ("split", ["train", "test", "train", "test"], [2, 4]),
    "validation": ("split", ["train", "validation", "train", "Dev"], [2, 4]),
    "partition": ("partition", ["training", "eval", None, "training"], [2]),
}


@pytest.mark.parametrize(("field", "splits", "lines"), SPLITS.values(), ids=SPLITS)
def test_rows_of_another_split_are_not_trained(
    field: str, splits: list[str | None], lines: list[int]
) -> None:
    """Beside training rows, each is an error with the counts, no example, and not in the copy."""
    rows = [{**PAIR, "instruction": f"q{at}", field: it} for at, it in enumerate(splits)]
    records = read_content("".join(json.dumps(row) + "\n" for row in rows).encode())
    found = [it for it in records.findings if it.kind is Kind.HELD_OUT]
    assert [it.line for it in found] == lines
    assert "train" in found[0].detail
    assert f"{splits[1]!r}: " in found[0].detail
    assert [it.line for it in records.examples] == [
        line for line in range(1, 5) if line not in lines
    ]
    assert len(clean_copy(records, records.findings).lines) == 4 - len(lines)


@pytest.mark.parametrize("split", ["train", "test", "news"])
def test_a_file_of_one_split_is_read(split: str) -> None:
    """An exam file may hold test rows, and a training file training rows."""
    content = (json.dumps({**PAIR, "split": split}) + "\n").encode()
    records = read_records([write_content(content * 2)], AUTO)
    assert len(records.examples) == 2
    assert [it.kind for it in records.findings] == [Kind.UNUSED_FIELD] * (split != "train")


@pytest.mark.parametrize("name", ["label", "Sentiment", "category"])
def test_a_label_beside_a_text_is_a_warning(name: str) -> None:
    """It is what a classification is to learn, so the flags that read it are named."""
    content = f"text,{name}\nA good film.,good\nA bad film.,bad\n".encode()
    (found,) = read_records([write_content(content, "d.csv")], AUTO).findings
    assert (found.kind, str(found)) == (
        Kind.UNUSED_LABEL,
        f"d.csv:2: field {name!r} is not used, only 'text' is trained; to learn it as the answer, "
        f"use --prompt_field text --answer_field {name}.",
    )


def test_a_label_that_is_a_number_must_become_a_word() -> None:
    """The flags alone would not read it."""
    (found,) = read_content(b'{"text": "A good film.", "label": 1}\n').findings
    assert found.detail.endswith(
        "write its values as words, then use --prompt_field text --answer_field label"
    )
