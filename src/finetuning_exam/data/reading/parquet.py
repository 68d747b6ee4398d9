"""Read the records of a Parquet file."""

from __future__ import annotations

import hashlib
from typing import Protocol

from finetuning_exam.data.findings import Finding
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.files import (
    MAX_WHOLE_BYTES,
    FileRecords,
    RawRecord,
    no_records,
    undecodable,
)
from finetuning_exam.data.reading.opening import open_regular, unreadable
from finetuning_exam.errors import UsageError


class _Batch(Protocol):
    """The part of pyarrow's RecordBatch that is used."""

    num_rows: int

    def to_pylist(self) -> list[dict[str, object]]: ...
    def slice(self, offset: int, length: int) -> _Batch: ...


def read_parquet(path: str) -> FileRecords:
    """Read the records of a Parquet file as Python objects, numbered from 1.

    Raises:
        UsageError: the file is damaged, or too large to be held in memory.
        DataError: it has no records.
    """
    import pyarrow.parquet

    records: list[RawRecord] = []
    findings: list[Finding] = []
    with open_regular(path) as file:
        try:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
        except OSError as error:
            raise unreadable(path, error) from error
        try:
            table = pyarrow.parquet.ParquetFile(pyarrow.PythonFile(file, mode="r"))
            groups = [table.metadata.row_group(it) for it in range(table.num_row_groups)]
            size = sum(group.total_byte_size for group in groups)
            _refuse_large_or_ambiguous(path, size, table.schema_arrow.names)
            for batch in table.iter_batches(batch_size=1024):
                _add_batch(batch, path, records, findings)
        except UsageError:
            raise
        except Exception as error:  # a damaged file makes pyarrow raise almost anything
            is_new = isinstance(error, NotImplementedError)
            what = "it uses a feature of the format that is not supported"
            hint = "Write the records as JSON lines instead."
            if not is_new:
                what, hint = "it is truncated or damaged", Kind.CUT_FILE.hint
            raise UsageError(f"{path} cannot be read as Parquet: {what}.", hint) from error
    if not records and not findings:
        raise no_records(path, "Parquet")
    return FileRecords(path, sha256, "Parquet", tuple(records), tuple(findings))


def _refuse_large_or_ambiguous(path: str, size: int, names: list[str]) -> None:
    if size > MAX_WHOLE_BYTES:
        raise UsageError(
            f"{path} contains more than {MAX_WHOLE_BYTES:,} bytes, too much for this format.",
            "Convert it to JSON lines, one object per line.",
        )
    duplicate = next((name for name in names if names.count(name) > 1), None)
    if duplicate is not None:
        raise UsageError(f"{path}: duplicate column {duplicate!r}.", "Keep one of the two.")


def _add_batch(batch: _Batch, path: str, records: list[RawRecord], findings: list[Finding]) -> None:
    """Add the records of a batch; one with text that is not UTF-8 becomes a finding."""
    done = len(records) + len(findings)
    try:
        values = batch.to_pylist()
    except UnicodeDecodeError:
        values = None
    for index in range(batch.num_rows):
        line = done + index + 1
        try:
            value = values[index] if values is not None else batch.slice(index, 1).to_pylist()[0]
            records.append(RawRecord(line, 0, value))
        except UnicodeDecodeError as error:
            detail = undecodable(error.object[error.start], error.start + 1)
            findings.append(Finding(Kind.NOT_UTF8, detail, path, line))
