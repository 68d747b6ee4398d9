"""Specification of the reasons why a text is not JSON, and of the words for them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from raw_records import GOOD, read_raw, texts_of

from finetuning_exam.data.kinds import Kind

pytestmark = pytest.mark.usefixtures("folder")

PYTHON = {
    "{'a': 'b'}": 'single quotes at column 2; JSON has only "',
    "{\"a\": 'b'}": 'single quotes at column 7; JSON has only "',
    '{"a": None}': "Python's None at column 7; JSON has null, true and false",
    '{"a": [1, True]}': "Python's True at column 11; JSON has null, true and false",
    '{"a": False, "b": 1}': "Python's False at column 7; JSON has null, true and false",
    '{"a": ("x", "y")}': "tuple at column 7; JSON has only lists",
    '{"a": datetime.date(2024, 1, 2)}': "Python's notation at column 7",
    "{\"a\": b'x'}": "Python's notation at column 7",
}
OTHERS = {
    '{"a": 1,}': "comma before a closing bracket at column 8",
    '{"a": [1, 2, ]}': "comma before a closing bracket at column 12",
    '{"a": {"b": 1 , } }': "comma before a closing bracket at column 15",
    '{"a": 1 // one\n}'.replace("\n", " "): "comment at column 9; JSON has none",
    '{"a": /* one */ 1}': "comment at column 7; JSON has none",
    '{"a": 1} # one': "comment at column 10; JSON has none",
    '{"a": "b"': "missing '}' at column 10",
    '{"a": ["b", "c"': "missing ']' at column 16",
    '{"a": {"b": "}"}': "missing '}' at column 17",
    '{"a": "b",': "missing '}' at column 11",
    '{"a": ': "expected a value at column 7",
    "{“a”: 1}": 'typographic quotation mark “ at column 2; JSON has only "',
    '{"a": “b”}': 'typographic quotation mark “ at column 7; JSON has only "',
    '{"a": ‘b’}': 'typographic quotation mark ‘ at column 7; JSON has only "',
    '{"a": nan}': "expected a value, got nan at column 7",
    '{"a": undefined}': "expected a value, got undefined at column 7",
    '{"a": hello}': "expected a value, got hello at column 7",
    '{"a": "he said "no" to me"}': "expected ',' at column 17; a quotation mark inside a text is "
    'written \\"',
    '{"a": "b" "c": "d"}': "expected ',' at column 11",
    '{"a": "b"},': "comma after the value at column 11",
    '{"a": "\\x41"}': "invalid escape at column 8; a backslash itself is written \\\\",
    '{"a": "\\u12"}': "invalid escape at column 9; \\u needs four hexadecimal digits",
    '{"a": "b"}\ufeff{"a": "c"}': "byte-order mark (U+FEFF) of a file joined without a line break "
    "at column 11",
    "{a: 1}": "expected a field name in double quotes at column 2",
}


@pytest.mark.parametrize(("line", "reason"), [*PYTHON.items(), *OTHERS.items()])
def test_a_line_that_is_not_json_has_a_reason(line: str, reason: str) -> None:
    """The reason is that of the text: another notation, a comma too many, a bracket missing."""
    read = read_raw(GOOD + b"\n" + line.encode() + b"\n")
    assert texts_of(read) == [f"d.jsonl:2: not valid JSON ({reason})."]
    kind = Kind.PYTHON_NOTATION if line in PYTHON else Kind.NOT_JSON
    assert [it.kind for it in read.findings] == [kind]


@pytest.mark.parametrize("line", [*PYTHON, *OTHERS])
def test_an_array_has_the_same_reasons(line: str) -> None:
    """In a document over several lines, the reason is given at its line."""
    read = read_raw(b"[" + GOOD + b",\n" + line.encode() + b"\n]")
    (text,) = texts_of(read)
    assert text.startswith(("d.jsonl:2: not valid JSON (", "d.jsonl:3: not valid JSON ("))
    assert "Expecting" not in text
    assert "delimiter" not in text


def test_an_array_that_breaks_off_lacks_its_bracket() -> None:
    """Its end is named, after the records that were read."""
    for content in (b'[{"a": "b"}', b'[{"a": "b"}\n', b'[{"a": "b"}, {"a": "c"}'):
        (text,) = texts_of(read_raw(content))
        assert "(missing ']' at column" in text


def test_a_file_of_python_dicts_says_how_to_convert_it() -> None:
    """The hint of the kind names json.dumps, not only the line."""
    assert "json.dumps" in Kind.PYTHON_NOTATION.hint


def test_text_is_no_python() -> None:
    """Lines that do not even start like JSON are one error about the file, whatever they are."""
    for content in (b"'a'\n'b'\n", b"# Title\n\nText.\n", b"None\nNone\n"):
        with pytest.raises(Exception, match=r"none of its 2 lines is valid JSON"):
            read_raw(content)


WORDS = ("Expecting", "delimiter", "Illegal", "enclosed in", "Extra data", "char ")


@given(st.text(st.sampled_from("{}[]\",:'“#/\\ abNnone1\ufeff\t"), max_size=30))
def test_no_message_has_the_words_of_the_parser(text: str) -> None:
    """Whatever the text is, its fault is described in the words of this project."""
    content = GOOD + b"\n" + text.encode() + b"\n"
    for message in texts_of(read_raw(content)):
        assert not any(word in message for word in WORDS)
        assert json.dumps(message)
