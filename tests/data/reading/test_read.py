"""Specification of reading files as examples, with the place of every finding."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from read_files import ALPACA, QA, read_content, texts_of

from finetuning_exam.data.findings import errors
from finetuning_exam.data.reading.fields import emptiness
from finetuning_exam.data.reading.read import Records
from finetuning_exam.errors import UserError

pytestmark = pytest.mark.usefixtures("folder")

TEXT = st.text(st.characters(exclude_categories=["Cs"])).filter(
    lambda text: emptiness(text) is None
)
# The folder is the same for all examples of a test; each example overwrites the file there.
same_folder = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


# Faults and sound records


def test_faults_are_collected_and_the_rest_is_read() -> None:
    """Faults of syntax and of records are findings in the order of their lines; every other record
    is an example with its line.
    """
    records = read_content(b'{"instruction": 1, "output": "b"}\n' + ALPACA + b"x\n[]\n\n" + ALPACA)
    assert texts_of(records.findings) == [
        "d.jsonl:1: field 'instruction' is a number; expected a string.",
        "d.jsonl:3: not valid JSON (expected a value at column 1).",
        "d.jsonl:4: expected an object, got a list.",
    ]
    assert [it.line for it in records.examples] == [2, 6]
    assert records.sources[0].n_records == 3


def test_records_of_one_line_have_their_columns() -> None:
    """In an array on one line an example, a fault and an unused field have columns."""
    records = read_content(
        b'[{"instruction": "a", "output": "b", "x": 1}, {"instruction": "a"}, '
        b'{"instruction": "c", "output": "d"}]'
    )
    assert [it.where for it in records.examples] == ["d.jsonl:1:2", "d.jsonl:1:69"]
    assert [it.where for it in records.findings] == ["d.jsonl:1:2", "d.jsonl:1:47"]


def test_the_layout_is_the_same_for_all_records() -> None:
    """A later record with other names is a fault."""
    assert texts_of(read_content(ALPACA * 2 + QA).findings) == [
        "d.jsonl:3: missing field 'instruction' (fields: 'question', 'answer')."
    ]


# Laws

TWO = b'{"instruction": "a", "output": "b"}\n{"instruction": "c", "output": "d"}\n'


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        pytest.param(TWO, [1, 2], id="plain"),
        pytest.param(b"\xef\xbb\xbf" + TWO, [1, 2], id="byte-order mark"),
        pytest.param(TWO.replace(b"\n", b"\r\n"), [1, 2], id="CRLF"),
        pytest.param(TWO.rstrip(), [1, 2], id="no last newline"),
        pytest.param(b"\n \r\n" + TWO.replace(b"\n", b"\n\n"), [3, 5], id="blank lines"),
    ],
)
def test_byte_order_mark_and_line_endings_change_no_example(
    content: bytes, lines: list[int]
) -> None:
    """A byte-order mark, CRLF, blank lines or no last newline give the same examples."""
    found = read_content(content).examples
    assert [(row.instruction, row.answer) for row in found] == [("a", "b"), ("c", "d")]
    assert [row.line for row in found] == lines


ROW = st.fixed_dictionaries(
    {"instruction": TEXT, "output": TEXT},
    optional={
        name: st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"))
        for name in ("input", "tag", "group")
    },
)


@given(rows=st.lists(ROW, min_size=1, max_size=5), ascii_only=st.booleans(), spread=st.booleans())
@same_folder
def test_accepted_records_round_trip(
    rows: list[dict[str, str]], ascii_only: bool, spread: bool
) -> None:
    """What was written as JSON is what is read: every character, every field, every place. A field
    in which nothing can be seen is absent.
    """
    lines = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
    text = "[" + ",\n".join(lines) + "]" if spread else "\n".join(lines)
    records = read_content(text.encode("utf-8"))
    assert records.findings == ()
    assert [
        {
            "instruction": found.instruction,
            "output": found.answer,
            "input": found.input,
            "tag": found.tag,
            "group": found.group,
        }
        for found in records.examples
    ] == [
        {"input": "", "tag": "", "group": ""}
        | {name: "" if emptiness(text) else text for name, text in row.items()}
        for row in rows
    ]
    assert [(it.line, it.column) for it in records.examples] == [
        (number, 0) for number in range(1, len(rows) + 1)
    ]


JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
NEARLY_A_ROW = st.dictionaries(
    st.sampled_from(["instruction", "output", "prompt", "answer", "tag"]) | st.text(), JSON_VALUE
)


@given(
    content=st.binary()
    | st.lists(
        (JSON_VALUE | NEARLY_A_ROW).map(lambda value: json.dumps(value).encode("utf-8"))
        | st.binary()
    ).map(b"\n".join)
)
@example(content=ALPACA[:-2] + b', "\\ud800": "\\ud800"}')
@example(content=b"PAR1")
@example(content=ALPACA[:-2] + b', "x": ' + b"1" * 5000 + b"}")
@same_folder
def test_any_file_is_read_or_refused(content: bytes) -> None:
    """Each record is a filled example or a finding; a refused file is one line that starts with its
    name.
    """
    try:
        records = read_content(content)
    except UserError as error:
        caught = error
    else:
        _assert_read(records)
        return
    assert str(caught).startswith(("d.jsonl:", "d.jsonl is ", "d.jsonl cannot "))
    assert "\n" not in str(caught)


def _assert_read(records: Records) -> None:
    lines = [it.line for it in records.findings]
    assert lines == sorted(lines)
    assert all(it.instruction.strip() and it.answer.strip() for it in records.examples)
    assert records.examples or errors(records.findings)
    assert all(str(it).startswith(("d.jsonl:", "d.jsonl is ")) for it in records.findings)
