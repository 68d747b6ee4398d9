"""A path becomes its raw records; what kind of file it is shows in its content, not its name.

Only tables in plain text are known by name: .csv and .tsv (also .csv.gz, .tsv.zst and so on).
"""

from __future__ import annotations

import codecs
import re
from pathlib import PurePath
from typing import NoReturn

from finetuning_exam.data.findings import Fault, Finding, Kind
from finetuning_exam.data.reading.documents import read_document, records_field
from finetuning_exam.data.reading.files import (
    MAX_LINE_BYTES,
    Container,
    FileRows,
    Row,
    Stream,
    cut,
    no_records,
)
from finetuning_exam.data.reading.hub import is_hub_name, read_hub
from finetuning_exam.data.reading.json_values import end_of_brackets, parse_object
from finetuning_exam.data.reading.tables import read_parquet, read_table
from finetuning_exam.errors import UsageError

__all__ = ["Container", "FileRows", "Row", "read_file"]

_HEAD_BYTES = 1 << 16
_SPACE = b" \t\r\n"
_ADDRESS = re.compile(r"(https?|ftp|s3|gs|hf)://", re.IGNORECASE)
_ENCODINGS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_BINARY = {
    b"PK\x03\x04": "a zip archive or an Office file",
    b"%PDF": "a PDF file",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"ARROW1": "an Arrow file",
    b"PAR1": "a Parquet file inside another compression",
    b"\x1f\x8b": "compressed twice",
    b"\x28\xb5\x2f\xfd": "compressed twice",
    b"SQLite": "a database",
}
_RECORDS_MEND = (
    'Write records, one a line, such as {"instruction": "…", "output": "…"}, or {"text": "…"} '
    "for plain text."
)
_TABLE_MEND = " A table needs a name that ends in .csv or .tsv."


def read_file(path: str) -> FileRows:
    """All raw records of a file or hub dataset, and everything wrong with a single one of them.

    Raises:
        UsageError: the file as a whole cannot be read.
        DataError: it holds no records and no faults.
    """
    if is_hub_name(path):
        return read_hub(path)
    if _ADDRESS.match(path):
        raise UsageError(
            f"{path}: is an address, not a file.", "Download it first, then give the file's path."
        )
    with Stream(path) as stream:
        if stream.is_parquet:
            return read_parquet(path)
        container, rows, findings = _read(stream)
        findings = sorted(findings, key=lambda it: (it.line, it.column))
        if not rows and not any(finding.line for finding in findings):
            raise no_records(path)
        return FileRows(path, stream.sha256(), container, tuple(rows), tuple(findings))


def _read(stream: Stream) -> tuple[Container, list[Row], list[Finding]]:
    """The records of a text file, by whichever reader its content asks for."""
    head = stream.peek(_HEAD_BYTES)
    _refuse_other_content(head, stream.path)
    ending = _ending(stream.path)
    if ending in (".csv", ".tsv"):
        rows, findings = read_table(stream, "," if ending == ".csv" else "\t")
        return "CSV" if ending == ".csv" else "TSV", rows, findings
    body = head.lstrip(_SPACE)
    if ending == ".txt" and body and body[:1] not in b"{[":
        raise UsageError(f"{stream.path}: is plain text, not records.", _RECORDS_MEND)
    if (body.startswith(b"{") and _is_spread(body)) or (
        body.startswith(b"[") and not _starts_with_whole_line(stream.whole())
    ):
        return _document(stream)
    return _json_lines(stream)


def _document(stream: Stream) -> tuple[Container, list[Row], list[Finding]]:
    data = stream.whole()
    rows, findings = read_document(data, stream.path, is_cut=bool(stream.damage))
    return "JSON array", rows, [*findings, *cut(stream, data.count(b"\n") + 1)]


def _json_lines(stream: Stream) -> tuple[Container, list[Row], list[Finding]]:
    """One object a line.

    Raises:
        UsageError: there are several lines, and none is anything like JSON.
    """
    rows: list[Row] = []
    findings: list[Finding] = []
    is_json = False
    for number, line in stream.lines():
        try:
            rows.append(Row(number, 0, parse_object(_whole(line))))
        except Fault as fault:
            findings.append(Finding(fault.kind, fault.detail, stream.path, number, fault.column))
            is_json = is_json or not fault.detail.endswith("(Expecting value at column 1)")
    if len(findings) > 1 and not is_json and not rows:
        what = f"{stream.path}: none of its {len(findings)} lines is JSON."
        raise UsageError(what, _RECORDS_MEND + _TABLE_MEND)
    findings.extend(cut(stream, stream.line))
    if len(rows) == 1 and not findings and records_field(rows[0].value, stream.path):
        with Stream(stream.path) as again:
            return _document(again)
    return "JSON lines", rows, findings


def _whole(line: bytes | None) -> bytes:
    if line is None:
        raise Fault(Kind.TOO_LONG_LINE, f"the line is longer than {MAX_LINE_BYTES >> 20} MiB")
    return line


def _is_spread(body: bytes) -> bool:
    """Whether an object goes on beyond its first line, as pretty-printed ones do.

    A line that was merely cut off is told apart by what follows: after `{` and after a comma in
    an object comes the name of a field, never another object.
    """
    first, _, rest = body.partition(b"\n")
    after = rest.lstrip(_SPACE)[:1]
    last = first.rstrip(_SPACE)[-1:]
    follows = after in (b'"', b"}") if last in (b"{", b",") else last in (b"[", b":")
    text = first.decode("utf-8", "replace")
    return bool(after) and follows and end_of_brackets(text, 0) is None


def _starts_with_whole_line(data: bytes) -> bool:
    """Whether the first line is a whole array of its own and others follow: JSON lines."""
    first, _, rest = data.lstrip(_SPACE).partition(b"\n")
    if not rest.strip(_SPACE):
        return False
    text = first.decode("utf-8", "replace").rstrip()
    return end_of_brackets(text, 0) == len(text)


def _refuse_other_content(head: bytes, path: str) -> None:
    """Turn away what is no text in UTF-8, with the way out.

    Raises:
        UsageError: another encoding, or a known or unknown binary format.
    """
    for magic, name in _ENCODINGS.items():
        if head.startswith(magic):
            _refuse_encoding(path, name)
    start = head[:4]
    zeros = [byte == 0 for byte in start]
    if zeros in ([False, True, False, True], [True, False, True, False]):
        _refuse_encoding(path, "UTF-16")
    for magic, name in _BINARY.items():
        if head.startswith(magic):
            raise UsageError(f"{path}: is {name}.", f"Unpack or export it. {_RECORDS_MEND}")
    if b"\0" in head and head.lstrip(_SPACE)[:1] not in (b"{", b"["):
        try:
            codecs.getincrementaldecoder("utf-8")().decode(head)  # the last character may be cut
        except UnicodeDecodeError:
            raise UsageError(f"{path}: is binary, not text.", _RECORDS_MEND) from None


def _refuse_encoding(path: str, name: str) -> NoReturn:
    raise UsageError(
        f"{path}: is {name}, not UTF-8.", f"Save it as UTF-8: iconv -f {name} -t UTF-8 FILE > NEW."
    )


def _ending(path: str) -> str:
    """The ending of a file's name in lower case, without that of a compression."""
    endings = [ending.lower() for ending in PurePath(path).suffixes]
    while endings and endings[-1] in (".gz", ".zst", ".zstd"):
        endings.pop()
    return endings[-1] if endings else ""
