"""Specification of durable writes: they are atomic, and manifests reveal every changed byte."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import SafetensorError

from finetuning_exam.durable import (
    MANIFEST,
    file_sha256,
    leftovers,
    manifest_faults,
    remove_folder,
    staged,
    sweep,
    write_folder,
    write_json,
    write_manifest,
    write_text,
)
from finetuning_exam.errors import DiskError, UsageError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in an empty folder, so that a path in a message is a bare name."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_text_is_written_as_it_is() -> None:
    """Text is written as UTF-8 with line endings unchanged, replacing the old file only."""
    path = Path("a.txt")
    write_text(path, "a longer text than the next one\n")
    write_text(path, "ä\n\r\n😀")
    assert path.read_bytes() == "ä\n\r\n😀".encode()
    assert os.listdir() == ["a.txt"]


@pytest.mark.parametrize(
    ("number", "kind", "message"),
    [
        (errno.ENOSPC, DiskError, "a.txt: no space left on the disk. Free some space."),
        (
            errno.EIO,
            DiskError,
            "a.txt: the disk reported an error (Input/output error). "
            "Check the disk, or use another --output_dir.",
        ),
    ],
)
def test_a_write_that_fails_keeps_the_old_file(
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    kind: type[DiskError | UsageError],
    message: str,
) -> None:
    """If the bytes do not reach the disk, the old file stays and no temporary file is left."""
    path = Path("a.txt")
    write_text(path, "old")

    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(kind) as caught:
        write_text(path, "new")
    assert str(caught.value) == message
    assert path.read_text(encoding="utf-8") == "old"
    assert os.listdir() == ["a.txt"]


def test_text_that_is_not_unicode_leaves_nothing_behind() -> None:
    """A file name that is not UTF-8 (Linux allows it) never leaves a partial file."""
    path = Path("run.json")
    write_json(path, {"path": "old"})
    with contextlib.suppress(UsageError):
        write_json(path, {"path": "caf\udce9.jsonl"})
    assert os.listdir() == ["run.json"]
    assert isinstance(json.loads(path.read_text(encoding="utf-8")), dict)


def test_a_file_in_a_missing_folder_cannot_be_written() -> None:
    """The error names the path and the reason."""
    with pytest.raises(UsageError) as caught:
        write_text(Path("gone/a.txt"), "x")
    assert str(caught.value) == "gone/a.txt: cannot be written (No such file or directory)."


def test_json_is_strict_indented_and_ends_with_a_newline() -> None:
    """Keys keep their order, text stays readable, and NaN is refused before the file changes."""
    path = Path("a.json")
    write_json(path, {"b": ["ä", None], "a": 1.5})
    assert path.read_bytes() == '{\n  "b": [\n    "ä",\n    null\n  ],\n  "a": 1.5\n}\n'.encode()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8")) == {"b": ["ä", None], "a": 1.5}


def test_a_file_s_hash_is_that_of_its_bytes() -> None:
    """The hash is SHA-256 in hexadecimal."""
    Path("a").write_bytes(b"abc\r\n")
    assert file_sha256(Path("a")) == hashlib.sha256(b"abc\r\n").hexdigest()


# Folders


def _fill(folder: Path) -> None:
    (folder / "a.txt").write_text("one", encoding="utf-8")
    (folder / "b.bin").write_bytes(bytes(range(256)))


def test_a_folder_appears_whole_and_sealed() -> None:
    """The new files and their manifest replace the old folder, and nothing else is left."""
    place = Path("place")
    write_folder(place, _fill)
    write_folder(place, lambda folder: (folder / "c").touch())
    assert sorted(os.listdir()) == ["place"]
    assert sorted(os.listdir(place)) == ["c", MANIFEST]
    assert manifest_faults(place, ["c"]) == ()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "full"), DiskError),
        (OSError(errno.EIO, "broken"), DiskError),
        (OSError(errno.EACCES, "no"), UsageError),
        (SafetensorError("I/O error: No space left on device (os error 28)"), DiskError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_folder_that_cannot_be_written_leaves_the_old_one(
    error: BaseException, kind: type[BaseException]
) -> None:
    """Whatever goes wrong, the old folder is unchanged and nothing else is left."""
    place = Path("place")
    write_folder(place, _fill)

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise error

    writes: tuple[Callable[[], None], ...] = (
        lambda: write_folder(place, fail),
        lambda: _stage(fail),
    )
    for write in writes:
        with pytest.raises(kind):
            write()
        assert sorted(os.listdir()) == ["place"]
        assert manifest_faults(place, ["a.txt", "b.bin"]) == ()


def _stage(write: Callable[[Path], None]) -> None:
    with staged(Path()) as aside:
        write(aside)


def test_staged_files_replace_the_old_ones_together() -> None:
    """Files are written to a temporary folder first, then replace those of the same names."""
    Path("a.txt").write_text("old", encoding="utf-8")
    with staged(Path()) as aside:
        _fill(aside)
        assert Path("a.txt").read_text(encoding="utf-8") == "old"
    assert sorted(os.listdir()) == ["a.txt", "b.bin"]
    assert Path("a.txt").read_text(encoding="utf-8") == "one"


def test_leftovers_are_swept_and_nothing_else() -> None:
    """Remains of interrupted writes are removed; other hidden files stay."""
    for name in (".checkpoint-3.partial", ".checkpoint-2.removed"):
        Path(name).mkdir()
        (Path(name) / "x").touch()
    for name in (".run.json.partial", ".gitignore", "mine.partial"):
        Path(name).touch()
    assert len(leftovers(Path())) == 3
    sweep(Path())
    assert sorted(os.listdir()) == [".gitignore", "mine.partial"]


def test_a_folder_is_removed_by_its_name_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the process is killed during a removal, the name is already gone."""
    write_folder(Path("place"), _fill)
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)
    remove_folder(Path("place"))
    assert os.listdir() == [".place.removed"]


# Manifests


@pytest.fixture
def sealed() -> Path:
    """A folder with its manifest."""
    place = Path("place")
    write_folder(place, _fill)
    return place


def test_every_flipped_bit_is_noticed(sealed: Path) -> None:
    """A single flipped bit is noticed, in a file and in the manifest itself."""
    draw = random.Random(0)
    for path in sorted(sealed.iterdir()):
        content = path.read_bytes()
        for _ in range(200):
            changed = bytearray(content)
            changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
            path.write_bytes(changed)
            faults = manifest_faults(sealed)
            assert faults, (path, changed)
            assert any(path.name in fault for fault in faults)
        path.write_bytes(content)
    assert manifest_faults(sealed) == ()


def test_missing_cut_and_longer_files_are_named(sealed: Path) -> None:
    """Each fault is one line that names the file and the problem."""
    content = (sealed / "b.bin").read_bytes()
    (sealed / "b.bin").write_bytes(content[:100])
    assert manifest_faults(sealed) == ("b.bin has 100 bytes, not 256",)
    (sealed / "b.bin").write_bytes(content + b"x")
    assert manifest_faults(sealed) == ("b.bin has 257 bytes, not 256",)
    (sealed / "b.bin").unlink()
    assert manifest_faults(sealed) == ("b.bin is missing",)
    (sealed / "b.bin").mkdir()
    assert len(manifest_faults(sealed)) == 1
    (sealed / MANIFEST).unlink()
    assert manifest_faults(sealed) == ("manifest.json is missing",)


def test_needed_files_must_be_listed(sealed: Path) -> None:
    """A needed file that the manifest does not list is a fault."""
    (sealed / "new").touch()
    assert manifest_faults(sealed) == ()
    assert manifest_faults(sealed, ["new"]) == ("manifest.json does not list new",)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"files": 3}', '{"files": {"a.txt": 3}}', "\udcff", "[" * 10_000]
)
def test_an_invalid_manifest_is_damaged(sealed: Path, text: str) -> None:
    """Any other content is reported as damage, never as an internal error."""
    (sealed / MANIFEST).write_bytes(text.encode("utf-8", "surrogateescape"))
    assert manifest_faults(sealed) == ("manifest.json is damaged",)


def test_a_manifest_looks_at_its_own_folder_only(sealed: Path) -> None:
    """A manifest that lists files outside its folder is treated as damaged."""
    Path("secret").touch()
    write_manifest(sealed, ["../secret"])
    assert manifest_faults(sealed) == ("manifest.json is damaged",)
