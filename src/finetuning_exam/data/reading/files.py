"""A regular file as a stream: opened, decompressed, hashed and cut into lines in one pass."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol

from finetuning_exam.data.findings import Finding, Kind
from finetuning_exam.data.reading.opening import open_regular, unreadable
from finetuning_exam.errors import DataError, UsageError

Container = Literal[
    "JSON lines",
    "JSON array",
    "CSV",
    "CSV with semicolons",
    "CSV with vertical bars",
    "TSV",
    "Parquet",
    "hub dataset",
]

CHUNK_BYTES = 1 << 16
MAX_LINE_BYTES = 1 << 24
"""A longer line of JSON lines is a finding and never held in memory."""
MAX_WHOLE_BYTES = 1 << 30
"""What must be held in memory as a whole (a JSON array, a table) may be this long, decompressed."""

_BOM = b"\xef\xbb\xbf"
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}


@dataclass(frozen=True, slots=True)
class Row:
    """One raw record; `line` is where it starts, or the row's number in Parquet and on the hub."""

    line: int
    column: int
    """0, or the column from 1 where several records of a JSON array start on one line."""
    value: dict[str, object]


@dataclass(frozen=True, slots=True)
class FileRows:
    """All raw records of one file, and what was found while they were read."""

    path: str
    sha256: str
    """Of the file's bytes as they are stored."""
    container: Container
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Hashed(io.RawIOBase):
    """A file that hashes what is read from it; it is only read forwards."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        """It is: pyarrow asks."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes, the next ones."""
        data = self._file.read(size)
        self.digest.update(data)
        return data

    def close(self) -> None:
        """Nothing: pyarrow closes what it read from, while the hash still needs it."""

    def release(self) -> None:
        """Close the file."""
        self._file.close()


class Stream:
    """The decompressed bytes of a regular file, without a byte-order mark.

    A gzip or zstd stream that is cut off or damaged ends early and says so in `damage`.

    Raises:
        UsageError: the path is no regular file that can be read.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.damage = ""
        """Why the compressed data ended early; empty where it did not."""
        self.line = 0
        """Number of the line in which `lines` stopped."""
        with open_regular(path) as file:
            head = _read(path, file, 4)
        self.compression = next((_MAGIC[magic] for magic in _MAGIC if head.startswith(magic)), "")
        self.is_parquet = head == b"PAR1"
        self._stored = _Hashed(open_regular(path))
        self._chunks = self._decompressed()
        self._buffer = b""

    def __enter__(self) -> Stream:
        try:
            self._buffer = self.peek(len(_BOM)).removeprefix(_BOM)
        except BaseException:
            self._stored.release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stored.release()

    def peek(self, size: int) -> bytes:
        """At least the next `size` bytes, where there are so many; they stay to be read."""
        parts, length = [self._buffer], len(self._buffer)
        while length < size and (chunk := next(self._chunks, b"")):
            parts.append(chunk)
            length += len(chunk)
        self._buffer = b"".join(parts)
        return self._buffer

    def whole(self, max_bytes: int | None = None) -> bytes:
        """Everything there is; it stays to be read.

        Raises:
            UsageError: it is longer than `max_bytes` (`MAX_WHOLE_BYTES`).
        """
        limit = MAX_WHOLE_BYTES if max_bytes is None else max_bytes
        data = self.peek(limit + 1)
        if len(data) > limit:
            raise UsageError(
                f"{self.path}: is longer than {limit:,} bytes, which is too long for this format.",
                "Write it as JSON lines, one object a line.",
            )
        return data

    def lines(self, max_bytes: int | None = None) -> Iterator[tuple[int, bytes | None]]:
        """Numbered lines that are not blank; only a line feed ends a line (text may hold U+2028).

        A line longer than `max_bytes` (`MAX_LINE_BYTES`) is None and never held whole. The line
        in which damaged data ends is not given: its number is `line`.
        """
        limit = MAX_LINE_BYTES if max_bytes is None else max_bytes
        self.line, parts, length = 1, list[bytes](), 0
        for chunk in self._all():
            *ended, rest = chunk.split(b"\n")
            for piece in ended:
                whole = b"".join([*parts, piece]) if parts else piece
                if length + len(piece) > limit:
                    yield self.line, None
                elif whole.strip(b" \t\r"):
                    yield self.line, whole
                self.line += 1
                parts, length = [], 0
            length += len(rest)
            if length > limit:
                parts = []
            else:
                parts.append(rest)
        if length > limit:
            yield self.line, None
        elif not self.damage and (last := b"".join(parts)).strip(b" \t\r"):
            yield self.line, last

    def sha256(self) -> str:
        """SHA-256 of the whole file as it is stored, in hexadecimal digits."""
        while _read(self.path, self._stored, CHUNK_BYTES):
            pass
        return self._stored.digest.hexdigest()

    def _all(self) -> Iterator[bytes]:
        while self._buffer:
            chunk, self._buffer = self._buffer, b""
            yield chunk
        yield from self._chunks

    def _decompressed(self) -> Iterator[bytes]:
        """Chunks of the file; they end, with `damage` set, where it cannot be decompressed."""
        done = 0
        try:
            for chunk in _chunks(self._stored, self.compression):
                done += len(chunk)
                yield chunk
        except EOFError:
            self.damage = f"the {self.compression} data is cut off here"
        except (OSError, zlib.error) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise unreadable(self.path, error) from error
            if self.compression == "zstd":  # pyarrow withholds what it has when a read fails
                yield self._zstd_rest(done)
            is_cut = "truncated" in str(error).lower()
            what = "cut off here" if is_cut else f"damaged here ({str(error).splitlines()[0]})"
            self.damage = f"the {self.compression} data is {what}"

    def _zstd_rest(self, done: int) -> bytes:
        """Bytes of a damaged zstd file from `done` up to the fault, read one by one."""
        rest = bytearray()
        with open_regular(self.path) as again:
            source = _zstd(again)
            try:
                while done and (again_read := source.read(min(done, CHUNK_BYTES))):
                    done -= len(again_read)
                while byte := source.read(1):
                    rest += byte
            except OSError:
                return bytes(rest)
        return bytes(rest)


def _read(path: str, file: _Readable, size: int) -> bytes:
    try:
        return file.read(size)
    except OSError as error:
        raise unreadable(path, error) from error


def _chunks(stored: _Hashed, compression: str) -> Iterator[bytes]:
    """Decompressed chunks; every compressed byte is read through `stored`, once."""
    if compression == "gzip":
        with gzip.GzipFile(fileobj=stored, mode="rb") as unzipped:
            while chunk := unzipped.read1(CHUNK_BYTES):  # gives what there is before it fails
                yield chunk
        return
    source = _zstd(stored) if compression == "zstd" else stored
    while chunk := source.read(CHUNK_BYTES):
        yield chunk


def _zstd(file: _Readable) -> _Readable:
    import pyarrow

    stream: _Readable = pyarrow.input_stream(pyarrow.PythonFile(file, mode="r"), compression="zstd")
    return stream


def no_records(path: str) -> DataError:
    """The error for a file that holds nothing."""
    return DataError(
        [f"{path}: the file holds no records."],
        'Write one JSON object a line, such as {"instruction": "…", "output": "…"}.',
    )


def undecodable(value: int, number: int) -> str:
    """The detail of a `NOT_UTF8` finding: a byte, and which of its line's it is, from 1."""
    return f"not UTF-8 (byte 0x{value:02x} at byte {number})"


def cut(stream: Stream, line: int) -> tuple[Finding, ...]:
    """The finding about damaged compressed data, if there is any."""
    if not stream.damage:
        return ()
    detail = f"{stream.damage}; the rest of the file was not read"
    return (Finding(Kind.CUT_FILE, detail, stream.path, line),)
