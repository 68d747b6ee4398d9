"""Specification of the cleaned copy: the records left out, and that the others are unchanged."""

from __future__ import annotations

import datetime
import gzip
import json
import math
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetuning_exam.data.check import check_files
from finetuning_exam.data.findings import Finding, errors
from finetuning_exam.data.fix import CleanCopy, clean_copy, left_out_lines
from finetuning_exam.data.kinds import Kind
from finetuning_exam.errors import UsageError
from finetuning_exam.settings import CheckSettings

same_folder = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run every test in an empty folder, so that a path in a message is a bare name."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _write(name: str, *records: object) -> str:
    """Write a file of lines: strings as they are, other values as JSON."""
    lines = [it if isinstance(it, str) else json.dumps(it) for it in records]
    Path(name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return name


def _copy(*paths: str, more: Sequence[Finding] = ()) -> CleanCopy:
    check = check_files(CheckSettings(data=paths))
    return clean_copy(check.train, (*check.findings, *more))


def _records(copy: CleanCopy) -> list[object]:
    return [json.loads(line) for line in copy.lines]


def _left_out(copy: CleanCopy) -> list[tuple[str, Kind]]:
    return [(finding.where, finding.kind) for finding in copy.left_out]


A = {"instruction": "What is a?", "output": "The first letter."}
B = {"instruction": "Where is Berlin?", "output": "In Germany."}


def test_errors_and_exact_duplicates_are_left_out() -> None:
    """Records with errors and the later ones of exact duplicates are left out, everything else is
    kept.
    """
    path = _write("d", A, "x", {"instruction": "c"}, B, A, "[]", B | {"output": "In Prussia."})
    copy = _copy(path)
    assert _records(copy) == [A, B, B | {"output": "In Prussia."}]
    assert _left_out(copy) == [
        ("d:2", Kind.NOT_JSON),
        ("d:3", Kind.MISSING_FIELD),
        ("d:5", Kind.EXACT_DUPLICATE),
        ("d:6", Kind.NOT_AN_OBJECT),
    ]


def test_every_field_is_kept() -> None:
    """Unused fields, their order, their types and every character are unchanged."""
    record = {
        "id": [1, 2.5, None, True, {"k": "v"}],
        **A,
        "note": '\u2028 \x00 \U0001f600 \\ " é',
        "big": 12345678901234567890,
        "": "",
    }
    copy = _copy(_write("d", record))
    assert _records(copy) == [record]
    assert list(json.loads(copy.lines[0])) == list(record)
    assert "\n" not in copy.lines[0]


def test_a_record_is_left_out_once() -> None:
    """A record with several findings is left out once, with an error as the reason."""
    path = _write("d", A, A)
    special = Finding(Kind.SPECIAL_TOKEN, "the text contains it", "d", 2)
    assert _left_out(_copy(path, more=[special])) == [("d:2", Kind.SPECIAL_TOKEN)]


def test_a_duplicate_of_a_faulty_record_is_kept() -> None:
    """If the first of two equal records has an error, the second is not its duplicate."""
    special = Finding(Kind.SPECIAL_TOKEN, "the text contains it", "d", 1)
    copy = _copy(_write("d", A, A, A), more=[special])
    assert _records(copy) == [A]
    assert _left_out(copy) == [("d:1", Kind.SPECIAL_TOKEN), ("d:3", Kind.EXACT_DUPLICATE)]


def _instances(*inputs: str) -> dict[str, object]:
    return {
        "instruction": "Spell the number.",
        "instances": [{"input": it, "output": f"it is {it}"} for it in inputs],
    }


def test_a_record_is_a_duplicate_only_if_all_its_instances_are() -> None:
    """A record with several instances is kept for a single new one, and for its own first ones."""
    records = [_instances("1", "1"), _instances("1", "2"), _instances("2", "1"), _instances("3")]
    copy = _copy(_write("d", *records))
    assert _records(copy) == [records[0], records[1], records[3]]
    assert _left_out(copy) == [("d:3", Kind.EXACT_DUPLICATE)]


def test_records_of_one_line_are_distinguished() -> None:
    """In an array on one line only the faulty records are left out."""
    Path("d").write_text(json.dumps([A, B, A, {"instruction": "c"}, B | {"id": 1}]))
    copy = _copy("d")
    assert _records(copy) == [A, B]
    assert [finding.line for finding in copy.left_out] == [1, 1, 1]
    assert len({finding.where for finding in copy.left_out}) == 3


def test_several_files_become_one() -> None:
    """Records of all files are in order; a duplicate may be in another file; the list of what is
    left out is in the order of the files.
    """
    Path("c.gz").write_bytes(gzip.compress(json.dumps(B).encode(), mtime=0))
    Path("b.csv").write_text("instruction,output,n\nWhat is a?,The first letter.,1\nWho?,Me,2\n")
    path = _write("z", "x", A, B)
    copy = _copy(path, "b.csv", "c.gz")
    assert _records(copy) == [A, B, {"instruction": "Who?", "output": "Me", "n": "2"}]
    assert [finding.where for finding in copy.left_out] == ["z:1", "b.csv:2", "c.gz:1"]


def test_faults_of_the_exam_file_are_ignored() -> None:
    """The copy is of the training file only."""
    _write("exam.jsonl", "x", B)
    copy = _copy(_write("train.jsonl", A, B))
    assert _records(copy) == [A, B]
    assert copy.left_out == ()


def test_the_exam_file_may_be_the_training_file() -> None:
    """Repeated findings leave nothing out twice."""
    path = _write("d", A, A, "x", B)
    check = check_files(CheckSettings(data=(path,), eval_file=path))
    copy = clean_copy(check.train, check.findings)
    assert _records(copy) == [A, B]
    assert [finding.where for finding in copy.left_out] == ["d:2", "d:3"]


def test_records_of_parquet_become_json() -> None:
    """Dates and bytes become text; NaN and infinite numbers, which JSON lacks, become null."""
    table = pa.table(
        {
            "instruction": ["a", "b"],
            "output": ["c", "d"],
            "score": [math.nan, 0.5],
            "more": [{"low": -math.inf}, {"low": 1.0}],
            "day": [datetime.date(2024, 2, 29), None],
        }
    )
    pa.parquet.write_table(table, "d.parquet")
    assert _records(_copy("d.parquet")) == [
        {
            "instruction": "a",
            "output": "c",
            "score": None,
            "more": {"low": None},
            "day": "2024-02-29",
        },
        {"instruction": "b", "output": "d", "score": 0.5, "more": {"low": 1.0}, "day": None},
    ]


def test_records_left_out_are_listed_in_json() -> None:
    """Each record has one line with its place, the kind of the finding, and the fault."""
    copy = _copy(_write("d", A, "x", A))
    assert [json.loads(line) for line in left_out_lines(copy.left_out)] == [
        {
            "where": "d:2",
            "kind": "not_json",
            "why": "not valid JSON (expected a value at column 1)",
        },
        {"where": "d:3", "kind": "exact_duplicate", "why": "same as d:1"},
    ]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
RECORD = st.dictionaries(
    st.sampled_from(["instruction", "output", "input", "tag", "x"]), TEXT | st.none(), max_size=4
)


@given(records=st.lists(RECORD | st.just("x"), min_size=1, max_size=8), spread=st.booleans())
@same_folder
def test_a_cleaned_copy_is_clean(records: list[object], spread: bool) -> None:
    """Cleaning gives the same records without errors and exact duplicates, each accounted for;
    cleaning again changes nothing.
    """
    sound = [it for it in records if it != "x"]
    if spread:
        Path("d").write_text(json.dumps(sound), encoding="utf-8")
    else:
        _write("d", *records)
    if spread and not sound:
        return
    if not any(isinstance(it, dict) for it in records) and len(records) > 1:
        return  # several lines of which none is JSON are no data
    try:
        copy = _copy("d")
    except UsageError:  # no record has a field that each needs
        return
    assert len(copy.lines) + len(copy.left_out) == len(sound if spread else records)
    assert all(json.loads(line) in sound for line in copy.lines)
    if not copy.lines:
        return
    Path("clean").write_text("".join(f"{line}\n" for line in copy.lines), encoding="utf-8")
    again = check_files(CheckSettings(data=("clean",)))
    assert not errors(again.findings)
    assert Kind.EXACT_DUPLICATE not in [finding.kind for finding in again.findings]
    assert clean_copy(again.train, again.findings).lines == copy.lines


def _without_greeting(path: str) -> CleanCopy:
    """Return the copy of a file whose first record a chat template refuses for its greeting."""
    check = check_files(CheckSettings(data=(path,)))
    assert check.train.examples[0].has_greeting
    refused = Finding(Kind.GREETING_FIRST, "no place for it", path, 1)
    return clean_copy(check.train, [*check.findings, refused])


@pytest.mark.parametrize("system", [[], [{"role": "system", "content": "Be brief."}]])
@pytest.mark.parametrize("as_text", [False, True])
def test_a_greeting_is_left_out_of_its_record(system: list[object], as_text: bool) -> None:
    """The copy has the conversation from its first question on, and is sound; fields are kept."""
    greeting: object = {"role": "assistant", "content": "Hello!"}
    rest: list[object] = [
        {"role": "user", "content": "What is a tree?"},
        {"role": "assistant", "content": "A plant."},
    ]
    turns = [*system, greeting, *rest]
    row = {"id": 7, "messages": json.dumps(turns) if as_text else turns}
    sound = {"id": 8, "messages": [{"role": "user", "content": "q"}, *rest[1:]]}
    copy = _without_greeting(_write("d.jsonl", row, sound))
    assert _records(copy) == [{"id": 7, "messages": [*system, *rest]}, sound]
    assert [it.line for it in copy.changed] == [1]
    assert copy.left_out == ()
    assert not errors(check_files(CheckSettings(data=(_write("e.jsonl", *copy.lines),))).findings)


@pytest.mark.parametrize(
    "turns",
    [
        [["bot", "Hello!"], ["user", "What is it?"], ["bot", "A plant."]],
        ["AI: Hello!", "Human: What is it?", "AI: A plant."],
        [{"assistant": "Hello!"}, {"user": "What is it?"}, {"assistant": "A plant."}],
        [
            {"from": "gpt", "value": "Hi!"},
            {"from": "Human", "value": "q"},
            {"role": "ai", "text": "a"},
        ],
        repr([{"role": "model", "text": "Hi"}, {"role": "user", "text": "q"}, ["bot", "a"]]),
        [json.dumps({"role": role, "content": "Words."}) for role in ("bot", "user", "bot")],
    ],
    ids=range(6),
)
def test_a_greeting_in_any_form_is_left_out(turns: object) -> None:
    """Whatever form the turns have, the copy is sound."""
    copy = _without_greeting(_write("d.jsonl", {"messages": turns}))
    assert (len(copy.lines), len(copy.changed), copy.left_out) == (1, 1, ())
    (example,) = check_files(CheckSettings(data=(_write("e.jsonl", *copy.lines),))).train.examples
    assert not example.earlier
