"""Specification of remedies: they name the fault, and never a field that holds no natural text."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest
from read_files import read_content

from finetuning_exam.data.reading.fields import as_argument
from finetuning_exam.data.reading.natural import content_of
from finetuning_exam.errors import DataError, UsageError, UserError

pytestmark = pytest.mark.usefixtures("folder")

TURNS_HINT = (
    'Write records such as {"messages": [{"role": "user", "content": "…"}, '
    '{"role": "assistant", "content": "…"}]}.'
)
TEXTS = ["What is a tree?", "A tree is a plant."]


def _refusal(*rows: object, times: int = 3) -> str:
    content = "".join(json.dumps(row) + "\n" for row in rows) * times
    with pytest.raises((UsageError, DataError)) as caught:
        read_content(content.encode())
    return str(caught.value)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("utterances", TEXTS),
        ("dialog", TEXTS * 2),
        ("turns", [TEXTS, TEXTS]),
        ("chat history", TEXTS),
    ],
)
def test_texts_without_roles_are_named_once(name: str, value: object, times: int) -> None:
    """Lists of texts, or of pairs of texts, are a conversation that lacks its roles."""
    assert _refusal({"id": "0", name: value}, times=times) == (
        f"d.jsonl: field {name!r} holds texts without roles (fields: 'id', {name!r}). {TURNS_HINT}"
    )


@pytest.mark.parametrize(
    ("turn", "what"),
    [
        (["What is a tree?"], "a list of texts without roles"),
        ([*TEXTS, "And a bush?"], "a list of texts without roles"),
    ],
)
def test_a_turn_without_a_role_is_named(turn: object, what: str) -> None:
    """In a conversation field it is named with its line and turn, and the hint has the form."""
    found = read_content(json.dumps({"messages": [turn, turn]}).encode()).findings
    assert [str(it) for it in found] == [
        f"d.jsonl:1: turn 1 of 'messages' is {what}; expected an object."
    ]
    assert '"role": "user"' in found[0].kind.hint


NOT_TEXT: dict[str, list[object]] = {
    "identifiers": ["row1", "row2", "a-17"],
    "uuids": ["123e4567-e89b-12d3-a456-426614174000"],
    "hashes": ["d41d8cd98f00b204e9800998ecf8427e", "DEADBEEFDEADBEEFDEADBEEF"],
    "keys": ["train/books/fiction", "en_US", "wiki:tree"],
    "numbers": ["17", "3.5", "1,000", "45 %", "-2e9"],
    "dates": ["2024-01-02", "2024-01-02T10:00:00Z", "2.1.2024", "2024-01-02 10:00:00"],
    "urls": ["https://example.org/a", "www.example.org"],
    "addresses": ["a.b@example.org"],
    "paths": ["images/cat.png", "./a/b.txt", "cat.png"],
    "json": ['{"a": 1}', "[1, 2]", '["What is a tree?", "A plant."]'],
    "python": ["{'a': 1}", "['What is a tree?', 'A plant.']", "[True, None]"],
    "booleans": ["true", "False"],
    "real numbers": [1, 2],
}


@pytest.mark.parametrize("values", NOT_TEXT.values(), ids=NOT_TEXT)
def test_no_flag_names_a_field_without_natural_text(values: list[object]) -> None:
    """Neither alone nor beside a text is such a field proposed as prompt, answer or text."""
    rows = [{"thing": value} for value in values]
    assert "--" not in _refusal(*rows)
    beside = [{"thing": value, "body": "A tree is a plant."} for value in values]
    message = _refusal(*beside)
    assert "--prompt_field thing" not in message
    assert "--answer_field thing" not in message
    answered = [{"thing": value, "question": "What is a tree?"} for value in values]
    assert "thing." not in _refusal(*answered)


@pytest.mark.parametrize("name", ["id", "source", "split", "lang", "Url", "system"])
def test_no_flag_names_metadata(name: str) -> None:
    """Words in a field about the record are not its text, whatever they are."""
    message = _refusal({name: "wikipedia of trees", "body": "A tree is a plant."})
    assert "--format text --prompt_field body" in message
    assert "--" not in _refusal({name: "wikipedia of trees"})


def test_a_field_that_is_no_text_is_described() -> None:
    """The hint says what the fields hold instead."""
    assert _refusal({"id": "row17", "when": "2024-01-02", "n": 3}) == (
        "d.jsonl: unrecognised record format (fields: 'id', 'when', 'n'). No field holds natural "
        "text ('id' holds identifiers, 'when' holds dates). "
        'Write records such as {"instruction": "…", "output": "…"}.'
    )


def test_json_and_python_as_text_are_named_once() -> None:
    """The remedy is to store the value, or to restore it."""
    assert _refusal({"id": "row1", "payload": '{"question": "What?"}'}) == (
        "d.jsonl: field 'payload' holds JSON as text (fields: 'id', 'payload'). "
        "Write the value itself, which json.loads(record['payload']) returns, not its text."
    )
    message = _refusal({"id": "row1", "payload": "{'question': 'What?'}"})
    assert "field 'payload' holds Python's notation as text" in message
    assert "ast.literal_eval" in message


def test_turns_in_a_field_of_another_name_are_found() -> None:
    """The flags that the error names read them; turns with other fields are described."""
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    assert _refusal({"chat log": turns}) == (
        "d.jsonl: field 'chat log' holds turns (fields: 'chat log'). "
        "Read them with --format messages --prompt_field 'chat log'."
    )
    said = [{"who": "user", "said": "q"}]
    assert _refusal({"log": said}) == (
        "d.jsonl: field 'log' holds turns with the fields 'who', 'said'; expected 'role' "
        f"and 'content' (fields: 'log'). {TURNS_HINT}"
    )


COLUMNS: dict[str, object] = {
    "numbers on both sides": {"0": {"0": "q", "1": "a"}, "1": {"0": "r", "1": "b"}},
    "unknown names on both sides": {"Frage": {"x": "q", "y": "r"}, "Wort": {"x": "a", "y": "b"}},
    "known names on both sides": {"text": {"text": "q"}, "output": {"text": "a"}},
}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("value", COLUMNS.values(), ids=COLUMNS)
def test_a_file_by_columns_is_named(value: object, indent: int | None) -> None:
    """Where rows cannot be told from columns, the remedy is the other way of writing them."""
    with pytest.raises(UsageError) as caught:
        read_content(json.dumps(value, indent=indent).encode())
    assert str(caught.value) == (
        "d.jsonl is one object with the data by column (or by row label), not a list of records. "
        'Write one record per line: df.to_json("new.jsonl", orient="records", lines=True).'
    )


@pytest.mark.parametrize(
    "row",
    [
        {
            "prompt": [{"role": "user", "content": "q"}],
            "completion": [{"role": "assistant", "content": "a"}],
        },
        {"instruction": "q", "output": "a"},
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
    ],
)
def test_a_single_record_is_not_taken_for_columns(row: object) -> None:
    """Lists of turns are values of a record."""
    assert len(read_content(json.dumps(row).encode()).examples) == 1


@pytest.mark.parametrize(
    ("values", "content"),
    [
        (["What is it?", "", None], "text"),
        (["是一棵树吗", "什么"], "text"),
        (["good", "bad"], "single words"),
        (["Grün", "Blau"], "single words"),
        (["A plant.", "17", "18"], "numbers"),
        (["A plant.", "A tree", "18"], "text"),
        (["good", "bad", "not so bad"], "text"),
        (["A plant.", "17"], "numbers"),
        (["good", "17", "row1", "row2"], "identifiers"),
        ([None, ""], None),
        ([1, "a"], None),
    ],
)
def test_most_values_decide_what_a_field_holds(values: list[object], content: str | None) -> None:
    """Empty values do not count, and a field of other types than text holds none."""
    assert content_of(values) == content


@pytest.mark.parametrize("name", ["\n", "a\nb", "a\tb", "it's\x1b[1m", "é\x07\\", "\u202eabc"])
def test_a_hint_with_any_name_is_one_line(name: str) -> None:
    """A field whose name has control characters is written as a shell reads it, on one line."""
    with pytest.raises(UserError) as caught:
        read_content(json.dumps({name: "Some words of text."}).encode())
    shown = str(caught.value)
    assert "\n" not in shown
    assert all(it.isprintable() for it in shown)
    if sys.platform == "linux":
        done = subprocess.run(
            ["bash", "-c", f"printf %s {as_argument(name)}"],
            capture_output=True,
            check=True,
            env={"LC_ALL": "C.UTF-8"},
        )
        assert done.stdout.decode("utf-8") == name


@pytest.mark.parametrize("name", ["plain", "two words", "it's", "$HOME", "é", "", "a\\b"])
def test_an_argument_without_control_characters_is_quoted_as_usual(name: str) -> None:
    """Only what cannot be seen needs the shell's own notation."""
    assert as_argument(name) == shlex.quote(name)
