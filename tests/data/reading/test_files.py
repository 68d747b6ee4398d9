"""Specification of opening, decompressing, hashing and splitting a file into lines."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import tracemalloc
from pathlib import Path

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetuning_exam.data.reading.files import Stream
from finetuning_exam.data.reading.opening import open_regular
from finetuning_exam.errors import UsageError

same_folder = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NOISE = random.Random(1).randbytes(300_000).hex().encode()
HINT = "Give the path of a data file: JSON lines, JSON, CSV, TSV, Excel, Parquet or text."


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run every test in an empty folder, so that a path in a message is a bare name."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _zstd(data: bytes) -> bytes:
    packed: bytes = pyarrow.Codec("zstd").compress(data, asbytes=True)
    return packed


PACK = {"plain": bytes, "gzip": gzip.compress, "zstd": _zstd}


def _lines(data: bytes, max_bytes: int | None = None) -> list[tuple[int, bytes | None]]:
    Path("d").write_bytes(data)
    with Stream("d") as stream:
        return list(stream.lines(max_bytes))


@pytest.mark.parametrize("pack", PACK.values(), ids=PACK)
def test_a_file_is_decompressed_by_its_content_and_hashed_as_stored(pack: object) -> None:
    """Plain, gzip and zstd files give the same bytes; the hash is that of the stored bytes."""
    assert callable(pack)
    stored = pack(NOISE)
    Path("any name").write_bytes(stored)
    with Stream("any name") as stream:
        assert stream.whole() == NOISE
        assert stream.sha256() == hashlib.sha256(stored).hexdigest()
        assert not stream.damage


@pytest.mark.parametrize("pack", PACK.values(), ids=PACK)
def test_the_hash_does_not_depend_on_how_much_was_read(pack: object) -> None:
    """A file of which only the beginning was read has the hash of the whole file."""
    assert callable(pack)
    stored = pack(NOISE)
    Path("d").write_bytes(stored)
    with Stream("d") as stream:
        stream.peek(1)
        assert stream.sha256() == hashlib.sha256(stored).hexdigest()


@pytest.mark.parametrize("pack", [gzip.compress, _zstd])
def test_joined_compressed_files_are_one(pack: object) -> None:
    """Concatenated compressed files are read as one, as gzip and zstd do."""
    assert callable(pack)
    assert _lines(pack(b"a\n") + pack(b"b\nc")) == [(1, b"a"), (2, b"b"), (3, b"c")]


@pytest.mark.parametrize(("name", "pack"), [("gzip", gzip.compress), ("zstd", _zstd)])
def test_lines_before_a_truncation_are_kept(name: str, pack: object) -> None:
    """Every complete line of a truncated stream is returned; `damage` says why it ended and `line`
    where.
    """
    assert callable(pack)
    second = pack(b"c\n" + NOISE)
    Path("d").write_bytes(pack(b"a\nb\n") + second[: len(second) // 2])
    with Stream("d") as stream:
        lines = list(stream.lines())
        assert lines[:2] == [(1, b"a"), (2, b"b")]
        assert len(lines) in (2, 3)
        assert stream.line in (3, 4)
        assert stream.damage == f"the {name} data is truncated here"


def test_a_damaged_stream_says_why() -> None:
    """A gzip file with a wrong checksum, and a zstd file with foreign bytes, are damaged."""
    packed = bytearray(gzip.compress(b"a\nb\n", mtime=0))
    packed[-8] ^= 1
    Path("d").write_bytes(packed)
    with Stream("d") as stream:
        assert list(stream.lines()) == [(1, b"a"), (2, b"b")]
        assert stream.damage.startswith(
            "the gzip data is damaged here (its checksum does not match)"
        )
    Path("d").write_bytes(_zstd(b"a\nb\n") + b"foreign")
    with Stream("d") as stream:
        assert list(stream.lines()) == [(1, b"a"), (2, b"b")]
        assert stream.damage.startswith("the zstd data is damaged here")


def test_only_a_line_feed_ends_a_line() -> None:
    """U+2028, a form feed and a carriage return do not end a line; blank lines are counted."""
    text = "\ufeff a\u2028b\x0c\r\n\n \t\r\nc\rd".encode()
    assert _lines(text) == [(1, " a\u2028b\x0c\r".encode()), (4, b"c\rd")]


@same_folder
@given(st.lists(st.sampled_from([b"a", b"\n", b" ", b"bc", b"\r"])), st.integers(1, 8))
def test_lines_are_those_of_the_whole_text(parts: list[bytes], limit: int) -> None:
    """The lines are those of splitting the whole, with long ones as None."""
    data = b"".join(parts)
    expected = [
        (number, line if len(line) <= limit else None)
        for number, line in enumerate(data.split(b"\n"), start=1)
        if line.strip() or len(line) > limit
    ]
    assert _lines(data, limit) == expected


@pytest.mark.parametrize("pack", PACK.values(), ids=PACK)
def test_a_long_line_is_never_held(pack: object) -> None:
    """A line of 30 MB with a limit of 1 MB takes less than 4 MB of memory."""
    assert callable(pack)
    Path("d").write_bytes(pack(b"a\n" + b"x" * 30_000_000 + b"\nb\n"))
    with Stream("d") as stream:
        tracemalloc.start()
        try:
            lines = list(stream.lines(1_000_000))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert lines == [(1, b"a"), (2, None), (3, b"b")]
    assert peak < 4_000_000


def test_a_whole_file_has_a_limit() -> None:
    """A file that must be held as a whole is refused beyond the limit, before it is decompressed
    further.
    """
    Path("d").write_bytes(gzip.compress(b"x" * 5_000_000, mtime=0))
    with Stream("d") as stream:
        with pytest.raises(UsageError) as caught:
            stream.whole(1000)
        assert len(stream.peek(0)) < 100_000
    assert str(caught.value) == (
        "d is larger than 1,000 bytes, too large for this format. "
        "Convert it to JSON lines, one object per line."
    )


@pytest.mark.timeout(10)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes and POSIX devices")
def test_only_regular_files_are_opened() -> None:
    """A missing file, a folder, a pipe, a device and a name with a zero byte are refused."""
    os.mkfifo("pipe")
    Path("folder").mkdir()
    messages = {
        "missing": "missing: no such file.",
        "": ": no such file.",
        "folder": "folder is a folder.",
        "pipe": "pipe is not a regular file.",
        "/dev/zero": "/dev/zero is not a regular file.",
        "a\0b": "'a\\x00b' is not a valid path.",
        "x" * 5000: f"{'x' * 5000} cannot be read (File name too long).",
    }
    for path, message in messages.items():
        with pytest.raises(UsageError) as caught:
            Stream(path)
        assert str(caught.value) == f"{message} {HINT}"


@pytest.mark.parametrize(
    ("there", "asked"), [("train.jsonl", "trian.jsonl"), ("train.csv", "train.jsonl")]
)
def test_a_missing_file_is_reported_with_a_suggestion(there: str, asked: str) -> None:
    """A file of nearly the same name, or of the same name with another extension, is suggested."""
    Path("data").mkdir()
    Path("data", there).touch()
    Path("data", "other.jsonl").touch()
    with pytest.raises(UsageError) as caught:
        Stream(f"data/{asked}")
    assert str(caught.value) == f"data/{asked}: no such file. Did you mean data/{there}?"


@pytest.mark.skipif(
    getattr(os, "geteuid", lambda: 0)() == 0, reason="root, and Windows, may read every file"
)
def test_a_file_without_permission_is_named() -> None:
    """A file that may not be read is refused with the reason of the operating system."""
    Path("d").touch(mode=0)
    with pytest.raises(UsageError, match=r"^d cannot be read \(Permission denied\)"):
        open_regular("d")


def test_a_disk_fault_is_not_damaged_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """An input error while reading is reported as such, not as a truncated file."""
    Path("d").write_bytes(gzip.compress(NOISE, mtime=0))
    monkeypatch.setattr("finetuning_exam.data.reading.files._Hashed.read", _fail)
    with pytest.raises(UsageError) as caught, Stream("d"):
        pass
    assert str(caught.value) == f"d cannot be read (Input/output error). {HINT}"


def _fail(*_: object) -> bytes:
    raise OSError(5, "Input/output error")
