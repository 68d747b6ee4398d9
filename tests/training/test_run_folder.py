"""Specification of a run's folder: refused early, replaced with care, written whole."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from finetuning_exam import run_file
from finetuning_exam.errors import UsageError
from finetuning_exam.run_record import DataInputs, RunInputs
from finetuning_exam.training.run_folder import (
    begin,
    check_output_dir,
    clear_run,
    is_unfinished,
)

RUN_FILES = (
    "exam.json",
    "metrics.jsonl",
    "report.html",
    "README.md",
    "adapter_model.safetensors",
    "adapter_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "run.json",
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in an empty folder, so that a path in a message is a bare name."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _refusal(path: str) -> str:
    with pytest.raises(UsageError) as caught:
        check_output_dir(Path(path))
    return str(caught.value)


def _checkpoint(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "adapter_model.safetensors").touch()
    return path


def _earlier_run(path: Path) -> None:
    path.mkdir()
    for name in RUN_FILES:
        (path / name).write_text(name, encoding="utf-8")
    begin(path, RunInputs())
    for step in (20, 100, 3):
        _checkpoint(path / f"checkpoint-{step}")


def test_a_missing_output_folder_is_made() -> None:
    """The output folder and those above it are made, and nothing is left in them."""
    check_output_dir(Path("a/b/c"))
    assert list(Path("a/b/c").iterdir()) == []


def test_an_empty_folder_and_a_run_s_folder_are_taken() -> None:
    """An empty folder will do, and so will that of an earlier run, finished or not."""
    check_output_dir(Path("new"))
    check_output_dir(Path("new"))
    begin(Path("new"), RunInputs())
    (Path("new") / "something").touch()
    check_output_dir(Path("new"))
    assert sorted(os.listdir("new")) == ["run.json", "something"]


def test_a_file_is_no_output_folder() -> None:
    """A file where the folder should be is refused."""
    Path("out").touch()
    assert _refusal("out") == "out: is a file, not a folder. Give another --output_dir."


def test_a_folder_below_a_file_cannot_be_made() -> None:
    """A path that goes through a file is refused with the system's reason."""
    Path("out").touch()
    assert _refusal("out/deep") == (
        "out/deep: cannot be written to (Not a directory). Give another --output_dir."
    )


def test_a_dangling_link_is_refused() -> None:
    """A link to nothing is refused, and nothing is made at its end."""
    Path("out").symlink_to("gone")
    assert _refusal("out") == "out: is a link to nothing. Give another --output_dir."
    assert not Path("gone").exists()


def test_a_folder_with_other_things_is_refused() -> None:
    """A folder that is not empty and holds no run is left as it is."""
    Path("out").mkdir()
    (Path("out") / "thesis.tex").write_text("precious", encoding="utf-8")
    assert _refusal("out") == (
        "out: is not empty and holds no run. Give a new or empty --output_dir."
    )
    assert os.listdir("out") == ["thesis.tex"]


def test_a_folder_that_cannot_be_written_to_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only folder is found by trying, before any work."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "touch", refuse)
    assert _refusal("out") == (
        "out: cannot be written to (Read-only file system). Give another --output_dir."
    )


@pytest.mark.parametrize(
    "path", [pytest.param("n" * 300, id="too long"), pytest.param("a\0b", id="NUL")]
)
def test_an_impossible_name_is_refused(path: str) -> None:
    """A name the system does not take is a usage error too."""
    assert _refusal(path).startswith(f"{path}: ")


def test_clearing_removes_a_run_and_nothing_else() -> None:
    """An earlier run's files and checkpoints go, are named, and everything else stays."""
    out = Path("out")
    _earlier_run(out)
    for name in ("notes.txt", "checkpoint-best", "tokens.json"):
        (out / name).write_text("mine", encoding="utf-8")
    (out / "checkpoint-old").mkdir()
    removed = clear_run(out)
    expected = {*RUN_FILES, "checkpoint-3", "checkpoint-20", "checkpoint-100"}
    assert set(removed) == expected
    assert len(removed) == len(expected)
    assert removed[-1] == "run.json"
    left = ["checkpoint-best", "checkpoint-old", "notes.txt", "tokens.json"]
    assert sorted(os.listdir(out)) == left


def test_clearing_an_empty_folder_removes_nothing() -> None:
    """Where there was no run, nothing is said to have gone."""
    Path("out").mkdir()
    assert clear_run(Path("out")) == ()


@pytest.mark.parametrize("stop_at", range(1, len(RUN_FILES) + 4))
def test_a_clearing_that_is_cut_short_leaves_a_run_s_folder(
    monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    """Killed between any two removals, the folder is still one that a run may replace."""
    out = Path("out")
    _earlier_run(out)
    calls = 0

    def killed(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise KeyboardInterrupt

    unlink, rmtree = Path.unlink, shutil.rmtree
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda path, **_: (killed(), unlink(path, missing_ok=True)))
        patch.setattr(
            shutil, "rmtree", lambda path, **_: (killed(), rmtree(path, ignore_errors=True))
        )
        with pytest.raises(KeyboardInterrupt):
            clear_run(out)
    check_output_dir(out)


def test_begin_marks_a_run_that_has_not_ended() -> None:
    """A folder is a run's from the start, and run.json says what goes in and that it is not
    finished.
    """
    Path("out").mkdir()
    assert not run_file.is_run(Path("out"))
    Path("out/manifest.json").touch()
    begin(Path("out"), RunInputs(data=DataInputs("ab", None)))
    assert run_file.is_run(Path("out"))
    assert os.listdir("out") == ["run.json"]
    written = json.loads(Path("out/run.json").read_text(encoding="utf-8"))
    assert (written["tool"], written["state"]) == ("finetuning-exam", "unfinished")
    assert written["data"] == {"sha256": "ab", "exam_sha256": None, "rows_sha256": None}
    assert is_unfinished(Path("out"))


@pytest.mark.parametrize(
    "content",
    ['{"scripts": {}}', '{"tool": "other"}', '{"state": "unfinished"}', "[]", "{", "", "\x80"],
)
def test_a_foreign_run_json_makes_no_run_s_folder(content: str) -> None:
    """A run.json that another program wrote, or a broken one, does not give a folder away."""
    Path("out").mkdir()
    Path("out/run.json").write_bytes(content.encode("latin-1"))
    Path("out/README.md").write_text("precious", encoding="utf-8")
    assert not run_file.is_run(Path("out"))
    assert _refusal("out") == (
        "out: is not empty and holds no run. Give a new or empty --output_dir."
    )
    assert sorted(os.listdir("out")) == ["README.md", "run.json"]
