"""A path becomes its raw records; what kind of file it is shows in its content, not its name.

Only tables in plain text are known by name: .csv and .tsv (also .csv.gz, .tsv.zst and so on),
unless their first line is a JSON object.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

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
from finetuning_exam.data.reading.foreign import (
    RECORDS_MEND,
    SPACE,
    mostly_undecodable,
    refuse_other_content,
)
from finetuning_exam.data.reading.hub import is_hub_name, read_hub
from finetuning_exam.data.reading.json_values import end_of_brackets, parse_object
from finetuning_exam.data.reading.parquet import read_parquet
from finetuning_exam.data.reading.tables import read_table
from finetuning_exam.errors import UsageError

__all__ = ["Container", "FileRows", "Row", "read_file"]

_HEAD_BYTES = 1 << 16
_ADDRESS = re.compile(r"(https?|ftp|s3|gs|hf)://", re.IGNORECASE)
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
        _refuse_mostly_undecodable(stream, rows, findings)
        findings = sorted(findings, key=lambda it: (it.line, it.column))
        if not rows and not any(finding.line for finding in findings):
            raise no_records(path)
        return FileRows(path, stream.sha256(), container, tuple(rows), tuple(findings))


def _read(stream: Stream) -> tuple[Container, list[Row], list[Finding]]:
    """The records of a text file, by whichever reader its content asks for."""
    head = stream.peek(_HEAD_BYTES)
    refuse_other_content(head, stream.path, stream.compression)
    ending = _ending(stream.path)
    body = head.lstrip(SPACE)
    if ending in (".csv", ".tsv"):
        if not (body.startswith(b"{") and _starts_with_object(stream.whole())):
            return read_table(stream, "," if ending == ".csv" else "\t")
        return _json_lines(stream)
    if ending == ".txt" and body and body[:1] not in b"{[":
        raise UsageError(f"{stream.path}: is plain text, not records.", RECORDS_MEND)
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
        raise UsageError(what, RECORDS_MEND + _TABLE_MEND)
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
    after = rest.lstrip(SPACE)[:1]
    last = first.rstrip(SPACE)[-1:]
    follows = after in (b'"', b"}") if last in (b"{", b",") else last in (b"[", b":")
    text = first.decode("utf-8", "replace")
    return bool(after) and follows and end_of_brackets(text, 0) is None


def _starts_with_whole_line(data: bytes) -> bool:
    """Whether the first line is a whole array of its own and others follow: JSON lines."""
    first, _, rest = data.lstrip(SPACE).partition(b"\n")
    if not rest.strip(SPACE):
        return False
    text = first.decode("utf-8", "replace").rstrip()
    return end_of_brackets(text, 0) == len(text)


def _starts_with_object(data: bytes) -> bool:
    """Whether the first line is a JSON object, whatever the name of the file says."""
    try:
        parse_object(data.lstrip(SPACE).partition(b"\n")[0])
    except Fault:
        return False
    return True


def _refuse_mostly_undecodable(
    stream: Stream, rows: Sequence[Row], findings: Sequence[Finding]
) -> None:
    """Say of a file in another encoding so once, not of every line.

    Raises:
        UsageError: more than half of several lines are not UTF-8.
    """
    n_bad = len({it.line for it in findings if it.kind is Kind.NOT_UTF8})
    n_lines = len({row.line for row in rows} | {it.line for it in findings if it.line})
    if n_bad > 1 and 2 * n_bad > n_lines:
        with Stream(stream.path) as again:
            head = again.peek(_HEAD_BYTES)
        raise mostly_undecodable(stream.path, head, stream.compression, n_bad, n_lines)


def _ending(path: str) -> str:
    """The ending of a file's name in lower case, without that of a compression."""
    endings = [ending.lower() for ending in PurePath(path).suffixes]
    while endings and endings[-1] in (".gz", ".zst", ".zstd"):
        endings.pop()
    return endings[-1] if endings else ""
