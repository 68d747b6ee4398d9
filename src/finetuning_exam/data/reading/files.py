"""A regular file as a stream: opened, decompressed, hashed and split into lines in one pass."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol

from finetuning_exam.data.findings import Finding
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.opening import open_regular, unreadable
from finetuning_exam.errors import DataError, UsageError

Container = Literal[
    "JSON lines",
    "JSON array",
    "JSON by column",
    "CSV",
    "CSV with semicolons",
    "CSV with vertical bars",
    "TSV",
    "Excel",
    "Parquet",
    "text file",
    "hub dataset",
]

CHUNK_BYTES = 1 << 16
MAX_LINE_BYTES = 1 << 24
"""A longer line of JSON lines is a finding and is never held in memory."""
MAX_WHOLE_BYTES = 1 << 30
"""The decompressed limit for what must be held in memory as a whole (a JSON array, a table)."""
REST_UNREAD = "; the rest of the file was not read"

BOM = b"\xef\xbb\xbf"
"""The byte-order mark of UTF-8."""
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record as stored; `line` is where it starts.

    In Parquet files, hub datasets and JSON by column it is the record's number, and in Excel files
    that of its row.
    """

    line: int
    column: int
    """The column from 1 if several records of a JSON array start on one line, else 0."""
    value: dict[str, object]


@dataclass(frozen=True, slots=True)
class FileRecords:
    """All raw records of one file, and the findings made while reading them."""

    path: str
    sha256: str
    """Of the file's bytes as stored."""
    container: Container
    records: tuple[RawRecord, ...]
    findings: tuple[Finding, ...]


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Hashed(io.RawIOBase):
    """A file that hashes what is read from it; it can only be read forwards."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        """Return True, for pyarrow."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes, at most `size`."""
        data = self._file.read(size)
        self.digest.update(data)
        return data

    def close(self) -> None:
        """Do nothing: pyarrow closes its source while the hash still needs it."""

    def release(self) -> None:
        """Close the file."""
        self._file.close()


class Stream:
    """The decompressed bytes of a regular file, without a byte-order mark.

    A truncated or damaged gzip or zstd stream ends early, and `damage` says why.

    Raises:
        UsageError: the path is not a readable regular file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.damage = ""
        """Why the compressed data ended early; empty if it did not."""
        self.line = 0
        """The number of the line in which `lines` stopped."""
        with open_regular(path) as file:
            head = _read(path, file, 4)
        self.compression = next((_MAGIC[magic] for magic in _MAGIC if head.startswith(magic)), "")
        self.is_parquet = head == b"PAR1"
        self._stored = _Hashed(open_regular(path))
        self._chunks = self._decompressed()
        self._buffer = b""

    def __enter__(self) -> Stream:
        try:
            self._buffer = self.peek(len(BOM)).removeprefix(BOM)
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
        """Return at least the next `size` bytes, or all there are, without consuming them."""
        parts, length = [self._buffer], len(self._buffer)
        while length < size and (chunk := next(self._chunks, b"")):
            parts.append(chunk)
            length += len(chunk)
        self._buffer = b"".join(parts)
        return self._buffer

    def whole(self, max_bytes: int | None = None) -> bytes:
        """Return everything that is left, without consuming it.

        Raises:
            UsageError: it is longer than `max_bytes` (`MAX_WHOLE_BYTES`).
        """
        limit = MAX_WHOLE_BYTES if max_bytes is None else max_bytes
        data = self.peek(limit + 1)
        if len(data) > limit:
            raise UsageError(
                f"{self.path} is larger than {limit:,} bytes, too large for this format.",
                "Convert it to JSON lines, one object per line.",
            )
        return data

    def lines(self, max_bytes: int | None = None) -> Iterator[tuple[int, bytes | None]]:
        """Yield numbered lines, without blank ones; only a line feed ends a line (not U+2028).

        A line longer than `max_bytes` (`MAX_LINE_BYTES`) is None and never held whole. The line
        in which damaged data ends is not yielded: its number is `line`.
        """
        limit = MAX_LINE_BYTES if max_bytes is None else max_bytes
        self.line, parts, length = 1, list[bytes](), 0
        for chunk in self._remaining():
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
        """Return the SHA-256 of the whole file as stored, in hexadecimal digits."""
        while _read(self.path, self._stored, CHUNK_BYTES):
            pass
        return self._stored.digest.hexdigest()

    def _remaining(self) -> Iterator[bytes]:
        while self._buffer:
            chunk, self._buffer = self._buffer, b""
            yield chunk
        yield from self._chunks

    def _decompressed(self) -> Iterator[bytes]:
        """Yield chunks of the file; where it cannot be decompressed, set `damage` and stop."""
        done = 0
        try:
            for chunk in _chunks(self._stored, self.compression):
                done += len(chunk)
                yield chunk
        except EOFError:
            self.damage = f"the {self.compression} data is truncated here"
        except (OSError, zlib.error) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise unreadable(self.path, error) from error
            if self.compression == "zstd":  # pyarrow discards what it has when a read fails
                yield self._zstd_rest(done)
            reason = str(error).lower()
            what = "damaged here"
            if "truncated" in reason:
                what = "truncated here"
            elif "crc" in reason or "checksum" in reason or "incorrect length" in reason:
                what = "damaged here (its checksum does not match)"
            self.damage = f"the {self.compression} data is {what}"

    def _zstd_rest(self, done: int) -> bytes:
        """Read the bytes of a damaged zstd file from `done` up to the fault, one by one."""
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
    """Yield decompressed chunks; every compressed byte is read once, through `stored`."""
    if compression == "gzip":
        with gzip.GzipFile(fileobj=stored, mode="rb") as unzipped:
            while chunk := unzipped.read1(CHUNK_BYTES):  # returns what there is before it fails
                yield chunk
        return
    source = _zstd(stored) if compression == "zstd" else stored
    while chunk := source.read(CHUNK_BYTES):
        yield chunk


def _zstd(file: _Readable) -> _Readable:
    import pyarrow

    stream: _Readable = pyarrow.input_stream(pyarrow.PythonFile(file, mode="r"), compression="zstd")
    return stream


def no_records(path: str, container: Container) -> DataError:
    """Return the error for a file without records."""
    hint = 'Write one JSON object per line, such as {"instruction": "…", "output": "…"}.'
    if container == "text file":
        hint = "Write the texts to train on, with a blank line between paragraphs."
    elif container not in ("JSON lines", "JSON array", "JSON by column"):
        hint = "Below the names of its columns, a table needs a row for each record."
    return DataError([f"{path}: no records found."], hint)


def undecodable(value: int, number: int) -> str:
    """Return the detail of a `NOT_UTF8` finding: the byte, and its position in its line from 1."""
    return f"not valid UTF-8 (0x{value:02x} at byte {number})"


def damage_findings(stream: Stream, line: int) -> tuple[Finding, ...]:
    """Return the finding about damaged compressed data, if it is damaged."""
    if not stream.damage:
        return ()
    return (Finding(Kind.CUT_FILE, stream.damage + REST_UNREAD, stream.path, line),)
