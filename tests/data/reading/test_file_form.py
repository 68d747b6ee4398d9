"""Specification of the common format of a file's records, and of the names of its fields."""

from __future__ import annotations

import json

import pytest
from read_files import ALPACA, AUTO, CHAT, read_content, texts_of, write_content

from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.read import read_records
from finetuning_exam.errors import UsageError
from finetuning_exam.settings import FieldSettings

pytestmark = pytest.mark.usefixtures("folder")


def _refusal(content: bytes, fields: FieldSettings = AUTO) -> str:
    with pytest.raises(UsageError) as caught:
        read_content(content, fields)
    return str(caught.value)


def test_a_given_field_that_no_record_has_is_refused() -> None:
    """A field given by a flag must exist; the error is raised once, with the nearest name."""
    there = "no record in d.jsonl has this field (fields: 'frage', 'antwort'). "
    content = b'{"frage": "a", "antwort": "b"}\n' * 3
    assert _refusal(content, FieldSettings(prompt_field="farge", answer_field="antwort")) == (
        f"--prompt_field farge: {there}Did you mean 'frage'?"
    )
    assert _refusal(content, FieldSettings(prompt_field="frage", answer_field="x y")) == (
        f"--answer_field 'x y': {there}Use one of these fields."
    )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (
            b'{"Frage": "a", "Antwort": "b"}',
            "unrecognised record format (fields: 'Frage', 'Antwort'). "
            "Name the fields: --prompt_field Frage --answer_field Antwort.",
        ),
        (
            b'{"id": 1, "user answer": "a", "user question": "b"}',
            "unrecognised record format (fields: 'id', 'user answer', "
            "'user question'). "
            "Name the fields: --prompt_field 'user question' --answer_field 'user answer'.",
        ),
        (
            b'{"article": "a", "summary": "b"}',
            "unrecognised record format (fields: 'article', 'summary'). "
            "Name the fields, for example: --prompt_field article --answer_field summary.",
        ),
        (
            b'{"body": "A tree is a plant."}',
            "unrecognised record format (fields: 'body'). "
            "If this is plain text, use --format text --prompt_field body.",
        ),
        (
            b"{}",
            "unrecognised record format (fields: none). "
            'Write records such as {"instruction": "…", "output": "…"}.',
        ),
        (
            b'{"input": "a", "output": "b"}',
            "no record has a field 'instruction' (fields: 'input', 'output'). "
            "Name the field: --prompt_field input.",
        ),
        (
            b'{"prompt": "a", "generation": "b"}',
            "no record has a field 'completion' (fields: 'prompt', 'generation'). "
            "Name the field, for example: --answer_field generation.",
        ),
        (
            b'{"question": "a"}',
            "no record has a field 'answer' (fields: 'question'). "
            "Add the field, or name your own with --answer_field.",
        ),
    ],
)
def test_an_unknown_format_is_reported_once(content: bytes, what: str) -> None:
    """If no record has a required field, the file is refused with the fields it has and flags that
    work.
    """
    assert _refusal((content + b"\n") * 3) == f"d.jsonl: {what}"


def test_a_single_record_without_one_field_is_a_fault_of_that_record() -> None:
    """So is a file in which another record has the field, or another fault."""
    assert len(texts_of(read_content(b'{"instruction": "a"}').findings)) == 1
    assert len(texts_of(read_content(b'{"instruction": "a"}\n' * 2 + ALPACA).findings)) == 2
    assert (
        len(texts_of(read_content(b'{"x": "a"}\n{"instruction": 1, "output": "b"}').findings)) == 2
    )


def test_case_and_whitespace_in_field_names_are_ignored() -> None:
    """A name similar to a known one is read as that one, with one note per file."""
    content = b'{"Instruction ": "a", "OUTPUT": "b", "Tag": "t"}\n'
    records = read_content(content * 2)
    assert [(it.instruction, it.answer, it.tag) for it in records.examples] == [("a", "b", "t")] * 2
    assert texts_of(records.findings) == [
        "d.jsonl:1: field 'Instruction ' is read as 'instruction'.",
        "d.jsonl:1: field 'OUTPUT' is read as 'output'.",
        "d.jsonl:1: field 'Tag' is read as 'tag'.",
    ]
    assert {it.kind for it in records.findings} == {Kind.FIELD_NAME}


def test_an_ambiguous_field_name_is_not_changed() -> None:
    """A name is kept if the known name or another similar one is present, or a flag names it."""
    (found,) = read_content(b'{"instruction": "a", "output": "b", "Output": "c"}').examples
    assert found.answer == "b"
    two = b'{"instruction": "a", "output": "b", "Tag": "c", "TAG": "d"}'
    assert texts_of(read_content(two).findings) == [
        "d.jsonl:1: unknown field 'Tag'; did you mean 'tag'?"
    ]
    named = FieldSettings(prompt_field="Question", answer_field="Answer")
    (found,) = read_content(b'{"Question": "a", "Answer": "b"}', named).examples
    assert (found.instruction, found.answer) == ("a", "b")


def test_case_and_whitespace_in_roles_are_ignored() -> None:
    """`User ` and `ASSISTANT` are read as the roles they name."""
    content = CHAT.replace(b'"user"', b'"User "').replace(b'"assistant"', b'"ASSISTANT"')
    (found,) = read_content(content).examples
    assert (found.instruction, found.answer) == ("e", "f")


@pytest.mark.parametrize(
    ("fields", "row"),
    [
        (AUTO, ("i", "o")),
        (FieldSettings(prompt_field="ask"), ("p", "o")),
        (FieldSettings(answer_field="say"), ("i", "s")),
        (FieldSettings(prompt_field="ask", answer_field="say"), ("p", "s")),
        (FieldSettings(format="question_answer"), ("q", "a")),
    ],
)
def test_named_fields_and_formats_win(fields: FieldSettings, row: tuple[str, str]) -> None:
    """`--format`, `--prompt_field` and `--answer_field` win over detection."""
    values = {"instruction": "i", "output": "o", "ask": "p", "say": "s"}
    values |= {"question": "q", "answer": "a"}
    (found,) = read_content(json.dumps(values).encode(), fields).examples
    assert (found.instruction, found.answer) == row


def test_questions_need_no_answer_where_none_is_required() -> None:
    """With `answer_required=False` a record may lack its answer, but not its instruction."""
    content = b'{"instruction": "q"}\n{"instruction": "r", "output": "a"}\n{"output": "a"}\n'
    records = read_records([write_content(content)], AUTO, answer_required=False)
    assert [row.answer for row in records.examples] == ["", "a"]
    assert texts_of(records.findings) == [
        "d.jsonl:3: missing field 'instruction' (fields: 'output')."
    ]
