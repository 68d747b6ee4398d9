"""Specification of how files become examples, and of what is told of them with its place."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from finetuning_exam.data.findings import Finding, Kind, errors
from finetuning_exam.data.reading import hub
from finetuning_exam.data.reading.read import (
    Records,
    exam_file_of,
    read_records,
    read_sound_records,
    refuse_errors,
)
from finetuning_exam.errors import DataError, UsageError, UserError
from finetuning_exam.settings import FieldSettings

ALPACA = b'{"instruction": "a", "output": "b"}\n'
QA = b'{"question": "c", "answer": "d"}\n'
CHAT = b'{"messages": [{"role": "user", "content": "e"}, {"role": "assistant", "content": "f"}]}\n'
AUTO = FieldSettings()
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


def _read(content: bytes, fields: FieldSettings = AUTO) -> Records:
    return read_records([_write(content)], fields)


def _said(findings: tuple[Finding, ...]) -> list[str]:
    return [str(finding) for finding in findings]


def _complaint(content: bytes, name: str = "d.jsonl") -> str:
    """The whole message about a faulty file."""
    with pytest.raises(DataError) as caught:
        read_sound_records([_write(content, name)], AUTO)
    assert caught.value.exit_code == 2
    return str(caught.value)


# Faults and sound records


def test_faults_are_collected_and_the_rest_is_read() -> None:
    """Faults of the file's syntax and of its records are findings in the order of their lines;
    every other record is an example with its true line.
    """
    records = _read(b'{"instruction": 1, "output": "b"}\n' + ALPACA + b"x\n[]\n\n" + ALPACA)
    assert _said(records.findings) == [
        "d.jsonl:1: the field 'instruction' is a number where text belongs.",
        "d.jsonl:3: not valid JSON (Expecting value at column 1).",
        "d.jsonl:4: a list where an object belongs.",
    ]
    assert [it.line for it in records.examples] == [2, 6]
    assert records.sources[0].n_records == 3


def test_records_of_one_line_have_their_columns() -> None:
    """In an array on one line an example, a fault and a field that is not used have columns."""
    records = _read(
        b'[{"instruction": "a", "output": "b", "x": 1}, {"instruction": "a"}, '
        b'{"instruction": "c", "output": "d"}]'
    )
    assert [it.where for it in records.examples] == ["d.jsonl:1:2", "d.jsonl:1:69"]
    assert [it.where for it in records.findings] == ["d.jsonl:1:2", "d.jsonl:1:47"]


def test_the_layout_is_the_same_for_all_records() -> None:
    """A later record with other names is a fault, not a second dialect."""
    assert _said(_read(ALPACA * 2 + QA).findings) == [
        "d.jsonl:3: the field 'instruction' is missing (fields: 'question', 'answer')."
    ]


# The form of a whole file


def _refusal(content: bytes, fields: FieldSettings = AUTO) -> str:
    with pytest.raises(UsageError) as caught:
        _read(content, fields)
    return str(caught.value)


def test_a_named_field_that_is_nowhere_ends_the_reading() -> None:
    """A field named by a flag must be there; it is told once, with the nearest that is."""
    there = "no record of d.jsonl has it (fields: 'frage', 'antwort'). "
    content = b'{"frage": "a", "antwort": "b"}\n' * 3
    assert _refusal(content, FieldSettings(prompt_field="farge", answer_field="antwort")) == (
        f"--prompt_field farge: {there}Did you mean 'frage'?"
    )
    assert _refusal(content, FieldSettings(prompt_field="frage", answer_field="x y")) == (
        f"--answer_field 'x y': {there}Give one of these."
    )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (
            b'{"Frage": "a", "Antwort": "b"}',
            "the form of the records is not recognised (fields: 'Frage', 'Antwort'). "
            "Name them: --prompt_field Frage --answer_field Antwort.",
        ),
        (
            b'{"id": 1, "user answer": "a", "user question": "b"}',
            "the form of the records is not recognised (fields: 'id', 'user answer', "
            "'user question'). "
            "Name them: --prompt_field 'user question' --answer_field 'user answer'.",
        ),
        (
            b'{"article": "a", "summary": "b"}',
            "the form of the records is not recognised (fields: 'article', 'summary'). "
            "Name them, such as: --prompt_field article --answer_field summary.",
        ),
        (
            b'{"body": "a"}',
            "the form of the records is not recognised (fields: 'body'). "
            "If it is plain text: --format text --prompt_field body.",
        ),
        (
            b"{}",
            "the form of the records is not recognised (fields: none). "
            'Write records such as {"instruction": "…", "output": "…"}.',
        ),
        (
            b'{"input": "a", "output": "b"}',
            "no record has the field 'instruction' (fields: 'input', 'output'). "
            "Name it: --prompt_field input.",
        ),
        (
            b'{"prompt": "a", "generation": "b"}',
            "no record has the field 'completion' (fields: 'prompt', 'generation'). "
            "Name it, such as: --answer_field generation.",
        ),
        (
            b'{"question": "a"}',
            "no record has the field 'answer' (fields: 'question'). "
            "Add it, or name it with --answer_field.",
        ),
    ],
)
def test_an_unknown_form_is_told_once(content: bytes, what: str) -> None:
    """Where no record has a field that each needs, the file is refused with the fields that are
    there and flags that can be given as they stand.
    """
    assert _refusal((content + b"\n") * 3) == f"d.jsonl: {what}"


def test_a_single_record_without_one_field_is_a_fault_of_that_record() -> None:
    """So is a file in which another record has the field, or another fault."""
    assert len(_said(_read(b'{"instruction": "a"}').findings)) == 1
    assert len(_said(_read(b'{"instruction": "a"}\n' * 2 + ALPACA).findings)) == 2
    assert len(_said(_read(b'{"x": "a"}\n{"instruction": 1, "output": "b"}').findings)) == 2


def test_case_and_space_in_the_names_of_fields_make_no_difference() -> None:
    """A name like a known one is read as it, and a note says so once a file."""
    content = b'{"Instruction ": "a", "OUTPUT": "b", "Tag": "t"}\n'
    records = _read(content * 2)
    assert [(it.instruction, it.answer, it.tag) for it in records.examples] == [("a", "b", "t")] * 2
    assert _said(records.findings) == [
        "d.jsonl:1: the field 'Instruction ' is read as 'instruction'.",
        "d.jsonl:1: the field 'OUTPUT' is read as 'output'.",
        "d.jsonl:1: the field 'Tag' is read as 'tag'.",
    ]
    assert {it.kind for it in records.findings} == {Kind.FIELD_NAME}


def test_a_doubtful_name_of_a_field_is_left_as_it_is() -> None:
    """Beside the known name, beside another like it, and where a flag names it, it is itself."""
    (found,) = _read(b'{"instruction": "a", "output": "b", "Output": "c"}').examples
    assert found.answer == "b"
    two = b'{"instruction": "a", "output": "b", "Tag": "c", "TAG": "d"}'
    assert _said(_read(two).findings) == [
        "d.jsonl:1: the field 'Tag' is not known; did you mean 'tag'?"
    ]
    named = FieldSettings(prompt_field="Question", answer_field="Answer")
    (found,) = _read(b'{"Question": "a", "Answer": "b"}', named).examples
    assert (found.instruction, found.answer) == ("a", "b")


def test_case_and_space_in_roles_make_no_difference() -> None:
    """`User` and `Assistant` are the roles that they name."""
    content = CHAT.replace(b'"user"', b'"User "').replace(b'"assistant"', b'"ASSISTANT"')
    (found,) = _read(content).examples
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
    """`--format`, `--prompt_field` and `--answer_field` win over what is found."""
    values = {"instruction": "i", "output": "o", "ask": "p", "say": "s"}
    values |= {"question": "q", "answer": "a"}
    (found,) = _read(json.dumps(values).encode(), fields).examples
    assert (found.instruction, found.answer) == row


def test_questions_need_no_answer_where_none_is_required() -> None:
    """With `answer_required=False` a record may lack its answer, but not its instruction."""
    content = b'{"instruction": "q"}\n{"instruction": "r", "output": "a"}\n{"output": "a"}\n'
    records = read_records([_write(content)], AUTO, answer_required=False)
    assert [row.answer for row in records.examples] == ["", "a"]
    assert _said(records.findings) == [
        "d.jsonl:3: the field 'instruction' is missing (fields: 'output')."
    ]


# Fields that nothing reads


def test_a_field_nobody_reads_is_told_once() -> None:
    """It stands at the first sound record that has it, with how many have it; a faulty record's
    fields do not count.
    """
    content = (
        b'{"instruction": "a", "id": 1, "z": 1}\n'
        + ALPACA
        + b'{"instruction": "a", "output": "b", "id": 2}\n'
        + b'{"instruction": "a", "output": "b", "id": 3, "tag": "t", "group": "g"}\n'
    )
    notes = [it for it in _read(content).findings if it.kind is Kind.UNUSED_FIELD]
    assert _said(tuple(notes)) == ["d.jsonl:3: the field 'id' is not used (in 2 of 3 records)."]


def test_a_field_of_a_turn_that_nobody_reads_is_told_once() -> None:
    """Nothing that stands beside a turn's text is lost in silence; null says nothing."""
    odd = CHAT.replace(b'"f"', b'"f", "name": "bob", "weight": 1, "x": null')
    instances = b'{"instruction": "a", "instances": [{"input": "", "output": "b", "note": 1}]}\n'
    assert _said(_read(CHAT + odd * 2).findings) == [
        "d.jsonl:2: the field 'messages[].name' is not used (in 2 of 3 records)."
    ]
    assert _said(_read(instances * 2).findings) == [
        "d.jsonl:1: the field 'instances[].note' is not used (in 2 of 2 records)."
    ]


def test_each_file_has_its_own_unused_fields() -> None:
    """What is not used is said of each file, since each has a layout of its own."""
    paths = [
        _write(b'{"instruction": "a", "output": "b", "answer": "c"}\n', "one"),
        _write(b'{"question": "a", "answer": "b", "output": "c"}\n', "two"),
    ]
    assert _said(read_records(paths, AUTO).findings) == [
        "one:1: the field 'answer' is not used (in 1 of 1 records).",
        "two:1: the field 'output' is not used (in 1 of 1 records).",
    ]


def test_the_name_of_an_unused_field_is_shown_in_part() -> None:
    """A name of a million characters is no line of a million characters."""
    content = json.dumps({"instruction": "a", "output": "b", "x" * 1_000_000: 1}).encode()
    (said,) = _said(_read(content).findings)
    assert len(said) < 200


# Several files


def test_several_files_are_read_as_one() -> None:
    """Files of different containers and layouts come one after the other in the order given."""
    paths = [
        _write(gzip.compress(CHAT), "c.gz"),
        _write(b"question,answer\nc,d\n", "b.csv"),
        _write(b"[" + ALPACA.strip() + b"]", "a.json"),
    ]
    records = read_records(paths, AUTO)
    assert [it.where for it in records.examples] == ["c.gz:1", "b.csv:2", "a.json:1"]
    assert [it.answer for it in records.examples] == ["f", "d", "b"]
    assert [(it.container, it.layout, it.n_records) for it in records.sources] == [
        ("JSON lines", "messages (role, content)", 1),
        ("CSV", "question → answer", 1),
        ("JSON array", "instruction → output", 1),
    ]
    assert records.path == "c.gz, b.csv, a.json"


def test_the_hash_of_files_is_of_their_bytes_and_order() -> None:
    """One file has its own SHA-256; several have that of all their hashes, in order."""
    one, two = _write(ALPACA, "one"), _write(QA, "two")
    hashes = [hashlib.sha256(content).hexdigest() for content in (ALPACA, QA)]
    assert read_records([one], AUTO).sha256 == hashes[0]
    assert [it.sha256 for it in read_records([one, two], AUTO).sources] == hashes
    both = read_records([one, two], AUTO).sha256
    assert both == hashlib.sha256("".join(hashes).encode()).hexdigest()
    assert both != read_records([two, one], AUTO).sha256


def test_a_file_named_twice_is_read_once() -> None:
    """The same path twice, however it is written, gives each record once, and a note says so."""
    records = read_records([_write(ALPACA), "./d.jsonl", "d.jsonl"], AUTO)
    assert (len(records.examples), len(records.sources)) == (1, 1)
    assert _said(records.findings) == [
        "d.jsonl: the file is named 3 times (also as './d.jsonl', 'd.jsonl') and read once."
    ]
    assert records.findings[0].kind is Kind.NAMED_TWICE


def test_faults_of_several_files_come_in_their_order() -> None:
    """Findings are told file by file, each in order of its lines."""
    paths = [_write(b"x\n" + ALPACA, "z"), _write(ALPACA + b"x\ny\n", "a")]
    found = [it.where for it in read_records(paths, AUTO).findings]
    assert found == ["z:1", "a:2", "a:3"]


def test_one_unreadable_file_ends_the_reading() -> None:
    """A file that cannot be read at all is an error, whichever it is."""
    with pytest.raises(UsageError, match=r"^gone: no such file\. "):
        read_records([_write(ALPACA), "gone"], AUTO)


def test_no_file_is_an_error() -> None:
    """No file at all, as an empty list in YAML gives, is an error and not an empty result."""
    with pytest.raises(UsageError, match=r"^No data file is given\. "):
        read_records([], AUTO)


def test_a_hub_dataset_is_read_like_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name of the hub stands beside files; its records are numbered."""
    rows: list[dict[str, object]] = [{"question": "c", "answer": "d"}, {"question": "c"}]
    monkeypatch.setattr(hub, "_load", lambda name, split: rows)
    records = read_records(["hub:me/data:test", _write(ALPACA)], AUTO)
    assert [it.where for it in records.examples] == ["hub:me/data:test:1", "d.jsonl:1"]
    assert errors(records.findings)[0].where == "hub:me/data:test:2"
    assert records.sources[0].container == "hub dataset"


# Who can do nothing with faulty records


def test_sound_records_are_read_with_their_notes() -> None:
    """Notes keep nobody from reading."""
    records = read_sound_records([_write(ALPACA[:-2] + b', "id": 1}')], AUTO)
    assert len(records.examples) == len(records.findings) == 1


def test_faults_of_one_kind_are_told_with_its_mend() -> None:
    """Where all faults are of one kind, its mend follows them."""
    assert _complaint(ALPACA + b"x\ny\n") == (
        "d.jsonl:2: not valid JSON (Expecting value at column 1).\n"
        "d.jsonl:3: not valid JSON (Expecting value at column 1).\n"
        "Mend the line."
    )


def test_faults_of_several_kinds_are_told_with_the_check() -> None:
    """Where faults are of several kinds, `fte check` on their files is the mend, quoted for a
    shell; files without a fault are not named.
    """
    paths = [_write(b"x\n" + ALPACA, "my file"), _write(ALPACA, "b"), _write(ALPACA + b"[]\n", "c")]
    with pytest.raises(DataError) as caught:
        read_sound_records(paths, AUTO)
    assert str(caught.value) == (
        "my file:1: not valid JSON (Expecting value at column 1).\n"
        "c:2: a list where an object belongs.\nRun fte check 'my file' c to see them by kind."
    )


def test_another_way_on_follows_the_mend() -> None:
    """`way_on` is said last; what is no error ends nothing."""
    fault = Finding(Kind.NOT_JSON, "what", "p", 1)
    with pytest.raises(DataError) as caught:
        refuse_errors([Finding(Kind.RARE_TAG, "rare", "p"), fault], "Or go on.")
    assert str(caught.value) == "p:1: what. Mend the line. Or go on."
    refuse_errors([Finding(Kind.RARE_TAG, "rare", "p"), Finding(Kind.MOJIBAKE, "bad", "p")])


@pytest.mark.parametrize(
    ("n", "last"),
    [
        (20, "d.jsonl:20: not valid JSON (Expecting value at column 1)."),
        (21, "… and 1 more fault."),
        (1025, "… and 1,005 more faults."),
    ],
)
def test_twenty_faults_are_shown_and_the_rest_counted(n: int, last: str) -> None:
    """A file full of faults shows twenty of them and the number of the others."""
    *shown, mend = _complaint(b"x\n" * n + ALPACA).splitlines()
    assert mend == "Mend the line."
    assert len(shown) == min(n, 20) + (n > 20)
    assert shown[-1] == last


@pytest.mark.parametrize("name", ["a:b.jsonl", "a:1:b.jsonl", "my: data.jsonl", "a:7: b.jsonl"])
def test_a_file_name_with_colons_is_told_whole(name: str) -> None:
    """Faults of a file whose name holds colons are told in order, with the whole name."""
    content = ALPACA.replace(b'"b"', b"1") * 10 + b"[]"
    starts = [f"{name}:{number}: " for number in range(1, 12)]
    *shown, _ = _complaint(content, name).splitlines()
    assert [line[: len(start)] for line, start in zip(shown, starts, strict=True)] == starts


# The exam's file


@pytest.mark.parametrize(
    ("train", "exam"),
    [
        ("train.jsonl", "exam.jsonl"),
        ("permits_train.csv", "permits_exam.csv"),
        ("a/train-2.json", "a/exam-2.json"),
        ("train.jsonl.gz", "exam.jsonl.gz"),
        ("trainer.jsonl", None),
        ("constrain.jsonl", None),
        ("data.jsonl", None),
        ("train/data.jsonl", None),
    ],
)
def test_the_exam_file_is_known_by_its_name(train: str, exam: str | None) -> None:
    """An exam file beside the training file has its name with exam in place of the word train."""
    for name in (
        "exam.jsonl",
        "permits_exam.csv",
        "a/exam-2.json",
        "exam.jsonl.gz",
        "examer.jsonl",
    ):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    assert exam_file_of([train], None) == exam


def test_the_exam_file_asked_for_wins() -> None:
    """What `--eval_file` names is taken, whether it is there or not."""
    _write(ALPACA, "exam.jsonl")
    assert exam_file_of(["train.jsonl"], "other.jsonl") == "other.jsonl"
    assert exam_file_of(["train.jsonl", "b"], "other.jsonl") == "other.jsonl"


def test_several_files_and_hub_datasets_have_no_exam_file_by_name() -> None:
    """Beside several files nothing is looked for; nor is a folder an exam file."""
    _write(ALPACA, "exam.jsonl")
    Path("exam").mkdir()
    assert exam_file_of(["train.jsonl", "more.jsonl"], None) is None
    assert exam_file_of(["train"], None) is None
    assert exam_file_of(["hub:me/train"], None) is None


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
def test_the_form_of_a_file_changes_no_row(content: bytes, lines: list[int]) -> None:
    """A byte-order mark, CRLF, blank lines or no last newline give the same rows; lines count."""
    found = _read(content).examples
    assert [(row.instruction, row.answer) for row in found] == [("a", "b"), ("c", "d")]
    assert [row.line for row in found] == lines


ROW = st.fixed_dictionaries(
    {"instruction": TEXT, "output": TEXT},
    optional={
        name: st.text(st.characters(exclude_categories=["Cs"]))
        for name in ("input", "tag", "group")
    },
)


@given(rows=st.lists(ROW, min_size=1, max_size=5), ascii_only=st.booleans(), spread=st.booleans())
@same_folder
def test_accepted_records_round_trip(
    rows: list[dict[str, str]], ascii_only: bool, spread: bool
) -> None:
    """What was written as JSON is what is read: every character, every field, every place."""
    lines = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
    text = "[" + ",\n".join(lines) + "]" if spread else "\n".join(lines)
    records = _read(text.encode("utf-8"))
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
    ] == [{"input": "", "tag": "", "group": "", **row} for row in rows]
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
@example(content=ALPACA[:-2] + b', "x": ' + b"1" * 5000 + b"}")
@same_folder
def test_whatever_a_file_holds_it_is_read_or_refused(content: bytes) -> None:
    """Each record is an example that says something or a finding; a file that is refused is told
    in one line that starts with its name.
    """
    try:
        records = _read(content)
    except UserError as error:
        caught = error
    else:
        _assert_read(records)
        return
    assert str(caught).startswith("d.jsonl:")
    assert "\n" not in str(caught)


def _assert_read(records: Records) -> None:
    lines = [it.line for it in records.findings]
    assert lines == sorted(lines)
    assert all(it.instruction.strip() and it.answer.strip() for it in records.examples)
    assert records.examples or errors(records.findings)
    assert all(str(it).startswith("d.jsonl:") for it in records.findings)
