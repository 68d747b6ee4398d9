"""Read the raw records of a path; the kind of file is detected by its content, not its name.

Only tables in plain text and plain text itself are known by their names: .csv, .tsv, .txt and .md
(also .csv.gz, .tsv.zst and so on), unless they start as JSON does. Standard input has no name: it
is a table if its first lines are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

from finetuning_exam.data.findings import Fault, Finding, errors
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.columns import refuse_lists, rows_of
from finetuning_exam.data.reading.documents import read_document, records_field
from finetuning_exam.data.reading.excel import is_workbook, read_workbook
from finetuning_exam.data.reading.files import (
    BOM,
    MAX_LINE_BYTES,
    Container,
    FileRecords,
    RawRecord,
    Stream,
    damage_findings,
    no_records,
)
from finetuning_exam.data.reading.foreign import (
    RECORDS_HINT,
    SPACE,
    mostly_undecodable,
    refuse_other_content,
)
from finetuning_exam.data.reading.hub import is_hub_name, read_hub
from finetuning_exam.data.reading.joined import joined_here, without_marks
from finetuning_exam.data.reading.json_values import (
    SyntaxFault,
    end_of_brackets,
    parse_object,
)
from finetuning_exam.data.reading.parquet import read_parquet
from finetuning_exam.data.reading.plain_text import is_plain_text, read_plain_text
from finetuning_exam.data.reading.separators import looks_like_table
from finetuning_exam.data.reading.stdin import STDIN
from finetuning_exam.data.reading.tables import read_table
from finetuning_exam.errors import UsageError

_Found = tuple[Container, list[RawRecord], list[Finding]]
_HEAD_BYTES = 1 << 16
_ADDRESS = re.compile(r"(https?|ftp|s3|gs|hf)://", re.IGNORECASE)
_TABLE_HINT = " A table needs a file name that ends in .csv or .tsv."
_PIPED_TABLE_HINT = " A table has a line of names, and as many cells in each line below it."


def read_file(path: str) -> FileRecords:
    """Read all raw records of a file or hub dataset, with a finding for each faulty one.

    Raises:
        UsageError: the file as a whole cannot be read.
        DataError: it has neither records nor faults.
    """
    if is_hub_name(path):
        return read_hub(path)
    if _ADDRESS.match(path):
        raise UsageError(
            f"{path} is a URL, not a file.", "Download it first, then give the file's path."
        )
    with Stream(path) as stream:
        if stream.is_parquet:
            return read_parquet(path)
        container, records, findings = _read(stream)
        _refuse_mostly_undecodable(stream, records, findings)
        findings = sorted(findings, key=lambda it: (it.line, it.column))
        if not records and not errors(findings):
            raise no_records(path, container)
        return FileRecords(path, stream.sha256(), container, tuple(records), tuple(findings))


def _read(stream: Stream) -> _Found:
    """Read the records of a text file with the reader for its content."""
    head = stream.peek(_HEAD_BYTES)
    if is_workbook(head, stream.path):
        return "Excel", *read_workbook(stream.whole(), stream.path)
    refuse_other_content(head, stream.path, stream.compression)
    ending = _ending(stream.path)
    body = head.lstrip(SPACE)
    if ending in (".csv", ".tsv"):
        if not (body.startswith(b"{") and _starts_with_object(stream.whole())):
            return read_table(stream, "," if ending == ".csv" else "\t")
        return _json_lines(stream)
    if stream.path == STDIN and looks_like_table(head):
        return read_table(stream, ",")
    if is_plain_text(head, ending):
        return "text file", *read_plain_text(stream, ending)
    if (body.startswith(b"{") and _is_spread(body)) or (
        body.startswith(b"[") and not _starts_with_whole_line(stream.whole())
    ):
        return _by_column(_document(stream), stream.path, is_list=body.startswith(b"["))
    return _by_column(_json_lines(stream), stream.path, is_list=False)


def _by_column(found: _Found, path: str, *, is_list: bool) -> _Found:
    """Return the rows of a file that is one object of columns, or what was found.

    In a list, an object is a record, also if it is the only one.

    Raises:
        UsageError: columns have different lengths, or the rows are lists without names.
    """
    _, records, findings = found
    if is_list:
        refuse_lists(records, (it.detail for it in findings), path)
        return found
    if len(records) != 1 or errors(findings):
        return found
    rows = rows_of(records[0].value, path)
    if rows is None:
        return found
    turned = [RawRecord(number, 0, row) for number, row in enumerate(rows, start=1)]
    return "JSON by column", turned, findings


def _document(stream: Stream) -> _Found:
    data, notes = without_marks(stream.whole(), stream.path)
    records, findings = read_document(data, stream.path, is_cut=bool(stream.damage))
    end = damage_findings(stream, data.count(b"\n") + 1)
    return "JSON array", records, [*notes, *findings, *end]


def _json_lines(stream: Stream) -> _Found:
    """Read one object per line.

    Raises:
        UsageError: there are several lines, and none of them resembles JSON.
    """
    records: list[RawRecord] = []
    findings: list[Finding] = []
    is_json = False
    notes: list[Finding] = []
    for number, line in stream.lines():
        try:
            if line is None:
                detail = f"the line is longer than {MAX_LINE_BYTES >> 20} MiB"
                raise Fault(Kind.TOO_LONG_LINE, detail)
            if line.startswith(BOM):
                line = line.removeprefix(BOM)
                notes.append(joined_here(stream.path, number))
                if not line.strip(SPACE):
                    continue
            records.append(RawRecord(number, 0, parse_object(line)))
        except Fault as fault:
            findings.append(Finding(fault.kind, fault.detail, stream.path, number, fault.column))
            is_json = is_json or not (isinstance(fault, SyntaxFault) and fault.position == 0)
    if len(findings) > 1 and not is_json and not records:
        what = f"{stream.path}: none of its {len(findings)} lines is valid JSON."
        is_piped = stream.path == STDIN
        raise UsageError(what, RECORDS_HINT + (_PIPED_TABLE_HINT if is_piped else _TABLE_HINT))
    findings.extend(damage_findings(stream, stream.line))
    findings.extend(notes)
    if len(records) == 1 and not findings and records_field(records[0].value, stream.path):
        with Stream(stream.path) as again:
            return _document(again)
    if not records and [it.kind for it in findings] == [Kind.TOO_LONG_LINE]:
        with Stream(stream.path) as again:  # data frames write one long line by default
            document = _document(again)
        if len(document[1]) > 1 or _by_column(document, stream.path, is_list=False) is not document:
            return document
    return "JSON lines", records, findings


def _is_spread(body: bytes) -> bool:
    """Return whether an object continues after its first line, as pretty-printed ones do.

    A line that was merely cut off is distinguished by what follows: after `{` and after a comma
    in an object comes the name of a field, never another object.
    """
    first, _, rest = body.partition(b"\n")
    after = rest.lstrip(SPACE)[:1]
    last = first.rstrip(SPACE)[-1:]
    follows = after in (b'"', b"}") if last in (b"{", b",") else last in (b"[", b":")
    text = first.decode("utf-8", "replace")
    return bool(after) and follows and end_of_brackets(text, 0) is None


def _starts_with_whole_line(data: bytes) -> bool:
    """Return whether the first line is a complete array and others follow: JSON lines."""
    first, _, rest = data.lstrip(SPACE).partition(b"\n")
    if not rest.strip(SPACE):
        return False
    text = first.decode("utf-8", "replace").rstrip()
    return end_of_brackets(text, 0) == len(text)


def _starts_with_object(data: bytes) -> bool:
    """Return whether the first line is a JSON object."""
    try:
        parse_object(data.lstrip(SPACE).partition(b"\n")[0])
    except Fault:
        return False
    return True


def _refuse_mostly_undecodable(
    stream: Stream, records: Sequence[RawRecord], findings: Sequence[Finding]
) -> None:
    """Report a file in another encoding once, not for every line.

    Raises:
        UsageError: more than half of several lines are not UTF-8.
    """
    n_bad = len({it.line for it in findings if it.kind is Kind.NOT_UTF8})
    n_lines = len({record.line for record in records} | {it.line for it in findings if it.line})
    if n_bad > 1 and 2 * n_bad > n_lines:
        with Stream(stream.path) as again:
            head = again.peek(_HEAD_BYTES)
        raise mostly_undecodable(stream.path, head, stream.compression, n_bad, n_lines)


def _ending(path: str) -> str:
    """Return the extension of a file in lower case, without that of a compression."""
    endings = [ending.lower() for ending in PurePath(path).suffixes]
    while endings and endings[-1] in (".gz", ".zst", ".zstd"):
        endings.pop()
    return endings[-1] if endings else ""
