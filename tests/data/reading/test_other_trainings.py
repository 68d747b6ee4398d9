"""Specification of refusing records for another training method."""

from __future__ import annotations

import pytest
from record_forms import (
    ASK,
    CHAT,
    SAY,
    TEXT,
    TRL,
    Row,
    complaint_about,
    found_layout,
    one_example,
    own_fields,
)

from finetuning_exam.data.kinds import Kind

NEEDED = "expected one prompt and one answer, as text"


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (
            {"prompt": "q", "chosen": "a", "rejected": "b"},
            "fields 'chosen' and 'rejected' are for preference training",
        ),
        (
            {"chosen": [ASK, SAY], "rejected": [ASK, SAY]},
            "fields 'chosen' and 'rejected' are for preference training",
        ),
        ({"prompt": "q", "chosen": "a"}, "field 'chosen' is for preference training"),
        (
            {"messages": [ASK, SAY], "rejected_response": "b"},
            "field 'rejected_response' is for preference training",
        ),
        (
            {"prompt": "q", "completion": "a", "label": False},
            "field 'label' is for training on rated answers",
        ),
        (
            {"messages": [ASK, SAY], "label": True},
            "field 'label' is for training on rated answers",
        ),
        (
            {"instruction": "q", "output": "a", "kto_tag": True},
            "field 'kto_tag' is for training on rated answers",
        ),
        (
            {"prompt": "q", "completions": ["a", "b"], "labels": [True, False]},
            "fields 'completions' and 'labels' are for training on scores, steps or tokens",
        ),
        (
            {"input_ids": [1, 2], "labels": [1, 2]},
            "fields 'input_ids' and 'labels' are for training on scores, steps or tokens",
        ),
    ],
)
def test_records_for_another_training_are_refused(row: Row, what: str) -> None:
    """Preferences, verdicts, scores and tokens are refused by name, never read in part."""
    assert complaint_about(row, found_layout(row)) == (Kind.NOT_INSTRUCTIONS, f"{what}; {NEEDED}")


def test_images_are_refused() -> None:
    """A record with images is never read without them."""
    row: Row = {"instruction": "q", "output": "a", "images": ["x.png"]}
    what = f"field 'images' is for multimodal training; {NEEDED}"
    assert complaint_about(row, found_layout(row)) == (Kind.UNSUPPORTED, what)


@pytest.mark.parametrize("prompt", ["q", [ASK]], ids=["text", "turns"])
def test_a_prompt_alone_is_refused(prompt: object) -> None:
    """Prompts without answers are for reinforcement learning."""
    assert complaint_about({"prompt": prompt, "tag": "t"}, TRL) == (
        Kind.NOT_INSTRUCTIONS,
        "field 'prompt' has no answer; expected one in field 'completion'",
    )


def test_named_fields_of_preferences_are_read() -> None:
    """If `chosen` is named as the answer, it is read."""
    row: Row = {"prompt": "q", "chosen": "a", "rejected": "b"}
    assert one_example(row, found_layout(row, answer="chosen")).answer == "a"
    turns: Row = {"chosen": [ASK, SAY], "rejected": [ASK, SAY]}
    assert one_example(turns, found_layout(turns, wanted="messages", prompt="chosen")).answer == "a"


def test_labels_that_are_named_are_answers() -> None:
    """Classification data are read with the label as the answer; booleans are not text."""
    row: Row = {"text": "t", "label": "good"}
    example = one_example(row, found_layout(row, answer="label"))
    assert (example.instruction, example.answer) == ("t", "good")
    assert complaint_about({"text": "t", "label": True}, own_fields("text", "label")) == (
        Kind.WRONG_TYPE,
        "field 'label' is a boolean; expected a string",
    )
    assert one_example({"text": "t", "label": True}, TEXT).answer == "t"


@pytest.mark.parametrize("name", ["tools", "functions"])
def test_definitions_of_tools_are_read(name: str) -> None:
    """They are part of the prompt, as a list in JSON; nothing defines none."""
    row: Row = {"messages": [ASK, SAY], name: [{"name": "f"}]}
    assert one_example(row, CHAT).tools == '[{"name": "f"}]'
    assert one_example({**row, name: '[{"name": "f"}]'}, CHAT).tools == '[{"name": "f"}]'
    assert complaint_about({**row, name: [{"type": "function"}]}, CHAT) == (
        Kind.BAD_TOOLS,
        f"tool 1 of field {name!r} has no name",
    )
    empty: tuple[object, ...] = ([], "", "[]", None)
    for nothing in empty:
        assert one_example({**row, name: nothing}, CHAT).tools == ""
