"""Specification of `fte check`: its output for people and for programs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from checks import BAD, MISSING, SOUND, Check, read_lines, write_lines
from tiny import END, Models, rows, write_rows

from finetuning_exam.cli import main
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.opening import PATH_HINT

pytestmark = pytest.mark.usefixtures("folder")

# What is output


def test_valid_data_exits_with_code_0(check: Check) -> None:
    """Sources, findings, outlook and summary come in this order; notes are not errors."""
    assert check(write_lines("d.jsonl", *SOUND)) == 0
    assert check.err == ""
    assert check.lines[:6] == [
        "d.jsonl: 6 records (JSON lines, instruction → output)",
        "",
        "note: unused field (1)",
        "  d.jsonl:1: field 'id' is not used (in 6 of 6 records).",
        f"  → {Kind.UNUSED_FIELD.hint}",
        "",
    ]
    assert check.lines[6].startswith("Tokens (builtin, plain template): ")
    assert check.lines[7:] == [
        "Split: 6 examples to train on, 0 to choose the best step, 6 for the exam "
        "(the training examples themselves, because fewer than 20 are not divided).",
        "Exam: 6 examples, 6 pieces of evidence.",
        "Warning: nothing is held out (6 different questions in 6 rows): the exam uses the "
        "training rows, so it says nothing about new questions, and the verdict can only be "
        '"too few examples to tell". To change that, use at least 20 different questions, or give '
        "an exam file of other questions with --eval_file.",
        "One epoch: 1 step of 6 rows.",
        "",
        "1 note.",
        "",
    ]


def test_errors_exit_with_code_2(check: Check) -> None:
    """If a record has an error, everything is still printed on standard output."""
    assert check(write_lines("d.jsonl", SOUND[0], BAD)) == 2
    assert check.err == ""
    assert f"  d.jsonl:2: {MISSING}" in check.lines
    assert "Split: 1 example to train on" in check.out
    assert check.lines[-2] == "1 error, 1 note."


def test_warnings_exit_with_code_0(check: Check) -> None:
    """Duplicates are for the user to judge."""
    assert check(write_lines("d.jsonl", SOUND[0], SOUND[0])) == 0
    assert "  d.jsonl:2: same as d.jsonl:1." in check.lines


def test_the_summary_says_that_nothing_was_found(check: Check) -> None:
    """Without findings there is a summary all the same."""
    assert check(str(write_rows(Path("d.jsonl"), rows(3)))) == 0
    assert check.lines[-2] == "No findings."


def test_data_without_a_usable_record_has_no_outlook(check: Check) -> None:
    """If all records have errors, these are reported and there are no statistics."""
    assert check(write_lines("d.jsonl", BAD)) == 2
    assert check.lines == [
        "d.jsonl: 1 record (JSON lines, instruction → output)",
        "",
        "error: missing field (1)",
        f"  d.jsonl:1: {MISSING}",
        "  → Add the field, or name your own with --prompt_field and --answer_field.",
        "",
        "1 error.",
        "",
    ]


def test_without_a_terminal_no_line_is_wrapped_or_padded(check: Check) -> None:
    """A path is on one line, whatever the width of the console."""
    long = Path("a folder with a long name") / ("and one more " * 10).strip()
    long.mkdir(parents=True)
    path = write_lines(str(long / "d.jsonl"), *SOUND, SOUND[0], BAD)
    assert check(path) == 2
    assert f"  {path}:8: {MISSING}" in check.lines
    assert f"  {path}:7: same as {path}:1." in check.lines
    assert all(line == line.rstrip() for line in check.lines)


def test_twenty_of_a_kind_are_shown_and_the_rest_counted(check: Check) -> None:
    """A file full of faults of one kind shows twenty lines; identical faults share a line."""
    faulty = [json.dumps({"instruction": "a", "b" * n: "c"}) for n in range(1, 31)]
    assert check(write_lines("d.jsonl", SOUND[0], *faulty, *[BAD] * 995)) == 2
    assert sum("missing field 'output'" in line for line in check.lines) == 20
    assert "  … and 1,005 more." in check.lines
    assert check.lines[-2] == "1,025 errors, 1 note."


def test_hostile_characters_are_shown_escaped(check: Check) -> None:
    """Names of files and fields, tags and texts cannot control a terminal."""
    hostile = "\x1b[2J\u202e\x9b\r\x07<script>"
    record = {"instruction": f"q {hostile}", "output": f"a {hostile}", "tag": hostile, hostile: 1}
    name = "\x1b[31m\u202e\td.jsonl"
    assert check(write_lines(name, record, BAD), "--show", "1") == 2
    assert not {"\x1b", "\u202e", "\x9b", "\r", "\x07"} & set(check.out + check.err)
    assert "‹U+001B›[31m‹U+202E›" in check.out
    assert "┃ a ‹U+001B›[2J‹U+202E›‹U+009B›‹U+000D›‹U+0007›<script>" in check.out


def test_several_files_and_an_exam_file(check: Check) -> None:
    """All files are listed; the exam uses the exam file, without questions that are trained on."""
    train = write_rows(Path("train.jsonl"), rows(10))
    more = Path("more.csv")
    more.write_text("instruction,output\nWho knows?,Nobody.\n", encoding="utf-8")
    exam = write_rows(Path("e.jsonl"), rows(12)[9:])
    assert check(str(train), str(more), "--eval_file", str(exam)) == 0
    assert check.lines[:3] == [
        "train.jsonl: 10 records (JSON lines, instruction → output)",
        "more.csv: 1 record (CSV, instruction → output)",
        "e.jsonl: 3 records (JSON lines, instruction → output)",
    ]
    assert "  e.jsonl:1: same question as train.jsonl:10." in check.lines
    assert "2 for the exam (e.jsonl)." in check.out


def test_rows_that_are_left_out_are_not_counted_as_trained(check: Check) -> None:
    """An example whose answer does not fit is not trained on, nor counted in split and steps."""
    long = {"instruction": "Say it.", "output": "word " * 200}
    flags = ("--max_length", "64", "--per_device_train_batch_size", "1")
    assert check(write_lines("d.jsonl", *SOUND[:2], long), *flags) == 0
    assert "d.jsonl:3: the answer alone has " in check.out
    assert "Split: 2 examples to train on" in check.out
    assert "One epoch: 2 steps of 1 row." in check.lines


def test_a_model_s_context_limits_the_rows(check: Check, models: Models) -> None:
    """The limit is `--max_length`, or the model's context if that is shorter."""
    path = str(write_rows(Path("d.jsonl"), rows(3)))
    assert check(path, "--model", str(models.folder("gpt2", n_positions=96))) == 0
    assert "limit 96;" in check.out
    assert check(path, "--model", str(models.folder()), "--max_length", "70") == 0
    assert "limit 70;" in check.out


# For programs


def test_json_is_all_of_standard_output(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--json` prints one JSON value in ASCII and nothing else, whatever the other flags."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # a program may have it set
    Path("c.yaml").write_text("lora_r: 3\n", encoding="utf-8")
    path = write_lines("d.jsonl", *SOUND, SOUND[0] | {"tag": "\x9b\U0001f600"}, BAD)
    flags = ("--config", "c.yaml", "--fix", "out.jsonl")
    assert check(path, "--json", *flags) == 2
    assert check.err == ""
    assert check.out.isascii()
    assert "\x1b" not in check.out
    value = json.loads(check.out)
    assert value["counts"] == {"errors": 1, "warnings": 1, "notes": 2}
    assert value["findings"][0] == {
        "kind": "unused_field",
        "severity": "note",
        "path": "d.jsonl",
        "line": 1,
        "column": None,
        "detail": "field 'id' is not used (in 7 of 7 records)",
    }
    assert (value["n_records"], value["tags"]) == (7, {"\x9b\U0001f600": 1})
    assert value["outlook"]["rows"]["train"] == 7
    assert len(read_lines("out.jsonl")) == 6


def test_json_of_valid_data_exits_with_code_0(check: Check) -> None:
    """The exit codes are the same with `--json`."""
    assert check(str(write_rows(Path("d.jsonl"), rows(3))), "--json") == 0
    assert json.loads(check.out)["findings"] == []


def test_an_invalid_flag_is_not_reported_as_json(check: Check) -> None:
    """An invalid flag is reported in one line on standard error."""
    assert check("gone.jsonl", "--json", "--nothing") == 2
    assert check.out == ""
    assert check.err.startswith("fte check: unknown flag --nothing.")


# As the model sees it


def test_show_marks_what_is_trained(check: Check) -> None:
    """`--show` prints the first records with marks before each line, the end token visible."""
    assert check(write_lines("d.jsonl", *SOUND), "--show", "2") == 0
    start = check.lines.index("1 note.")
    shown = check.lines[start + 2 : start + 8]
    assert shown[0].startswith("d.jsonl:1 · ")
    assert shown[1:] == [
        "│ ### Instruction:",
        f"│ {SOUND[0]['instruction']}",
        "│ ",
        "│ ### Response:",
        f"┃ {SOUND[0]['output']}<|endoftext|>",
    ]
    assert sum(line.startswith("┃ ") for line in check.lines) == 2


def test_show_of_more_examples_than_there_are(check: Check) -> None:
    """If there are fewer examples, all are shown."""
    assert check(write_lines("d.jsonl", *SOUND), "--show", "100") == 0
    assert sum(line.startswith("┃ ") for line in check.lines) == len(SOUND)


def test_show_of_a_record_that_cannot_be_trained(check: Check, models: Models) -> None:
    """An example with a special token is shown as its reason, and the next one as usual."""
    bad = {"instruction": "q", "output": f"a{END}"}
    path = write_lines("d.jsonl", bad, *SOUND)
    assert check(path, "--show", "2", "--model", str(models.folder(text="chat"))) == 2
    assert check.err == ""
    start = check.lines.index("d.jsonl:1")
    assert check.lines[start + 1 : start + 3] == [f"the text contains the special token {END}.", ""]
    assert check.lines[start + 3].startswith("d.jsonl:2 · ")


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["gone.jsonl"],
            f"gone.jsonl: no such file. {PATH_HINT}",
        ),
        (
            ["d.jsonl", "--eval_file", "gone"],
            f"gone: no such file. {PATH_HINT}",
        ),
        (
            ["d.jsonl", "--shwo", "1"],
            "unknown flag --shwo. Did you mean --show? See fte check --help.",
        ),
        (["d.jsonl", "--lora_r", "4"], "unknown flag --lora_r. It belongs to fte train."),
        (
            ["d.jsonl", "--show", "-1"],
            "--show: expected an integer of at least 0, got -1.",
        ),
        (
            ["d.jsonl", "--model", "./gone"],
            "./gone: no such model folder. Check the path, or use --model builtin.",
        ),
        (
            ["d.jsonl", "--template", "chat"],
            "The tokenizer has no chat template. Use --template plain.",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(check: Check, arguments: Sequence[str], message: str) -> None:
    """A missing file or a wrong flag is one line on standard error, with code 2."""
    write_lines("d.jsonl", *SOUND)
    assert check(*arguments) == 2
    assert check.err == f"fte check: {message}\n"
    assert check.out == ""


def test_no_data_in_the_yaml_file_is_a_mistake(check: Check) -> None:
    """An empty list of files is an error."""
    Path("c.yaml").write_text("data: []\n", encoding="utf-8")
    assert check("--config", "c.yaml") == 2
    assert check.err == (f"fte check: No data file given. {PATH_HINT}\n")


def test_torch_is_never_loaded() -> None:
    """The whole check, with tokens, `--show` and `--fix`, loads neither torch nor what needs it."""
    write_lines("d.jsonl", *SOUND)
    code = (
        "import sys; from finetuning_exam.cli import main\n"
        "assert main(['check', 'd.jsonl', '--show', '1', '--fix', 'out.jsonl']) == 0\n"
        "print(sorted({'torch', 'trl', 'peft', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "[]"


def test_json_reports_a_fault_of_the_whole_file(capsys: pytest.CaptureFixture[str]) -> None:
    """An error that ends the check is reported as JSON and as a line on standard error."""
    assert main(["check", "gone.jsonl", "--json"]) == 2
    output = capsys.readouterr()
    assert json.loads(output.out)["error"]["what"].startswith("gone.jsonl: no such file")
    assert "gone.jsonl" in output.err


def test_show_and_json_cannot_be_combined(capsys: pytest.CaptureFixture[str]) -> None:
    """A flag that would have no effect is refused."""
    assert main(["check", write_lines("d.jsonl", *SOUND), "--json", "--show", "1"]) == 2
    assert "--show has no effect with --json." in capsys.readouterr().err


def test_a_limit_above_the_context_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """The model's context is used instead, and the output says so."""
    assert main(["check", write_lines("d.jsonl", *SOUND), "--max_length", "4000"]) == 0
    output = capsys.readouterr().out
    assert "--max_length 4,000 is more than the model's context: 1,024 is used." in output
    assert "limit 1,024" in output
