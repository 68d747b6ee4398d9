"""Faulty data files, each through the command line.

Each fault is either read correctly or reported on one line with file, place, cause and hint,
without a traceback, a hang or a stray file. What only readers and templates can show is tested in
tests/data/.
"""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
from pathlib import Path

import pytest
from fault_commands import GOOD, Said
from tiny import END, LEAN, Models, rows, write_rows

from finetuning_exam.data.reading.files import MAX_LINE_BYTES
from finetuning_exam.data.reading.read import read_records
from finetuning_exam.settings import FieldSettings

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("folder")]

NEEDS_FILE = "Give the path of a data file: JSON lines, JSON, CSV, TSV, Excel, Parquet or text."


# Bytes that are not text


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b'{"instruction": "caf\xe9"}', "not valid UTF-8 (0xe9 at byte 21)."),
        (b'{"instruction": "a\x00", "output": "b"}', "not valid JSON (unescaped control character"),
        (
            b'{"instruction": "a\\ud83d", "output": "b"}',
            "field 'instruction' contains an unpaired surrogate",
        ),
        (b"\x00\x00\x00", "not valid JSON (expected a value at column 1)."),
    ],
)
def test_bad_bytes_are_reported(said: Said, line: bytes, what: str) -> None:
    """Invalid UTF-8, a zero byte and an unpaired surrogate are reported with line and byte or
    column.
    """
    assert said.check(GOOD * 40 + line + b"\n" + GOOD) == 2
    assert [it for it in said.findings if it.startswith("d.jsonl:41: " + what)]
    assert said.out.splitlines()[-1].startswith("1 error, ")


# Equivalent spellings of a file


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + GOOD * 2,
        GOOD.replace(b"\n", b"\r\n") * 2,
        b"\n\n" + GOOD + b" \r\n\t\n" + GOOD,
        (GOOD * 2).rstrip(),
    ],
    ids=["byte-order mark", "CRLF", "blank lines", "no last newline"],
)
def test_byte_order_mark_and_line_endings_make_no_difference(said: Said, content: bytes) -> None:
    """A byte-order mark, CRLF, blank lines and no last newline give the same examples."""
    assert said.check(content) == 0
    assert said.out.startswith("d.jsonl: 2 records (JSON lines, instruction → output)\n")
    found = read_records(["d.jsonl"], FieldSettings()).examples
    assert {(it.instruction, it.answer) for it in found} == {("What is ls?", "It lists files.")}


# Lines that are not an object


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (GOOD[:50], "not valid JSON (unterminated string starting at column 42)."),
        (GOOD.strip() * 2, "several objects on one line (the second starts at column 60)."),
        (b'{"instruction": Infinity, "output": "b"}', "Infinity is not valid JSON."),
        (b'{"instruction": "a", "output": -Infinity}', "-Infinity is not valid JSON."),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "nested more than 100 levels deep."),
        (b"[" * 10_000, "nested more than 100 levels deep."),
    ],
    ids=["cut", "two objects", "Infinity", "-Infinity", "deep", "deep and cut"],
)
def test_a_broken_line_is_reported(said: Said, line: bytes, what: str) -> None:
    """A cut last line, two objects, infinity, and ten thousand levels are each one error."""
    assert said.check(GOOD + line) == 2
    assert said.findings == [f"d.jsonl:2: {what}"]


def test_a_huge_line_takes_little_memory() -> None:
    """A line of 100 MB between valid ones is reported and never held: memory stays within a few
    times the limit of a line.
    """
    with Path("d.jsonl").open("wb") as file:
        file.write(GOOD + b'{"instruction": "')
        for _ in range(100):
            file.write(b"x" * (1 << 20))
        file.write(b'", "output": "b"}\n' + GOOD)
    tracemalloc.start()
    try:
        records = read_records(["d.jsonl"], FieldSettings())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [str(it) for it in records.findings] == ["d.jsonl:2: the line is longer than 16 MiB."]
    assert [it.line for it in records.examples] == [1, 3]
    assert peak < 3 * MAX_LINE_BYTES


# Fields


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"instruction": "a", "output": "b", "output": "c"}', "duplicate field 'output'."),
        (
            '{"instruction": "a"}',
            "missing field 'output' (fields: 'instruction').",
        ),
        (
            '{"instruction": null, "output": "b"}',
            "field 'instruction' is null; expected a string.",
        ),
        (
            '{"instruction": "a", "output": 5}',
            "field 'output' is a number; expected a string.",
        ),
        ("[1]", "expected an object, got a list."),
    ],
)
def test_a_faulty_field_is_reported(said: Said, line: str, what: str) -> None:
    """A duplicate, missing or null field, or one that is not text, is an error with its name and
    line.
    """
    assert said.check(GOOD + line.encode()) == 2
    assert said.findings == [f"d.jsonl:2: {what}"]


def test_an_unknown_field_is_reported(said: Said) -> None:
    """An unused field is a note with its name, and the first line that has it."""
    assert said.check(GOOD + b'{"instruction": "a", "output": "b", "source": "web"}') == 0
    assert "d.jsonl:2: field 'source' is not used (in 1 of 2 records)." in said.findings


def test_a_misspelled_field_is_an_error(said: Said) -> None:
    """A field whose name is nearly that of the missing one is not just unused."""
    assert said.check(GOOD + b'{"instruction": "a", "ouput": "b"}') == 2
    (found,) = said.findings
    assert found.startswith("d.jsonl:2: ")
    assert "'ouput'" in found
    assert "'output'" in found


# Paths that are not a file of lines


def test_an_empty_file_is_reported(said: Said) -> None:
    """An empty file, and one of blank lines, have no records."""
    for content in (b"", b"\n \n"):
        assert said.check(content) == 2
        assert said.err == (
            "fte check: d.jsonl: no records found. Write one JSON object per line, such as "
            '{"instruction": "…", "output": "…"}.\n'
        )


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("pipe", f"pipe is not a regular file. {NEEDS_FILE}"),
        ("/dev/zero", f"/dev/zero is not a regular file. {NEEDS_FILE}"),
        (
            "http://localhost:1/d.jsonl",
            "http://localhost:1/d.jsonl is a URL, not a file. Download it first, then give "
            "the file's path.",
        ),
        ("[xy].jsonl", f"[xy].jsonl: no file fits this pattern. {NEEDS_FILE}"),
        ("a.jsonl::b", "a.jsonl::b: no such file. Did you mean a.jsonl?"),
        ("zip://x::a.jsonl", f"zip://x::a.jsonl: no such file. {NEEDS_FILE}"),
    ],
)
@pytest.mark.parametrize("command", ["check", "train", "exam"])
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_only_files_are_read(said: Said, command: str, name: str, what: str) -> None:
    """A pipe without a writer, an endless device, a URL and a pattern that nothing fits are refused
    at once by every command, and no other file is read instead.
    """
    os.mkfifo("pipe")
    Path("a.jsonl").write_bytes(GOOD)
    assert said.fte(command, name) == 2
    assert said.err == f"fte {command}: {what}\n"
    assert said.out == ""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("d.json", b"[" + GOOD.strip() + b"]"),
        ("d.jsonl", gzip.compress(GOOD, mtime=0)),
        ("[ab].jsonl", GOOD),
        ("a::b.jsonl", GOOD),
        ("file:d.jsonl", GOOD),
    ],
)
def test_arrays_gzip_and_odd_names_are_read(said: Said, name: str, content: bytes) -> None:
    """An array, a compressed file and a name with brackets or colons are read as that file."""
    Path(name).write_bytes(content)
    assert said.fte("check", name) == 0
    assert said.out.startswith(f"{name}: 1 record (")


# Odd characters

ODD = "👩‍👩‍👧 שלום e\u0301 \u202eevil\u202c \x1b[31m<script>alert(1)</script>"


def test_odd_characters_are_read_unchanged_and_shown_escaped(said: Said) -> None:
    """Emoji, right-to-left text and combining marks are unchanged; escape sequences and
    bidirectional overrides are reported and shown as code points, also in the row.
    """
    record = {"instruction": f"Say {ODD}", "output": ODD}
    assert said.check(json.dumps(record, ensure_ascii=False).encode(), "--show", "1") == 0
    (found,) = read_records(["d.jsonl"], FieldSettings()).examples
    assert found.answer == ODD
    assert "\x1b" not in said.out
    assert "\u202e" not in said.out
    assert "d.jsonl:1: the answer contains U+001B at character 22." in said.findings
    shown = (
        ODD.replace("\x1b", "‹U+001B›").replace("\u202e", "‹U+202E›").replace("\u202c", "‹U+202C›")
    )
    assert f"┃ {shown}<|endoftext|>" in said.out.splitlines()


def test_odd_characters_in_json_are_ascii(said: Said) -> None:
    """A program gets every character back, and none of them can control a terminal."""
    record = {"instruction": "q", "output": "a", "tag": ODD}
    assert said.check(json.dumps(record).encode(), "--json") == 0
    assert said.out.isascii()
    assert list(json.loads(said.out)["tags"]) == [ODD]


# Special tokens


def test_a_special_token_in_the_plain_template_is_text(said: Said, models: Models) -> None:
    """It is reported and trained as ordinary text: one end token ends the row."""
    record = {"instruction": "What ends?", "output": f"This {END} ends."}
    assert (
        said.check(json.dumps(record).encode(), "--model", str(models.folder()), "--show", "1") == 0
    )
    assert f"d.jsonl:1: the text contains the special token {END}." in said.findings
    assert "warning: text that looks like a special token" in said.out
    assert f"┃ This {END} ends.{END}" in said.out.splitlines()


def test_a_special_token_in_a_chat_template_is_an_error(said: Said, models: Models) -> None:
    """If the template would interpret it, it is an error with its line, and training refuses it."""
    record = {"instruction": f"Ignore this {END}", "output": "No."}
    model = str(models.folder(text="chat"))
    content = GOOD + json.dumps(record).encode()
    assert said.check(content, "--model", model) == 2
    assert said.findings == [f"d.jsonl:2: the text contains the special token {END}."]
    assert "Remove it, or use --template plain, where it is ordinary text." in said.out
    assert (
        said.fte("train", "d.jsonl", "--model", model, "--device", "cpu", "--max_steps", "1") == 2
    )
    assert said.err.startswith(f"fte train: d.jsonl:2: the text contains the special token {END}.")
    assert [path.name for path in Path("output").iterdir()] == [".lock"]


# Duplicates, long rows, and trained exam questions


def test_warnings_are_counted_and_reported_with_lines(said: Said) -> None:
    """Truncated prompts, empty answers, exact and near duplicates, one prompt with two answers, and
    exam questions that are trained on are each reported with their places.
    """
    sentence = "Which command shows every file in the folder, hidden ones too, and their sizes?"
    records = [
        {"instruction": "word " * 600, "output": "Yes."},
        {"instruction": "What is it?", "output": " "},
        {"instruction": sentence, "output": "Use ls -la."},
        {"instruction": sentence, "output": "Use ls -la."},
        {"instruction": sentence.replace("too", "also"), "output": "Use ls -la."},
        {"instruction": "Who wrote it?", "output": "Ada."},
        {"instruction": "Who wrote it?", "output": "Alan."},
        {"instruction": "Go.", "output": "word" + " word" * 599},
    ]
    Path("train.jsonl").write_text("".join(json.dumps(it) + "\n" for it in records))
    asked = [
        {"instruction": "who wrote it", "output": "Ada."},
        {"instruction": "How far is the moon?", "output": "Far."},
    ]
    Path("exam.jsonl").write_text("".join(json.dumps(it) + "\n" for it in asked))
    assert said.fte("check", "train.jsonl", "--max_length", "256") == 2
    found = [line.strip() for line in said.out.splitlines()]
    for expected in (
        "error: empty answer (1)",
        "train.jsonl:2: field 'output' is empty.",
        "warning: exact duplicate (1)",
        "train.jsonl:4: same as train.jsonl:3.",
        "warning: near duplicate (1)",
        "train.jsonl:5: nearly the same as train.jsonl:3.",
        "warning: same prompt, different answers (1)",
        "train.jsonl:7: same prompt as train.jsonl:6, different answer.",
        "warning: exam question also in the training data (1)",
        "exam.jsonl:1: same question as train.jsonl:6.",
        "warning: prompt too long: truncated (1)",
        "warning: answer too long: example left out (1)",
        "1 error, 6 warnings.",
    ):
        assert expected in found
    assert [it for it in found if it.startswith("train.jsonl:1: the prompt is cut from ")]
    assert [it for it in found if it.startswith("train.jsonl:8: the answer alone has ")]


def test_near_duplicates_stay_on_one_side(said: Said, models: Models) -> None:
    """Training reports its findings, and the exam never asks what is trained on."""
    path = str(write_rows(Path("d.jsonl"), rows(30) * 2))
    quick = ("--max_steps", "1", "--device", "cpu", "--answered_examples", "0", *LEAN)
    assert said.fte("train", path, "--model", str(models.folder()), *quick) == 0
    assert "exact duplicate: 30 (d.jsonl:31 …)" in said.out
    exam = json.loads(Path("output/exam.json").read_text(encoding="utf-8"))
    asked = [row["prompt"] for row in exam["examples"]]
    assert all(asked.count(prompt) == 2 for prompt in asked)
