"""Specification of `fte check --fix`, which writes a cleaned copy."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
from checks import BAD, MISSING, SOUND, Check, read_lines, write_lines
from tiny import END, Models

from finetuning_exam.cli import main

pytestmark = pytest.mark.usefixtures("folder")


def test_fix_writes_the_valid_records(check: Check) -> None:
    """The copy has every field of the kept records, and the list the reason for each other one; the
    original is unchanged, byte for byte.
    """
    path = write_lines("d.jsonl", *SOUND, BAD, SOUND[2] | {"id": 9}, "x")
    before = Path(path).read_bytes()
    assert check(path, "--fix", "out.jsonl") == 2
    assert Path(path).read_bytes() == before
    assert read_lines("out.jsonl") == list(SOUND)
    assert read_lines("out.jsonl.left-out.jsonl") == [
        {"where": "d.jsonl:7", "kind": "missing_field", "why": MISSING.rstrip(".")},
        {"where": "d.jsonl:8", "kind": "exact_duplicate", "why": "same as d.jsonl:3"},
        {
            "where": "d.jsonl:9",
            "kind": "not_json",
            "why": "not valid JSON (expected a value at column 1)",
        },
    ]
    assert check.lines[-2] == (
        "out.jsonl: 6 records written; 3 left out, listed in out.jsonl.left-out.jsonl."
    )
    assert check("out.jsonl") == 0


def test_fix_of_compressed_and_several_files(check: Check) -> None:
    """Compressed files and CSV become JSON lines; the values are unchanged."""
    Path("a.jsonl.gz").write_bytes(gzip.compress(json.dumps(SOUND[0]).encode(), mtime=0))
    Path("b.csv").write_text('n,instruction,output\n07,"What\nnow?", Go \n', encoding="utf-8")
    assert check("a.jsonl.gz", "b.csv", "--fix", "out.jsonl") == 0
    assert read_lines("out.jsonl") == [
        SOUND[0],
        {"n": "07", "instruction": "What\nnow?", "output": " Go "},
    ]


def test_fix_leaves_out_special_tokens(check: Check, models: Models) -> None:
    """A record that this model's chat template would interpret has an error and is left out."""
    path = write_lines("d.jsonl", {"instruction": "q", "output": f"a{END}"}, *SOUND)
    model = str(models.folder(text="chat"))
    assert check(path, "--model", model, "--fix", "out.jsonl") == 2
    assert read_lines("out.jsonl") == list(SOUND)
    assert check("out.jsonl", "--model", model) == 0


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ("out.jsonl", "out.jsonl already exists. Give the path of a new file."),
        (
            "out.jsonl.left-out.jsonl",
            "out.jsonl.left-out.jsonl already exists. Give the path of a new file.",
        ),
    ],
)
def test_fix_overwrites_nothing(check: Check, there: str, message: str) -> None:
    """An existing file of any content is refused and not changed."""
    path = write_lines("d.jsonl", *SOUND)
    Path(there).write_text("mine", encoding="utf-8")
    assert check(path, "--fix", "out.jsonl") == 2
    assert (check.out, check.err) == ("", f"fte check: --fix out.jsonl: {message}\n")
    assert Path(there).read_text(encoding="utf-8") == "mine"
    assert sorted(it.name for it in Path().iterdir()) == sorted(["d.jsonl", there])


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("d.jsonl", "d.jsonl already exists. Give the path of a new file."),
        ("./d.jsonl", "d.jsonl already exists. Give the path of a new file."),
        (".", ". already exists. Give the path of a new file."),
        ("", ". already exists. Give the path of a new file."),
        ("link", "link already exists. Give the path of a new file."),
        ("gone/out.jsonl", "its folder does not exist. Create it, or give another path."),
        ("out.csv", "the copy is written as JSON lines. Use a name that ends in .jsonl."),
        ("out.jsonl.GZ", "the copy is written as JSON lines. Use a name that ends in .jsonl."),
    ],
)
def test_an_unusable_path_for_the_copy_is_refused(check: Check, out: str, message: str) -> None:
    """An input, a folder, a dangling link, a missing folder, or the extension of another format is
    one line before the data are read, and nothing is written.
    """
    path = write_lines("d.jsonl", *SOUND)
    before = Path(path).read_bytes()
    Path("link").symlink_to("nowhere")
    assert check(path, "--fix", out) == 2
    assert check.out == ""
    assert check.err == f"fte check: --fix {Path(out)}: {message}\n"
    assert Path(path).read_bytes() == before
    assert sorted(it.name for it in Path().iterdir()) == ["d.jsonl", "link"]


def test_a_folder_that_may_not_be_written_is_refused_first(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only folder is reported before the data are read."""
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # root may everything
    assert check(write_lines("d.jsonl", *SOUND), "--fix", "out.jsonl") == 2
    assert check.out == ""
    assert check.err == (
        "fte check: --fix out.jsonl: its folder is read-only. Give another path.\n"
    )


def test_files_of_different_formats_have_no_common_copy(capsys: pytest.CaptureFixture[str]) -> None:
    """`--fix` refuses to write records that could not be read again as one file."""
    first = write_lines("a.jsonl", *SOUND)
    second = write_lines("b.jsonl", {"question": "Who?", "answer": "They."})
    assert main(["check", first, second, "--fix", "c.jsonl"]) == 2
    assert "instruction → output, question → answer" in capsys.readouterr().err
    assert not Path("c.jsonl").exists()
