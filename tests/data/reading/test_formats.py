"""Specification of how the layout of a file is found, and how a record becomes examples."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetuning_exam.data.findings import Fault, Kind
from finetuning_exam.data.reading.formats import Layout, Place, find_layout, to_examples
from finetuning_exam.data.reading.layouts import PAIRS
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.errors import UsageError
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


def _found(
    *rows: Row, wanted: Format = "auto", prompt: str | None = None, answer: str | None = None
) -> Layout:
    return find_layout(iter(rows), wanted, prompt, answer)


def _one(row: Row, layout: Layout, *, answer_required: bool = True) -> Example:
    (example,) = to_examples(row, layout, PLACE, answer_required=answer_required)
    return example


def _complaint(row: Row, layout: Layout, *, answer_required: bool = True) -> tuple[Kind, str]:
    with pytest.raises(Fault) as caught:
        to_examples(row, layout, PLACE, answer_required=answer_required)
    return caught.value.kind, caught.value.detail


# Which layout


@pytest.mark.parametrize(
    ("row", "layout"),
    [
        ({"instruction": "q", "output": "a"}, ALPACA),
        ({"instruction": "q", "input": "i", "output": "a", "text": "all"}, ALPACA),
        ({"instruction": "q", "context": "c", "response": "a"}, DOLLY),
        ({"instruction": "q", "output": None, "response": "a"}, DOLLY),
        ({"instruction": "q", "instances": [{"output": "a"}]}, TASKS),
        ({"query": "q", "response": "a"}, QUERY),
        ({"prompt": "q", "completion": "a"}, TRL),
        ({"completion": "a", "answer": "x", "prompt": "q"}, TRL),
        ({"prompt": "q", "response": "a"}, Layout("prompt_completion", "prompt", "response")),
        ({"question": "q", "answer": "a"}, GSM8K),
        ({"question": "q", "response": "a"}, Layout("question_answer", "question", "response")),
        ({"messages": [ASK, SAY]}, CHAT),
        ({"prompt": "q", "messages": [ASK, SAY]}, CHAT),
        ({"instruction": "q", "output": "a", "messages": [ASK, SAY]}, CHAT),
        ({"instruction": "q", "output": "a", "messages": []}, ALPACA),
        ({"conversations": [ASK, SAY]}, Layout("messages", "conversations", "")),
        ({"conversation": [ASK, SAY]}, Layout("messages", "conversation", "")),
        ({"conversations": [{"from": "human", "value": "q"}]}, SHAREGPT),
        (
            {"conversation": [{"human": "q", "assistant": "a"}]},
            Layout("sharegpt", "conversation", ""),
        ),
        ({"text": "t", "id": 3}, TEXT),
        ({"text": "t", "ouput": "a", "instruction": "q"}, ALPACA),
        ({"output": "a"}, ALPACA),
        ({"messages": []}, CHAT),
        ({"input": "q", "output": "a"}, ALPACA),
        ({"x": 1}, ALPACA),
        ({}, ALPACA),
    ],
)
def test_the_layout_is_found_from_the_fields(row: Row, layout: Layout) -> None:
    """Turns go before a pair, a whole pair before a part of one, any pair before `text`."""
    assert _found(row) == layout


def test_most_records_decide() -> None:
    """The layout is that of most records, wherever the others stand; whole records go first."""
    one, other = {"text": "t"}, {"question": "q", "answer": "a"}
    assert _found(one, other, other) == GSM8K
    assert _found(other, one, one) == TEXT
    assert _found(other, one) == GSM8K
    assert _found({"prompt": "p"}, {"prompt": "p"}, other) == GSM8K
    assert _found() == ALPACA


def test_a_thousand_records_decide() -> None:
    """No more than the first thousand records are looked at."""
    rows = iter([{"text": "t"}] * 1000 + [{"question": "q", "answer": "a"}] * 5000)
    assert find_layout(rows, "auto", None, None) == TEXT
    assert len(list(rows)) == 5000


OTHER_QUESTION = Layout("question_answer", "question", "response")


@pytest.mark.parametrize(
    ("row", "wanted", "layout"),
    [
        ({"instruction": "q", "output": "a", "text": "t"}, "text", TEXT),
        ({"instruction": "q", "response": "a", "prompt": "p"}, "instruction", DOLLY),
        ({"instruction": "q", "output": "a", "prompt": "p"}, "prompt_completion", TRL),
        ({"text": "t"}, "question_answer", GSM8K),
        ({"text": "t", "question": "q", "response": "a"}, "question_answer", OTHER_QUESTION),
        ({"instruction": "q"}, "messages", CHAT),
        ({"instruction": "q"}, "sharegpt", SHAREGPT),
        ({"conversations": [ASK]}, "messages", Layout("messages", "conversations", "")),
        ({"messages": [ASK]}, "sharegpt", Layout("sharegpt", "messages", "")),
    ],
)
def test_the_format_asked_for_wins(row: Row, wanted: Format, layout: Layout) -> None:
    """A format asked for is taken, with whichever of its fields the records have."""
    assert _found(row, wanted=wanted) == layout


def _own(prompt: str, answer: str) -> Layout:
    return Layout("instruction", prompt, answer)


@pytest.mark.parametrize(
    ("row", "prompt", "answer", "layout"),
    [
        ({"ask": "q", "say": "a"}, "ask", "say", _own("ask", "say")),
        ({"ask": "q", "instruction": "x", "output": "a"}, "ask", None, _own("ask", "output")),
        ({"ask": "q", "prompt": "x", "answer": "a"}, "ask", None, _own("ask", "answer")),
        ({"question": "q", "say": "a", "completion": "x"}, None, "say", _own("question", "say")),
        ({"text": "t", "label": "good"}, None, "label", _own("text", "label")),
        ({"text": "t", "label": "good"}, "text", "label", _own("text", "label")),
        ({"text": "t", "label": "good"}, "text", None, _own("text", "output")),
        ({"prompt": "q", "completion": "a"}, "prompt", "completion", TRL),
        ({}, "ask", None, _own("ask", "output")),
    ],
)
def test_named_fields_win(row: Row, prompt: str | None, answer: str | None, layout: Layout) -> None:
    """A field named by a flag is taken; the other one is found from the records."""
    assert _found(row, prompt=prompt, answer=answer) == layout


def test_a_prompt_field_names_the_turns_or_the_text() -> None:
    """For a format of one field `--prompt_field` names that field, and there is no other."""
    assert _found(wanted="text", prompt="body") == Layout("text", "body", "")
    assert _found(wanted="messages", prompt="chat") == Layout("messages", "chat", "")
    with pytest.raises(UsageError) as caught:
        _found(wanted="messages", answer="chat")
    assert str(caught.value) == (
        "--format messages has no field for the answer alone. "
        "Leave --answer_field out; --prompt_field names the field."
    )


def test_a_format_and_fields_go_together() -> None:
    """A format keeps its name when its fields are named by flags."""
    named = _found(wanted="question_answer", prompt="ask", answer="say")
    assert named == Layout("question_answer", "ask", "say")


@pytest.mark.parametrize(
    ("prompt", "answer", "what"),
    [
        ("x", "x", "--prompt_field and --answer_field are both 'x'. Give two fields."),
        (
            "output",
            None,
            "--prompt_field is 'output', which is also the field with the answer. "
            "Give --answer_field too.",
        ),
        (
            None,
            "instruction",
            "--answer_field is 'instruction', which is also the field with the prompt. "
            "Give --prompt_field too.",
        ),
    ],
)
def test_one_field_cannot_be_both(prompt: str | None, answer: str | None, what: str) -> None:
    """A prompt that is its own answer is refused before any record is read."""
    with pytest.raises(UsageError) as caught:
        _found({"instruction": "q", "output": "a"}, prompt=prompt, answer=answer)
    assert str(caught.value) == what


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        (ALPACA, "instruction → output"),
        (TRL, "prompt → completion"),
        (CHAT, "messages (role, content)"),
        (SHAREGPT, "conversations (from, value)"),
        (Layout("sharegpt", "conversation", ""), "conversation (human, assistant)"),
        (TEXT, "plain text (text)"),
    ],
)
def test_a_layout_in_words(layout: Layout, words: str) -> None:
    """A user is told the layout in one line."""
    assert layout.words == words


@pytest.mark.parametrize(
    ("layout", "fields"),
    [
        (ALPACA, "instruction output input system system_prompt history tag group"),
        (DOLLY, "instruction response input context system system_prompt history tag group"),
        (GSM8K, "question answer input context system system_prompt history tag group"),
        (_own("input", "output"), "input output system system_prompt history tag group"),
        (TASKS, "instruction instances system system_prompt tag group"),
        (CHAT, "messages system system_prompt tag group"),
        (TEXT, "text tag group"),
    ],
)
def test_the_fields_that_are_read(layout: Layout, fields: str) -> None:
    """`used_fields` are all fields that may say something in a layout; `category` never does."""
    assert layout.used_fields == set(fields.split())


# Records


def test_all_that_a_record_may_say() -> None:
    """Every field of an instruction stands in its place in the example."""
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
    """null, as tables write what a row does not have, is the same as no field."""
    bare: Row = {layout.prompt: "q", layout.answer: "a"}
    nulls = dict.fromkeys(layout.used_fields, None)
    assert _one({**nulls, **bare}, layout) == _one(bare, layout) == Example("q", "a", 7, "d.jsonl")


def test_an_empty_cell_of_a_table_is_absent() -> None:
    """A table writes "" where a record has no input, system text or history."""
    row = {"instruction": "q", "output": "a", **dict.fromkeys(("input", "system", "history"), "")}
    assert _one(row, ALPACA) == Example("q", "a", 7, "d.jsonl")


def test_tags_and_groups_may_be_whole_numbers() -> None:
    """A whole number names a tag or a group as its text does."""
    example = _one({"instruction": "q", "output": "a", "tag": 0, "group": -12}, ALPACA)
    assert (example.tag, example.group) == ("0", "-12")


@pytest.mark.parametrize("layout", [CHAT, TEXT, TASKS], ids=lambda it: it.words)
def test_every_layout_has_tags_and_groups(layout: Layout) -> None:
    """`tag` and `group` are read beside turns, texts and instances too."""
    row: Row = {
        "messages": [ASK, SAY],
        "text": "t",
        "instruction": "q",
        "instances": [{"output": "a"}],
        "tag": "x",
        "group": "y",
    }
    example = _one(row, layout)
    assert (example.tag, example.group) == ("x", "y")


def test_context_is_the_input_of_a_response() -> None:
    """Dolly's `context` is the input; beside an `input` that says something it is a fault."""
    row: Row = {"instruction": "q", "context": "c", "response": "a"}
    assert _one(row, DOLLY).input == "c"
    assert _one({**row, "input": ""}, DOLLY).input == "c"
    assert _complaint({**row, "input": "i"}, DOLLY) == (
        Kind.DUPLICATE_KEY,
        "the fields 'input' and 'context' mean the same",
    )
    assert _one({"instruction": "q", "context": "c", "output": "a"}, ALPACA).input == ""


def test_a_named_field_is_not_read_twice() -> None:
    """A field named as prompt or answer is not taken a second time as an input or a tag."""
    example = _one({"input": "q", "output": "a"}, _own("input", "output"))
    assert (example.instruction, example.input) == ("q", "")
    example = _one({"instruction": "q", "input": "a"}, _own("instruction", "input"))
    assert (example.answer, example.input) == ("a", "")
    example = _one({"text": "q", "tag": "a"}, _own("text", "tag"))
    assert (example.answer, example.tag) == ("a", "")
    example = _one({"group": "q", "output": "a"}, _own("group", "output"))
    assert (example.instruction, example.group) == ("q", "")
    for name in ("system", "system_prompt", "history"):
        assert _one({name: "q", "output": "a"}, _own(name, "output")).earlier == ()


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
    """A plain text has no question; its white space is kept."""
    example = _one({"text": " Once upon.\n"}, TEXT)
    assert example == Example("", " Once upon.\n", 7, "d.jsonl")
    assert example.is_plain_text


def test_prompt_and_completion_as_turns() -> None:
    """TRL's conversational form is one conversation; its turns are named by their own field."""
    row: Row = {"prompt": [{"role": "system", "content": "s"}, ASK], "completion": [SAY]}
    assert _one(row, TRL) == Example("q", "a", 7, "d.jsonl", earlier=(Turn("system", "s"),))
    assert _complaint({"prompt": [ASK, SAY], "completion": [SAY]}, TRL) == (
        Kind.BAD_TURNS,
        "turn 1 of 'completion' is an assistant turn where a user turn belongs",
    )
    assert _complaint({"prompt": [ASK], "completion": "a"}, TRL) == (
        Kind.WRONG_TYPE,
        "the field 'completion' is a string where a list belongs",
    )
    assert _complaint({"prompt": [ASK], "completion": [SAY], "input": "i"}, TRL) == (
        Kind.BAD_TURNS,
        "'history' or 'input' stands beside a prompt of turns",
    )
    assert _one({"prompt": [ASK]}, TRL, answer_required=False).answer == ""


def test_an_answer_may_be_absent_where_none_is_required() -> None:
    """Without need of an answer it may be missing or null, but what is there must be text."""
    for row in ({"instruction": "q"}, {"instruction": "q", "output": None}):
        assert _one(row, ALPACA, answer_required=False) == Example("q", "", 7, "d.jsonl")
    wrong = {"instruction": "q", "output": 5}
    assert _complaint(wrong, ALPACA, answer_required=False) == (
        Kind.WRONG_TYPE,
        "the field 'output' is a number where text belongs",
    )
    assert _complaint({"instruction": "q", "output": ""}, ALPACA, answer_required=False) == (
        Kind.EMPTY_ANSWER,
        "the field 'output' is empty",
    )
    assert _one({"messages": [ASK]}, CHAT, answer_required=False).answer == ""
    assert _one({"prompt": "q", "labels": [1]}, TRL, answer_required=False).answer == ""


FAULTS: dict[str, tuple[Kind, Row, Layout]] = {
    "the field 'output' is missing (fields: 'instruction')": (
        Kind.MISSING_FIELD,
        {"instruction": "q"},
        ALPACA,
    ),
    "the field 'instruction' is missing (fields: none)": (Kind.MISSING_FIELD, {}, ALPACA),
    "the field 'instruction' is missing (fields: 'input', 'output')": (
        Kind.MISSING_FIELD,
        {"input": "q", "output": "a"},
        ALPACA,
    ),
    "the field 'messages' is missing (fields: 'text')": (Kind.MISSING_FIELD, {"text": "t"}, CHAT),
    "the field 'text' is missing (fields: 'id')": (Kind.MISSING_FIELD, {"id": 1}, TEXT),
    "the field 'completion' is missing (fields: 'prompt', 'answer')": (
        Kind.MISSING_FIELD,
        {"prompt": "q", "answer": "a"},
        TRL,
    ),
    "the field 'instances' is missing (fields: 'instruction')": (
        Kind.MISSING_FIELD,
        {"instruction": "q"},
        TASKS,
    ),
    "in instance 2 the field 'output' is missing (fields: 'input')": (
        Kind.MISSING_FIELD,
        {"instruction": "q", "instances": [{"output": "a"}, {"input": "i"}]},
        TASKS,
    ),
    "the field 'instruction' is null where text belongs": (
        Kind.WRONG_TYPE,
        {"instruction": None, "output": "a"},
        ALPACA,
    ),
    "the field 'output' is null where text belongs": (
        Kind.WRONG_TYPE,
        {"instruction": "q", "output": None},
        ALPACA,
    ),
    "the field 'instruction' is a list where text belongs": (
        Kind.WRONG_TYPE,
        {"instruction": ["q"], "output": "a"},
        ALPACA,
    ),
    "the field 'input' is a number where text belongs": (
        Kind.WRONG_TYPE,
        {"instruction": "q", "output": "a", "input": 5},
        ALPACA,
    ),
    "the field 'tag' is a number where text belongs": (
        Kind.WRONG_TYPE,
        {"instruction": "q", "output": "a", "tag": 1.5},
        ALPACA,
    ),
    "the field 'group' is a boolean where text belongs": (
        Kind.WRONG_TYPE,
        {"instruction": "q", "output": "a", "group": True},
        ALPACA,
    ),
    "the field 'system' is an object where text belongs": (
        Kind.WRONG_TYPE,
        {"messages": [ASK, SAY], "system": {}},
        CHAT,
    ),
    "the field 'instances' is a string where a list belongs": (
        Kind.WRONG_TYPE,
        {"instruction": "q", "instances": "a"},
        TASKS,
    ),
    "instance 1 is a string where an object belongs": (
        Kind.WRONG_TYPE,
        {"instruction": "q", "instances": ["a"]},
        TASKS,
    ),
    "the field 'history' is a string where a list belongs": (
        Kind.WRONG_TYPE,
        {"instruction": "q", "output": "a", "history": "before"},
        ALPACA,
    ),
    "pair 2 of 'history' is not a list of a question and an answer": (
        Kind.BAD_TURNS,
        {"instruction": "q", "output": "a", "history": [["q", "a"], ["q"]]},
        ALPACA,
    ),
    "pair 1 of 'history' has an empty text": (
        Kind.BAD_TURNS,
        {"instruction": "q", "output": "a", "history": [["q", " "]]},
        ALPACA,
    ),
    "pair 1 of 'history' is not a list of a question and an answer": (
        Kind.BAD_TURNS,
        {"instruction": "q", "output": "a", "history": [["q", "a", "b"]]},
        ALPACA,
    ),
    "pair 1 of 'history' is null where text belongs": (
        Kind.WRONG_TYPE,
        {"instruction": "q", "output": "a", "history": [[None, "a"]]},
        ALPACA,
    ),
    "the field 'instances' is empty": (
        Kind.EMPTY_ANSWER,
        {"instruction": "q", "instances": []},
        TASKS,
    ),
    "the field 'instruction' is empty": (
        Kind.EMPTY_PROMPT,
        {"instruction": " \n", "output": "a"},
        ALPACA,
    ),
    "the field 'instruction' is empty (if 'input' is the question: --prompt_field input)": (
        Kind.EMPTY_PROMPT,
        {"instruction": "", "output": "a", "input": "q"},
        ALPACA,
    ),
    "the field 'question' is empty (if 'context' is the question: --prompt_field context)": (
        Kind.EMPTY_PROMPT,
        {"question": "", "answer": "a", "context": "q"},
        GSM8K,
    ),
    "the field 'output' is empty": (
        Kind.EMPTY_ANSWER,
        {"instruction": "q", "output": "\t"},
        ALPACA,
    ),
    "the field 'text' is empty": (Kind.EMPTY_ANSWER, {"text": ""}, TEXT),
    "the field 'instruction' holds half of a surrogate pair": (
        Kind.LONE_SURROGATE,
        {"instruction": "\ud83d", "output": "a"},
        ALPACA,
    ),
    "the field 'group' holds half of a surrogate pair": (
        Kind.LONE_SURROGATE,
        {"instruction": "q", "output": "a", "group": "\udc00"},
        ALPACA,
    ),
    "pair 1 of 'history' holds half of a surrogate pair": (
        Kind.LONE_SURROGATE,
        {"instruction": "q", "output": "a", "history": [["q", "\udc00"]]},
        ALPACA,
    ),
}


@pytest.mark.parametrize(("what", "case"), FAULTS.items(), ids=FAULTS)
def test_a_faulty_record_is_named(what: str, case: tuple[Kind, Row, Layout]) -> None:
    """A record that lacks something is told by its field and what stands there."""
    kind, row, layout = case
    assert _complaint(row, layout) == (kind, what)


def test_many_fields_are_not_all_listed() -> None:
    """A missing field is told with no more than thirty of those that are there."""
    row: Row = {f"f{number}": 1 for number in range(32)} | {"x" * 50: 1}
    _, detail = _complaint(row, ALPACA)
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
        ({"asks": "q", "say": "a"}, _own("ask", "say"), "asks", "ask"),
        ({"texts": "t"}, TEXT, "texts", "text"),
    ],
)
def test_a_misspelt_field_is_named(row: Row, layout: Layout, wrong: str, right: str) -> None:
    """A field whose name is almost that of an absent one is a fault, never left out in silence."""
    assert _complaint(row, layout) == (
        Kind.MISSPELT_FIELD,
        f"the field {wrong!r} is not known; did you mean {right!r}?",
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
def test_other_fields_are_no_fault(more: Row) -> None:
    """A field that cannot be a misspelling, or is a note about a whole record, is let be."""
    assert _one({"instruction": "q", "output": "a", **more}, ALPACA).answer == "a"


def test_a_missing_field_is_told_before_a_doubtful_optional_one() -> None:
    """Where the record is of another form, its names are not taken for misspelt optional ones."""
    assert _complaint({"inputs": "q", "targets": "a"}, ALPACA) == (
        Kind.MISSING_FIELD,
        "the field 'instruction' is missing (fields: 'inputs', 'targets')",
    )


NEEDED = "what is needed is one prompt with one answer, as text"


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (
            {"prompt": "q", "chosen": "a", "rejected": "b"},
            "the fields 'chosen' and 'rejected' are for training on preferences",
        ),
        (
            {"chosen": [ASK, SAY], "rejected": [ASK, SAY]},
            "the fields 'chosen' and 'rejected' are for training on preferences",
        ),
        ({"prompt": "q", "chosen": "a"}, "the field 'chosen' is for training on preferences"),
        (
            {"messages": [ASK, SAY], "rejected_response": "b"},
            "the field 'rejected_response' is for training on preferences",
        ),
        (
            {"prompt": "q", "completion": "a", "label": False},
            "the field 'label' is for training on good and bad answers",
        ),
        (
            {"messages": [ASK, SAY], "label": True},
            "the field 'label' is for training on good and bad answers",
        ),
        (
            {"instruction": "q", "output": "a", "kto_tag": True},
            "the field 'kto_tag' is for training on good and bad answers",
        ),
        (
            {"prompt": "q", "completions": ["a", "b"], "labels": [True, False]},
            "the fields 'completions' and 'labels' are for training on scores, steps or tokens",
        ),
        (
            {"input_ids": [1, 2], "labels": [1, 2]},
            "the fields 'input_ids' and 'labels' are for training on scores, steps or tokens",
        ),
    ],
)
def test_records_for_another_training_are_refused(row: Row, what: str) -> None:
    """Preferences, verdicts, scores and tokens are refused by name, never read in part."""
    assert _complaint(row, _found(row)) == (Kind.NOT_INSTRUCTIONS, f"{what}; {NEEDED}")


def test_images_are_refused() -> None:
    """A record with images is not read without them."""
    row: Row = {"instruction": "q", "output": "a", "images": ["x.png"]}
    what = f"the field 'images' is for training on more than text; {NEEDED}"
    assert _complaint(row, _found(row)) == (Kind.UNSUPPORTED, what)


@pytest.mark.parametrize("prompt", ["q", [ASK]], ids=["text", "turns"])
def test_a_prompt_alone_is_refused(prompt: object) -> None:
    """Prompts without answers are for reinforcement learning."""
    assert _complaint({"prompt": prompt, "tag": "t"}, TRL) == (
        Kind.NOT_INSTRUCTIONS,
        "the field 'prompt' stands alone; its answer is needed in 'completion'",
    )


def test_named_fields_of_preferences_are_read() -> None:
    """Who names `chosen` as the answer wants it read."""
    row: Row = {"prompt": "q", "chosen": "a", "rejected": "b"}
    assert _one(row, _found(row, answer="chosen")).answer == "a"
    turns: Row = {"chosen": [ASK, SAY], "rejected": [ASK, SAY]}
    assert _one(turns, _found(turns, wanted="messages", prompt="chosen")).answer == "a"


def test_labels_that_are_named_are_answers() -> None:
    """Classification data are read with the label as the answer; true and false are no text."""
    row: Row = {"text": "t", "label": "good"}
    example = _one(row, _found(row, answer="label"))
    assert (example.instruction, example.answer) == ("t", "good")
    assert _complaint({"text": "t", "label": True}, _own("text", "label")) == (
        Kind.WRONG_TYPE,
        "the field 'label' is a boolean where text belongs",
    )
    assert _one({"text": "t", "label": True}, TEXT).answer == "t"


@pytest.mark.parametrize("name", ["tools", "functions"])
def test_definitions_of_tools_are_refused(name: str) -> None:
    """Tools that a conversation defines would stand in its prompt, so it is refused."""
    row: Row = {"messages": [ASK, SAY], name: [{"type": "function"}]}
    assert _complaint(row, CHAT) == (Kind.TOOL_TURN, f"the field {name!r} defines tools")
    for nothing in ([], "", "[]", None):
        assert _one({**row, name: nothing}, CHAT).answer == "a"


# Laws

STRING = st.text(st.characters(exclude_categories=["Cs"])).filter(str.strip)
NAMES = sorted(
    {"output", "answer", "chosen", "rejected", "label", "tools", "instances", "input", "ouput"}
    | {"role", "content", "from", "value", "human", "assistant", "type", "train", "tool_calls"}
    | {"conversations", "conversation"}.union(
        *(it.used_fields for it in PAIRS), {"messages", "text"}
    )
)
SPEAKERS = ["system", "user", "assistant", "human", "gpt", "tool", "text"]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters())
    | st.sampled_from(SPEAKERS),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=12,
)
RECORD = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=9), JSON, max_size=7)
LAYOUTS = [ALPACA, DOLLY, QUERY, TRL, GSM8K, TASKS, CHAT, SHAREGPT, TEXT, _own("a", "b")]


def _texts(value: object) -> set[str]:
    """Every string in a JSON value, and every whole number as text."""
    if isinstance(value, dict):
        return set().union(*(_texts(it) for it in value.values()))
    if isinstance(value, list):
        parts = [it["text"] for it in value if isinstance(it, dict) and _is_text(it.get("text"))]
        return {"".join(parts)}.union(*(_texts(it) for it in value))
    return {str(value)} if isinstance(value, str | int) else set()


def _is_text(value: object) -> bool:
    return isinstance(value, str)


@given(RECORD, st.sampled_from(LAYOUTS), st.booleans())
def test_no_record_raises_anything_but_a_fault(row: Row, layout: Layout, required: bool) -> None:
    """Whatever a record holds, it is refused with a reason, or read without inventing a text."""
    for form in (layout, _found(row)):
        try:
            examples = to_examples(row, form, PLACE, answer_required=required)
        except Fault as fault:
            refused = fault
        else:
            refused = None
            assert examples
        assert refused is None or (refused.detail and refused.kind.severity == "error")
        for it in () if refused else examples:
            read = {it.instruction, it.answer, it.input, it.tag, it.group}
            assert {*read, *(turn.text for turn in it.earlier)} <= _texts(row) | {""}
            assert it.answer.strip() or not required
            assert it.instruction.strip() or it.is_plain_text


@given(
    layout=st.sampled_from([ALPACA, DOLLY, QUERY, GSM8K, TRL]),
    texts=st.fixed_dictionaries({"prompt": STRING, "answer": STRING}),
    more=st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("input", "system", "tag", "group"), STRING)
    ),
    history=st.lists(st.tuples(STRING, STRING).map(list), max_size=3),
)
def test_accepted_records_round_trip(
    layout: Layout, texts: dict[str, str], more: dict[str, str], history: list[list[str]]
) -> None:
    """A record written from its example is the record that was read: nothing lost or altered."""
    row: Row = {layout.prompt: texts["prompt"], layout.answer: texts["answer"], **more}
    example = _one({**row, "history": history} if history else row, layout)
    before = list(example.earlier)
    system = {"system": before.pop(0).text} if "system" in more else {}
    said = [turn.text for turn in before]
    optional = {"input": example.input, "tag": example.tag, "group": example.group}
    written = {
        layout.prompt: example.instruction,
        layout.answer: example.answer,
        **{name: text for name, text in optional.items() if text},
        **system,
    }
    assert written == row
    assert [said[at : at + 2] for at in range(0, len(said), 2)] == history
