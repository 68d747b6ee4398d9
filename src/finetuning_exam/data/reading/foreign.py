"""Files that are not UTF-8 text: the name of each format, and how to convert it to records."""

from __future__ import annotations

import codecs
import re
import shlex
from pathlib import PurePath

from finetuning_exam.errors import UsageError

RECORDS_HINT = (
    'Write records, one per line, such as {"instruction": "…", "output": "…"}, or {"text": "…"} '
    "for plain text."
)
SPACE = b" \t\r\n"
_ENCODINGS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_EXCEL_HINT = 'Save it as an .xlsx file, or as "CSV UTF-8", in the spreadsheet program.'
_UNPACK = f"Unpack or export it. {RECORDS_HINT}"
_BINARY = {
    b"PK\x03\x04": ("a zip archive or an Office file", _UNPACK),
    b"\xd0\xcf\x11\xe0": ("an old Excel or Office file", _EXCEL_HINT),
    b"%PDF": ("a PDF file", _UNPACK),
    b"BZh": ("compressed with bzip2", "Unpack it first: bzip2 -d {path}."),
    b"\xfd7zXZ": ("compressed with xz", "Unpack it first: xz -d {path}."),
    b"ARROW1": ("an Arrow file", _UNPACK),
    b"PAR1": ("a Parquet file inside another compression", _UNPACK),
    b"\x1f\x8b": ("compressed twice", _UNPACK),
    b"\x28\xb5\x2f\xfd": ("compressed twice", _UNPACK),
    b"SQLite": ("an SQLite database", _UNPACK),
}
_TAR = (257, b"ustar")
_ABOVE_ASCII = re.compile(rb"[\x80-\xff]+")
_LONGEST_RUN = 2.0
"""The greatest mean length of a run of non-ASCII bytes in Western text, where accented letters come
alone or in pairs; other encodings have long runs."""


def refuse_other_content(head: bytes, path: str, compression: str) -> None:
    """Refuse content that is not UTF-8 text, and say how to convert it.

    Raises:
        UsageError: another encoding, or a known or unknown binary format.
    """
    for magic, name in _ENCODINGS.items():
        if head.startswith(magic):
            raise _other_encoding(path, name, compression)
    zeros = [byte == 0 for byte in head[:4]]
    if zeros == [False, True, False, True]:
        raise _other_encoding(path, "UTF-16LE", compression)
    if zeros == [True, False, True, False]:
        raise _other_encoding(path, "UTF-16BE", compression)
    if head[_TAR[0] :].startswith(_TAR[1]):
        raise UsageError(
            f"{path} is a tar archive.", f"Unpack it first: tar -xf {shlex.quote(path)}."
        )
    for magic, (name, hint) in _BINARY.items():
        if head.startswith(magic):
            hint = hint.replace("{path}", shlex.quote(path))
            raise UsageError(f"{path} is {name}.", hint)
    if b"\0" in head and head.lstrip(SPACE)[:1] not in (b"{", b"["):
        try:
            codecs.getincrementaldecoder("utf-8")().decode(
                head
            )  # the last character may be cut off
        except UnicodeDecodeError:
            raise UsageError(f"{path} is binary, not text.", RECORDS_HINT) from None


def mostly_undecodable(
    path: str, head: bytes, compression: str, n_bad: int, n_lines: int
) -> UsageError:
    """Return the error for a file whose lines are mostly not UTF-8; `head` is its beginning."""
    what = f"{path}: {n_bad:,} of {n_lines:,} lines are not valid UTF-8"
    if _looks_western(head):
        command = _conversion(path, "CP1252", compression)
        return UsageError(
            f"{what}; the file is probably Windows-1252.", f"Convert it to UTF-8: {command}."
        )
    command = _conversion(path, "ENCODING", compression)
    return UsageError(f"{what}.", f"Find out its encoding, then convert it to UTF-8: {command}.")


def _looks_western(head: bytes) -> bool:
    """Guess whether bytes are Windows-1252 text."""
    runs = _ABOVE_ASCII.findall(head)
    try:
        head.decode("cp1252")
    except UnicodeDecodeError:
        return False
    return bool(runs) and sum(map(len, runs)) <= _LONGEST_RUN * len(runs)


def _other_encoding(path: str, name: str, compression: str) -> UsageError:
    command = _conversion(path, name, compression)
    return UsageError(f"{path} is {name[:6]}, not UTF-8.", f"Convert it to UTF-8: {command}.")


def _conversion(path: str, encoding: str, compression: str) -> str:
    """Return the command that converts a file to UTF-8."""
    unpack = f"{compression} -dc {shlex.quote(path)} | " if compression else ""
    name = "" if compression else f" {shlex.quote(path)}"
    endings = [it for it in PurePath(path).suffixes if it.lower() in (".csv", ".tsv", ".json")]
    new = f"new{endings[-1].lower() if endings else '.jsonl'}"
    return f"{unpack}iconv -f {encoding} -t UTF-8{name} > {new}"
