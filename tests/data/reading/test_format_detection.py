"""Specification of detecting the layout of a file."""

from __future__ import annotations

import pytest
from record_forms import (
    ALPACA,
    ASK,
    CHAT,
    DOLLY,
    GSM8K,
    QUERY,
    SAY,
    SHAREGPT,
    TASKS,
    TEXT,
    TRL,
    Row,
    found_layout,
    own_fields,
)

from finetuning_exam.data.reading.layouts import Layout, find_layout
from finetuning_exam.errors import UsageError
from finetuning_exam.settings import Format


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
def test_the_layout_is_detected_from_the_fields(row: Row, layout: Layout) -> None:
    """Turns take precedence over pairs, complete pairs over partial ones, pairs over `text`."""
    assert found_layout(row) == layout


def test_most_records_decide() -> None:
    """The layout is that of most records, in any order; complete records take precedence."""
    one: Row = {"text": "t"}
    other: Row = {"question": "q", "answer": "a"}
    assert found_layout(one, other, other) == GSM8K
    assert found_layout(other, one, one) == TEXT
    assert found_layout(other, one) == GSM8K
    assert found_layout({"prompt": "p"}, {"prompt": "p"}, other) == GSM8K
    assert found_layout() == ALPACA


def test_a_thousand_records_decide() -> None:
    """Only the first thousand records are considered."""
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
    """A given format is used, with whichever of its fields the records have."""
    assert found_layout(row, wanted=wanted) == layout


@pytest.mark.parametrize(
    ("row", "prompt", "answer", "layout"),
    [
        ({"ask": "q", "say": "a"}, "ask", "say", own_fields("ask", "say")),
        ({"ask": "q", "instruction": "x", "output": "a"}, "ask", None, own_fields("ask", "output")),
        ({"ask": "q", "prompt": "x", "answer": "a"}, "ask", None, own_fields("ask", "answer")),
        (
            {"question": "q", "say": "a", "completion": "x"},
            None,
            "say",
            own_fields("question", "say"),
        ),
        ({"text": "t", "label": "good"}, None, "label", own_fields("text", "label")),
        ({"text": "t", "label": "good"}, "text", "label", own_fields("text", "label")),
        ({"text": "t", "label": "good"}, "text", None, own_fields("text", "output")),
        ({"prompt": "q", "completion": "a"}, "prompt", "completion", TRL),
        ({}, "ask", None, own_fields("ask", "output")),
    ],
)
def test_named_fields_win(row: Row, prompt: str | None, answer: str | None, layout: Layout) -> None:
    """A field given by a flag is used; the other one is detected from the records."""
    assert found_layout(row, prompt=prompt, answer=answer) == layout


def test_a_prompt_field_names_the_turns_or_the_text() -> None:
    """For a format with one field `--prompt_field` names that field, and no other may be named."""
    assert found_layout(wanted="text", prompt="body") == Layout("text", "body", "")
    assert found_layout(wanted="messages", prompt="chat") == Layout("messages", "chat", "")
    with pytest.raises(UsageError) as caught:
        found_layout(wanted="messages", answer="chat")
    assert str(caught.value) == (
        "--format messages has no separate answer field. "
        "Remove --answer_field; --prompt_field names the field."
    )


def test_a_format_and_fields_go_together() -> None:
    """A format keeps its name if its fields are given by flags."""
    named = found_layout(wanted="question_answer", prompt="ask", answer="say")
    assert named == Layout("question_answer", "ask", "say")


@pytest.mark.parametrize(
    ("prompt", "answer", "what"),
    [
        ("x", "x", "--prompt_field and --answer_field are both 'x'. Name two different fields."),
        (
            "output",
            None,
            "--prompt_field is 'output', which is also the answer field. Set --answer_field too.",
        ),
        (
            None,
            "instruction",
            "--answer_field is 'instruction', which is also the prompt field. "
            "Set --prompt_field too.",
        ),
    ],
)
def test_one_field_cannot_be_both(prompt: str | None, answer: str | None, what: str) -> None:
    """A prompt that is also the answer is refused before any record is read."""
    with pytest.raises(UsageError) as caught:
        found_layout({"instruction": "q", "output": "a"}, prompt=prompt, answer=answer)
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
    """A layout is described in one line."""
    assert layout.words == words


@pytest.mark.parametrize(
    ("layout", "fields"),
    [
        (ALPACA, "instruction output input system system_prompt history tag group"),
        (DOLLY, "instruction response input context system system_prompt history tag group"),
        (GSM8K, "question answer input context system system_prompt history tag group"),
        (own_fields("input", "output"), "input output system system_prompt history tag group"),
        (TASKS, "instruction instances system system_prompt tag group"),
        (CHAT, "messages system system_prompt tag group"),
        (TEXT, "text tag group"),
    ],
)
def test_the_fields_that_are_read(layout: Layout, fields: str) -> None:
    """`used_fields` are all fields that a layout reads; `category` is never one of them."""
    assert layout.used_fields == set(fields.split())
