"""Files that a command will write are checked before the work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from finetuning_exam.api.output_file import check_can_write, check_overwrites
from finetuning_exam.errors import UsageError


def test_a_new_file_in_a_folder_can_be_written(tmp_path: Path) -> None:
    """A path in a folder that exists is accepted, whether there is a file or not."""
    path = tmp_path / "page.html"
    check_can_write("--html", path)
    check_overwrites("--html", path, "<html", "a page")
    path.write_text("<!doctype html>\n<html>", encoding="utf-8")
    check_can_write("--html", path)
    check_overwrites("--html", path, "<html", "a page")


def test_a_folder_or_a_path_without_one_is_refused(tmp_path: Path) -> None:
    """The message names the flag, the path and what is wrong with it."""
    with pytest.raises(UsageError) as caught:
        check_can_write("--html", tmp_path)
    assert str(caught.value) == f"--html {tmp_path}: is a folder. Give the path of a file."
    path = tmp_path / "gone" / "page.html"
    with pytest.raises(UsageError) as caught:
        check_can_write("--html", path)
    assert str(caught.value) == (
        f"--html {path}: its folder does not exist. Create it, or give another path."
    )


def test_a_read_only_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in which nothing can be made is refused before the work."""
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # root may everything
    with pytest.raises(UsageError, match=r"page: its folder is read-only\. Give another path\.$"):
        check_can_write("--html", tmp_path / "page")


@pytest.mark.parametrize("content", [b"my notes", b"", b"\xff\xfe", b"x" * 600 + b"<html"])
def test_a_file_of_another_kind_is_kept(tmp_path: Path, content: bytes) -> None:
    """A file that does not begin as the command's own files do is not overwritten."""
    path = tmp_path / "notes"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        check_overwrites("--html", path, "<html", "a page")
    assert str(caught.value) == (
        f"--html {path}: exists and is not a page. Give another path, or remove the file."
    )
