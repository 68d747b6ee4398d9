"""Specification of how a line of a file becomes an `Example`, or a fault that names the line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from finetuning_exam.data.records import FieldNames, read_records
from finetuning_exam.errors import DataError, UsageError

GOOD = b'{"instruction": "a", "output": "b"}\n'
NO_RECORDS = (
    "d.jsonl: the file holds no records. "
    'Write one JSON object a line, such as {"instruction": "…", "output": "…"}.'
)
TEXT = st.text(st.characters(exclude_categories=["Cs"])).filter(str.strip)
# The folder is the same for all examples of a test; each example overwrites the file there.
same_folder = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in an empty folder, so that a path in a message is a bare name."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _write(content: bytes, name: str = "d.jsonl") -> str:
    Path(name).write_bytes(content)
    return name


def _complaint(content: bytes, name: str = "d.jsonl") -> str:
    """The whole message about a faulty file."""
    with pytest.raises(DataError) as caught:
        read_records(_write(content, name))
    assert caught.value.exit_code == 2
    return str(caught.value)


LINE_FAULTS = {
    b"\xff": "not UTF-8 (byte 0xff at byte 1).",
    b'{"instruction": "a\xe9", "output": "b"}': "not UTF-8 (byte 0xe9 at byte 19).",
    b"\xff\xfe{\x00}\x00": "not UTF-8 (byte 0xff at byte 1).",
    b"\x1f\x8b\x08\x00": "not UTF-8 (byte 0x8b at byte 2).",
    b"\x00": "not valid JSON (Expecting value at column 1).",
    b'{"instruction": "a"': "not valid JSON (Expecting ',' delimiter at column 20).",
    b'{"instruction": "a", "output": "': (
        "not valid JSON (Unterminated string starting at at column 32)."
    ),
    GOOD.strip() * 2: "not valid JSON (Extra data at column 36).",
    b"{'instruction': 'a'}": (
        "not valid JSON (Expecting property name enclosed in double quotes at column 2)."
    ),
    b"[1]": "a list where an object belongs.",
    b'"a"': "a string where an object belongs.",
    b"3": "a number where an object belongs.",
    b"null": "null where an object belongs.",
    b"false": "a boolean where an object belongs.",
    b'{"instruction": "a", "output": "b", "output": "c"}': "the field 'output' occurs twice.",
    b'{"instruction": "a", "output": "b", "x": {"y": 1, "y": 2}}': "the field 'y' occurs twice.",
    b'{"instruction": NaN, "output": "b"}': "NaN is not JSON.",
    b'{"instruction": "a", "output": -Infinity}': "-Infinity is not JSON.",
    b"[" * 100_000: "nested too deeply.",
    b'{"a":' * 100_000: "nested too deeply.",
    b'{"instruction": null, "output": "b"}': (
        "the field 'instruction' is null where text belongs."
    ),
    b'{"instruction": "a", "output": 5}': "the field 'output' is a number where text belongs.",
    b'{"instruction": "a", "output": 5.5}': "the field 'output' is a number where text belongs.",
    b'{"instruction": "a", "output": true}': "the field 'output' is a boolean where text belongs.",
    b'{"instruction": "a", "output": ["b"]}': "the field 'output' is a list where text belongs.",
    b'{"instruction": "a", "output": {}}': "the field 'output' is an object where text belongs.",
    b'{"instruction": "a", "output": "b", "tag": 1}': (
        "the field 'tag' is a number where text belongs."
    ),
    b'{"instruction": "", "output": "b"}': "the field 'instruction' is empty.",
    b'{"instruction": "a", "output": " \\n\\t"}': "the field 'output' is empty.",
    b'{"instruction": "\\ud83d", "output": "b"}': (
        "the field 'instruction' holds half of a surrogate pair."
    ),
    b'{"instruction": "a", "output": "b", "group": "\\udc00"}': (
        "the field 'group' holds half of a surrogate pair."
    ),
}


@pytest.mark.parametrize(("line", "what"), LINE_FAULTS.items(), ids=LINE_FAULTS.values())
def test_a_faulty_line_is_named(line: bytes, what: str) -> None:
    """A faulty line is told as `path:line: what`, whatever stands around it."""
    assert _complaint(GOOD + b"\n" + line + b"\n" + GOOD) == f"d.jsonl:3: {what} Mend that line."


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b'{"instruction": ' + b"1" * 5000 + b', "output": "b"}', id="of instruction"),
        pytest.param(GOOD.strip()[:-1] + b', "x": ' + b"1" * 5000 + b"}", id="of another field"),
    ],
)
def test_a_number_of_five_thousand_digits_is_a_fault_or_ignored(line: bytes) -> None:
    """A number too long for Python is a fault of its line, or ignored with its field."""
    _write(line)
    try:
        assert read_records("d.jsonl").ignored_fields == ("x",)
    except DataError as error:
        complaint = str(error)
    else:
        return
    assert complaint.startswith("d.jsonl:1: ")


@pytest.mark.parametrize(
    ("line", "there"),
    [
        (b'{"instruction": "a"}', "the field 'output' is missing (fields: 'instruction')"),
        (b'{"output": "b"}', "the field 'instruction' is missing (fields: 'output')"),
        (b'{"tag": "x", "n": 1}', "the field 'instruction' is missing (fields: 'tag', 'n')"),
        (b"{}", "the field 'instruction' is missing (fields: none)"),
    ],
)
def test_a_missing_field_is_named_with_those_that_are_there(line: bytes, there: str) -> None:
    """A missing field is told with the fields of that line and how to name fields."""
    mend = "Add it, or name the fields with --prompt_field and --answer_field."
    assert _complaint(GOOD + line) == f"d.jsonl:2: {there}. {mend}"


def test_all_faults_are_told_together_in_order_of_line() -> None:
    """Faults of syntax and of fields come in one message, in the order of the lines."""
    content = b"\n".join(
        [b'{"instruction": "a"}', b"[]", b'{"instruction": 1, "output": "b"}', b"x"]
    )
    assert _complaint(content).splitlines() == [
        "d.jsonl:1: the field 'output' is missing (fields: 'instruction').",
        "d.jsonl:2: a list where an object belongs.",
        "d.jsonl:3: the field 'instruction' is a number where text belongs.",
        "d.jsonl:4: not valid JSON (Expecting value at column 1). Mend these lines.",
    ]


def test_the_order_of_faults_is_that_of_numbers() -> None:
    """Line 2 comes before line 10."""
    content = b'{"instruction": "a"}\n' * 10 + b"x"
    lines = [line.split(":")[1] for line in _complaint(content).splitlines()]
    assert lines == [str(number) for number in range(1, 12)]


def test_twenty_faults_are_shown_and_the_rest_counted() -> None:
    """A file full of faults shows twenty of them and the number of the others."""
    shown = _complaint(b"x\n" * 25).splitlines()
    assert len(shown) == 21
    assert shown[19] == "d.jsonl:20: not valid JSON (Expecting value at column 1)."
    assert shown[20] == "… and 5 more faults. Mend these lines."


def test_twenty_faults_are_all_shown() -> None:
    """At exactly twenty faults nothing is left out."""
    shown = _complaint(b"x\n" * 20)
    assert len(shown.splitlines()) == 20
    assert "more faults" not in shown


@pytest.mark.parametrize("name", ["a:b.jsonl", "a:1:b.jsonl", "my: data.jsonl", "a:7: b.jsonl"])
def test_a_file_name_with_colons_is_told_whole(name: str) -> None:
    """Faults of a file whose name holds colons are told in order, with the whole name."""
    content = b'{"instruction": "a"}\n[]\n{"instruction": "a"}'
    starts = [f"{name}:{number}: " for number in (1, 2, 3)]
    shown = _complaint(content, name).splitlines()
    assert [line[: len(start)] for line, start in zip(shown, starts, strict=True)] == starts


@pytest.mark.parametrize("name", ["[ab].jsonl", "a[0-9]*?.jsonl", "a::b.jsonl", "ä ö.jsonl"])
def test_a_file_name_is_taken_as_it_is(name: str) -> None:
    """A name with wildcards, colons, spaces or accents means that file and no other."""
    _write(GOOD, "a.jsonl")
    records = read_records(_write(b'{"instruction": "this", "output": "b"}', name))
    assert (records.path, records.examples[0].where) == (name, f"{name}:1")
    assert records.examples[0].instruction == "this"


def test_a_pattern_reads_no_other_file() -> None:
    """A pattern that matches a file is still no file."""
    _write(GOOD, "a.jsonl")
    with pytest.raises(UsageError, match=r"^\[ab\]\.jsonl: no such file\. "):
        read_records("[ab].jsonl")


PLAIN = [("a", "b", 1), ("c", "d", 2)]
TWO = b'{"instruction": "a", "output": "b"}\n{"instruction": "c", "output": "d"}\n'


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        pytest.param(TWO, PLAIN, id="plain"),
        pytest.param(b"\xef\xbb\xbf" + TWO, PLAIN, id="byte-order mark"),
        pytest.param(TWO.replace(b"\n", b"\r\n"), PLAIN, id="CRLF"),
        pytest.param(TWO.rstrip(), PLAIN, id="no last newline"),
        pytest.param(TWO.replace(b"{", b" \t{"), PLAIN, id="indented"),
        pytest.param(TWO.replace(b": ", b":\r"), PLAIN, id="carriage return inside"),
        pytest.param(
            b"\n \r\n" + TWO.replace(b"\n", b"\n\n"), [("a", "b", 3), ("c", "d", 5)], id="blank"
        ),
    ],
)
def test_the_form_of_a_file_changes_no_row(
    content: bytes, rows: list[tuple[str, str, int]]
) -> None:
    """A byte-order mark, CRLF, blank lines or no last newline give the same rows; lines count."""
    found = read_records(_write(content)).examples
    assert [(row.instruction, row.answer, row.line) for row in found] == rows


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\v", "\f", "\x1c"])
def test_only_a_line_feed_ends_a_line(mark: str) -> None:
    """Other characters that Python takes for the end of a line may stand in a text."""
    line = json.dumps({"instruction": f"a{mark}b", "output": mark + "c"}, ensure_ascii=mark < " ")
    (found,) = read_records(_write(line.encode())).examples
    assert (found.instruction, found.answer) == (f"a{mark}b", f"{mark}c")


@pytest.mark.parametrize("content", [b"", b"\n\n \r\n", b"\xef\xbb\xbf"], ids=repr)
def test_a_file_without_records_is_an_error(content: bytes) -> None:
    """An empty file, or one of blank lines, is told with a line that shows what belongs there."""
    assert _complaint(content) == NO_RECORDS


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("nope.jsonl", "nope.jsonl: no such file."),
        ("http://localhost/d.jsonl", "http://localhost/d.jsonl: no such file."),
        (".", ".: is a folder."),
        pytest.param("n" * 300, "n" * 300 + ": ", id="too long a name"),
        pytest.param("a\0b", "a\0b: ", id="NUL"),
    ],
)
def test_what_is_no_file_is_told(path: str, what: str) -> None:
    """A path that is no readable file is a usage error which starts with the path."""
    with pytest.raises(UsageError) as caught:
        read_records(path)
    assert str(caught.value).startswith(what)
    if what.endswith("."):
        assert str(caught.value) == f"{what} Give the path of a file of JSON lines."


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
@pytest.mark.timeout(20)
def test_a_fifo_is_refused_without_waiting() -> None:
    """A named pipe nobody writes to is told at once; the reader never waits for it."""
    os.mkfifo("pipe")
    with pytest.raises(UsageError) as caught:
        read_records("pipe")
    assert str(caught.value) == (
        "pipe: is not a regular file. Give the path of a file of JSON lines."
    )


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ('{"instruction": "q", "output": "a"}', ("instruction", "output")),
        ('{"question": "q", "answer": "a"}', ("question", "answer")),
        ('{"prompt": "q", "completion": "a"}', ("prompt", "completion")),
        ('{"completion": "a", "answer": "x", "prompt": "q"}', ("prompt", "completion")),
    ],
)
def test_the_fields_are_found_from_the_first_record(line: str, names: tuple[str, str]) -> None:
    """Without flags the pair of known names of which the first record has most is taken."""
    records = read_records(_write(line.encode()))
    assert records.fields == FieldNames(*names)
    assert (records.examples[0].instruction, records.examples[0].answer) == ("q", "a")


def test_the_fields_are_the_same_for_all_records() -> None:
    """A later record with other names is a fault, not a second dialect."""
    assert _complaint(GOOD + b'{"prompt": "q", "completion": "a"}') == (
        "d.jsonl:2: the field 'instruction' is missing (fields: 'prompt', 'completion'). "
        "Add it, or name the fields with --prompt_field and --answer_field."
    )


@pytest.mark.parametrize(
    ("flags", "row"),
    [
        ((None, None), ("i", "o")),
        (("ask", None), ("p", "o")),
        ((None, "say"), ("i", "s")),
        (("ask", "say"), ("p", "s")),
    ],
)
def test_named_fields_win(flags: tuple[str | None, str | None], row: tuple[str, str]) -> None:
    """`--prompt_field` and `--answer_field` each replace the name that was found."""
    path = _write(b'{"instruction": "i", "output": "o", "ask": "p", "say": "s"}')
    (found,) = read_records(path, *flags).examples
    assert (found.instruction, found.answer) == row


def test_a_named_field_that_is_nowhere_is_a_fault() -> None:
    """A field named by a flag must be there."""
    with pytest.raises(DataError) as caught:
        read_records(_write(GOOD), "ask", None)
    assert str(caught.value) == (
        "d.jsonl:1: the field 'ask' is missing (fields: 'instruction', 'output'). "
        "Add it, or name the fields with --prompt_field and --answer_field."
    )


def test_input_as_the_prompt_is_not_shown_twice() -> None:
    """A field named with `--prompt_field` is not taken a second time as an optional field."""
    (found,) = read_records(_write(b'{"input": "q", "output": "a"}'), "input", None).examples
    assert (found.instruction, found.input) == ("q", "")


def test_input_as_the_answer_does_not_leak_into_the_prompt() -> None:
    """A field named with `--answer_field` never stands in the prompt too."""
    (found,) = read_records(_write(b'{"instruction": "q", "input": "a"}'), None, "input").examples
    assert (found.answer, found.input) == ("a", "")


def test_optional_fields_are_kept() -> None:
    """`input`, `tag` and `group` are read where they stand, and empty where they do not."""
    content = (
        b'{"instruction": "q", "output": "a", "input": "i", "tag": "t", "group": "g"}\n'
        b'{"instruction": "q", "output": "a", "input": "", "tag": null}\n'
    )
    full, bare = read_records(_write(content)).examples
    assert (full.input, full.tag, full.group) == ("i", "t", "g")
    assert (bare.input, bare.tag, bare.group) == ("", "", "")


def test_fields_nobody_reads_are_listed() -> None:
    """The names of fields that are not used are given once each, in order of the alphabet."""
    content = GOOD[:-2] + b', "z": 1, "id": [2]}\n' + GOOD[:-2] + b', "z": 2, "tag": "t"}\n'
    assert read_records(_write(content)).ignored_fields == ("id", "z")


def test_questions_need_no_answer_where_none_is_required() -> None:
    """With `answer_required=False` a record may lack its answer, but not its instruction."""
    content = b'{"instruction": "q"}\n{"instruction": "r", "output": "a"}\n'
    records = read_records(_write(content), answer_required=False)
    assert [row.answer for row in records.examples] == ["", "a"]
    with pytest.raises(DataError, match=r"^d\.jsonl:1: the field 'instruction' is missing "):
        read_records(_write(b'{"output": "a"}'), answer_required=False)


ROW = st.fixed_dictionaries(
    {"instruction": TEXT, "output": TEXT},
    optional={
        name: st.text(st.characters(exclude_categories=["Cs"]))
        for name in ("input", "tag", "group")
    },
)


@given(rows=st.lists(ROW, min_size=1, max_size=5), ascii_only=st.booleans())
@same_folder
def test_accepted_records_round_trip(rows: list[dict[str, str]], ascii_only: bool) -> None:
    """What was written as JSON is what is read: every character, every field, every line."""
    lines = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
    records = read_records(_write("\n".join(lines).encode("utf-8")))
    assert [
        {
            "instruction": found.instruction,
            "output": found.answer,
            "input": found.input,
            "tag": found.tag,
            "group": found.group,
        }
        for found in records.examples
    ] == [{"input": "", "tag": "", "group": "", **row} for row in rows]
    assert [found.line for found in records.examples] == list(range(1, len(rows) + 1))


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
@example(content=GOOD[:-2] + b', "\\ud800": "\\ud800"}')
@same_folder
def test_no_bytes_raise_anything_but_a_user_error(content: bytes) -> None:
    """Whatever a file holds, it is read, or refused with a message that starts with its name."""
    path = _write(content)
    try:
        records = read_records(path)
    except DataError as error:
        caught = error
    else:
        assert records.examples
        assert all(row.instruction.strip() and row.answer.strip() for row in records.examples)
        return
    assert str(caught).startswith("d.jsonl:")
    assert str(caught).count("\n") == min(len(caught.faults), 21) - 1
