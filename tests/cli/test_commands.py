"""Specification of the command line as a user meets it: another process, its words, its code."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from finetuning_exam.cli import main

HEAVY = {"torch", "transformers", "trl", "peft", "datasets"}
RECORD = '{"instruction": "What is ls?", "output": "It lists files."}\n'
NEEDS_FILE = "Give the path of a data file: JSON lines, JSON, CSV, TSV, Excel, Parquet or text."


@dataclass(frozen=True)
class Done:
    """What a command said, its exit code, and the libraries it imported."""

    code: int
    out: str
    err: str
    libraries: frozenset[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every command runs in a folder with one good file of three records."""
    monkeypatch.chdir(tmp_path)
    Path("good.jsonl").write_text(RECORD * 3, encoding="utf-8")
    return tmp_path


def _fte(*arguments: str | bytes, **environment: str) -> Done:
    """Run `fte` in a process of its own; Python itself tells what is imported."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "finetuning_exam", *arguments],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "200", **environment},
    )
    err = done.stderr.decode("utf-8", "backslashreplace")
    imported = re.findall(r"^import time:.*\| +([\w.]+)$", err, flags=re.MULTILINE)
    assert "finetuning_exam.cli" in imported
    said = "".join(
        line for line in err.splitlines(keepends=True) if not line.startswith("import time:")
    )
    libraries = frozenset(name.split(".")[0] for name in imported)
    return Done(done.returncode, done.stdout.decode("utf-8", "backslashreplace"), said, libraries)


def _assert_refused(done: Done, message: str, out: str = "") -> None:
    """One message on stderr, exit code 2, and no heavy library was even looked at."""
    assert done.err == f"{message}\n"
    assert done.out == out
    assert done.code == 2
    assert not done.libraries & HEAVY


def _model(name: str, config: str | None) -> None:
    Path(name).mkdir()
    (Path(name) / "model.safetensors").touch()
    if config is not None:
        (Path(name) / "config.json").write_text(config, encoding="utf-8")


@pytest.mark.parametrize("command", ["check", "train", "compare", "exam"])
def test_help_of_every_command(command: str) -> None:
    """`--help` shows usage and flags on stdout, exits with 0, and loads nothing heavy."""
    done = _fte(command, "--help")
    assert (done.code, done.err) == (0, "")
    assert re.search(rf"^Usage: .* {command} \[.*\] \[FLAGS\]$", done.out, re.MULTILINE)
    assert "--seed INT" in done.out
    assert not done.libraries & HEAVY


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_of_the_whole(arguments: list[str]) -> None:
    """Without a command, or with `--help`, the commands are listed."""
    done = _fte(*arguments)
    assert (done.code, done.err) == (0, "")
    for command in ("check", "train", "compare", "exam"):
        assert f"\n  {command} " in done.out
    assert not done.libraries & HEAVY


def test_version() -> None:
    """`--version` is the name and the number."""
    done = _fte("--version")
    assert (done.code, done.err) == (0, "")
    assert re.fullmatch(r"fte \d+\.\d+\.\d+\n", done.out)


@pytest.mark.parametrize(("command", "nearest"), [("trian", " Did you mean train?"), ("-z", "")])
def test_an_unknown_command(command: str, nearest: str) -> None:
    """The message for an unknown command suggests the nearest one."""
    _assert_refused(_fte(command), f"fte: unknown command {command!r}.{nearest} See fte --help.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["train", "--bf16", "True"],
            "--bf16: no such setting here. Use --dtype bfloat16.",
        ),
        (["train"], f"train.jsonl: no such file. {NEEDS_FILE}"),
        (["check", "gone.jsonl"], f"gone.jsonl: no such file. {NEEDS_FILE}"),
        (["train", "good.jsonl", "gone.jsonl"], f"gone.jsonl: no such file. {NEEDS_FILE}"),
        (["train", "gone.jsonl"], f"gone.jsonl: no such file. {NEEDS_FILE}"),
        (["compare", "--prompts", "gone.jsonl"], f"gone.jsonl: no such file. {NEEDS_FILE}"),
        (
            ["train", "good.jsonl", "--eval_file", "gone.jsonl"],
            f"gone.jsonl: no such file. {NEEDS_FILE}",
        ),
        (
            ["train", "good.jsonl", "--output_dir", "good.jsonl"],
            "good.jsonl: is a file, not a folder. Give another --output_dir.",
        ),
        (
            ["train", "good.jsonl", "--output_dir", "."],
            ".: is not empty and holds no run. Give a new or empty --output_dir.",
        ),
        (
            ["train", "good.jsonl", "--model", "./gone"],
            "./gone: no such model folder. Check the path, or use --model builtin.",
        ),
        (
            ["compare", "hi", "--adapter", "gone"],
            "gone: no adapter_config.json in this folder. "
            "Train first (fte train), or use --adapter to name the adapter's folder.",
        ),
        (
            ["exam", "good.jsonl", "--output_file", "gone/exam.json"],
            "--output_file gone/exam.json: its folder does not exist. "
            "Create it, or give another path.",
        ),
        (
            ["exam", "good.jsonl", "--output_file", "."],
            "--output_file .: is a folder. Give the path of a file.",
        ),
        (
            ["exam", "good.jsonl", "--output_file", "good.jsonl"],
            "--output_file good.jsonl: exists and is not an exam. "
            "Give another path, or remove the file.",
        ),
        (
            ["train", "good.jsonl", "--seed", "4294967296"],
            "--seed: expected an integer from 0 to 4294967295, got 4294967296.",
        ),
        (["compare", ""], "argument:1: the question is empty."),
        (["compare", "a?", " \n"], "argument:2: the question is empty."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(arguments: list[str], message: str) -> None:
    """A user's mistake is one line with what, where and the hint, before torch is imported."""
    _assert_refused(_fte(*arguments), f"fte {arguments[0]}: {message}")


def test_faulty_data_is_told_by_line() -> None:
    """An empty file, broken JSON on line 3 and a record without output are told by their lines."""
    Path("empty.jsonl").touch()
    _assert_refused(
        _fte("train", "empty.jsonl"),
        "fte train: empty.jsonl: no records found. "
        'Write one JSON object per line, such as {"instruction": "…", "output": "…"}.',
    )
    Path("broken.jsonl").write_text(RECORD * 2 + '{"instruction": "a",\n' + RECORD)
    _assert_refused(
        _fte("train", "broken.jsonl"),
        "fte train: broken.jsonl:3: not valid JSON "
        "(missing '}' at column 21). Fix the line. "
        "To train without these records, add --skip_bad_rows.",
    )
    Path("short.jsonl").write_text(RECORD + '{"instruction": "a"}\n')
    _assert_refused(
        _fte("train", "short.jsonl"),
        "fte train: short.jsonl:2: missing field 'output' (fields: 'instruction'). "
        "Add the field, or name your own with --prompt_field and --answer_field. "
        "To train without these records, add --skip_bad_rows.",
    )


def test_an_exam_file_beside_the_training_file_is_read() -> None:
    """x_exam.jsonl beside x_train.jsonl is taken, so a fault in it is told."""
    Path("good.jsonl").rename("x_train.jsonl")
    Path("x_exam.jsonl").write_text("3\n", encoding="utf-8")
    _assert_refused(
        _fte("train", "x_train.jsonl"),
        "fte train: x_exam.jsonl:1: expected an object, got a number. Write "
        '{"instruction": "…", "output": "…"}. '
        "To train without these records, add --skip_bad_rows.",
    )


def test_an_exam_file_of_another_name_is_left_alone() -> None:
    """exam.jsonl is not the exam of just any file beside it: a fault in it is not even read."""
    Path("exam.jsonl").write_text("[]\n", encoding="utf-8")
    _assert_refused(
        _fte("train", "good.jsonl", "--model", "./nope"),
        "fte train: ./nope: no such model folder. Check the path, or use --model builtin.",
    )


def test_a_model_that_brings_code_is_refused() -> None:
    """A folder whose config.json has auto_map is refused before anything of it is loaded."""
    _model("remote", '{"auto_map": {"AutoModelForCausalLM": "evil.Model"}}')
    (Path("remote") / "evil.py").write_text("raise SystemExit(99)", encoding="utf-8")
    _assert_refused(
        _fte("train", "good.jsonl", "--model", "remote"),
        "fte train: remote: needs to run its own code (auto_map in config.json), "
        "which is never allowed. Use a model whose architecture is part of Transformers.",
    )


def test_a_folder_without_a_model_is_refused() -> None:
    """The error for a folder without a model says what is missing."""
    _model("bare", None)
    _assert_refused(
        _fte("train", "good.jsonl", "--model", "bare"),
        "fte train: bare: no config.json in this folder. "
        "Use a folder that contains a Transformers model.",
    )


NO_ADAPTER = (
    "fte exam: gone: no adapter_config.json in this folder. "
    "Train first (fte train), or use --adapter to name the adapter's folder."
)


def test_a_file_is_named_as_it_is() -> None:
    """A name is said as it is, whatever it would mean to a terminal library."""
    name = "[red]x[ab][-b] :x:.jsonl"
    Path("good.jsonl").rename(name)
    done = _fte("exam", name, "--adapter", "gone")
    _assert_refused(done, NO_ADAPTER, out=f"{name}: 3 records\n")


def test_control_characters_in_a_name_do_not_reach_the_terminal() -> None:
    """Escape sequences and bidirectional overrides in a name are shown, not sent."""
    name = "a\x1b[2Jb\u202e.jsonl"
    Path("good.jsonl").rename(name)
    done = _fte("exam", name, "--adapter", "gone")
    assert (done.code, done.err) == (2, f"{NO_ADAPTER}\n")
    assert "\x1b" not in done.out
    assert "\u202e" not in done.out
    assert done.out.endswith(": 3 records\n")


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux only")
def test_a_name_that_is_no_unicode_is_no_crash() -> None:
    """A file whose name is not UTF-8 is read, and its name shown somehow."""
    os.rename("good.jsonl", b"caf\xe9.jsonl")
    done = _fte("exam", b"caf\xe9.jsonl", "--adapter", "gone", PYTHONIOENCODING="utf-8:strict")
    assert (done.code, done.err) == (2, f"{NO_ADAPTER}\n")
    assert done.out.endswith(".jsonl: 3 records\n")


def test_an_output_that_knows_few_characters_is_no_crash() -> None:
    """Where standard output cannot show a character, as on Windows, the rest is still said."""
    Path("good.jsonl").rename("日.jsonl")
    done = _fte("exam", "日.jsonl", "--adapter", "gone", PYTHONIOENCODING="cp1252")
    assert done.code == 2
    assert "Traceback" not in done.err
    assert done.out.endswith(".jsonl: 3 records\n")


@pytest.mark.skipif(sys.platform != "linux", reason="arguments are bytes on Linux only")
def test_a_question_that_is_no_unicode_is_refused() -> None:
    """A question with a lone surrogate, as Python reads bytes that are not UTF-8, is one line."""
    done = _fte("compare", b"caf\xe9?", PYTHONUTF8="1")
    _assert_refused(done, "fte compare: argument:1: the question is not UTF-8.")


@pytest.mark.skipif(find_spec("wandb") is not None, reason="wandb is installed here")
def test_a_tracker_that_is_missing_is_refused() -> None:
    """A tracker that is not installed is an error before torch is imported."""
    for under_uv, installer in (("", "pip"), ("1", "uv pip")):
        _assert_refused(
            _fte("train", "good.jsonl", "--report_to", "wandb", UV_RUN_RECURSION_DEPTH=under_uv),
            f"fte train: --report_to wandb: not installed. Install it: {installer} install wandb",
        )


@pytest.mark.parametrize(
    ("number", "name", "code", "message"),
    [
        (errno.ENOSPC, None, 4, "No space left on device."),
        (errno.ENOSPC, "out/a.bin", 4, "out/a.bin: No space left on device."),
        (errno.EACCES, "out/a.bin", 2, "out/a.bin: Permission denied."),
        (errno.ENOENT, None, 2, "No such file or directory."),
    ],
)
def test_an_error_of_the_system_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
    name: str | None,
    code: int,
    message: str,
) -> None:
    """A disk that fills up inside a library ends with code 4, any other refusal with code 2."""

    def fail(_: object) -> int:
        raise OSError(number, os.strerror(number), name)

    monkeypatch.setattr("finetuning_exam.cli.train.run", fail)
    assert main(["train"]) == code
    assert capsys.readouterr().err == f"fte train: {message}\n"
