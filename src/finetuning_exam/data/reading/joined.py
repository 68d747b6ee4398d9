"""The traces of files that were joined: byte-order marks and header lines inside the file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from finetuning_exam.data.findings import Finding
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.fields import listed
from finetuning_exam.data.reading.files import BOM, RawRecord
from finetuning_exam.data.reading.layouts import Layout
from finetuning_exam.errors import UsageError

_LONGEST_NAME = 100


def joined_here(path: str, line: int) -> Finding:
    """Return the note about a line that starts with a byte-order mark."""
    detail = "the line starts with a byte-order mark (U+FEFF), where files were joined"
    return Finding(Kind.JOINED_FILES, detail, path, line)


def without_marks(data: bytes, path: str) -> tuple[bytes, list[Finding]]:
    """Remove a byte-order mark at the start of any line, with a note for each."""
    if not data.startswith(BOM) and b"\n" + BOM not in data:
        return data, []
    lines = data.split(b"\n")
    marked = [number for number, line in enumerate(lines, start=1) if line.startswith(BOM)]
    for number in marked:
        lines[number - 1] = lines[number - 1].removeprefix(BOM)
    return b"\n".join(lines), [joined_here(path, number) for number in marked]


def without_headers(
    records: Sequence[RawRecord], layout: Layout, path: str
) -> tuple[Sequence[RawRecord], list[Finding]]:
    """Leave out records that are the header line again, with a warning for each.

    Raises:
        UsageError: such a line has the names in another order, so that the records after it
            would be read by the wrong names.
    """
    headers = [record for record in records if _is_header(record.value, layout)]
    if not headers:
        return records, []
    for record in headers:
        names, cells = _folded(record.value), _folded(record.value.values())
        if names != cells and sorted(names) == sorted(cells):
            raise UsageError(
                f"{path}:{record.line}: the header line occurs again with its columns in another "
                f"order ({listed(map(str, record.value.values()))}).",
                "Give the joined files one by one: each is read by its own header.",
            )
    warnings = [
        Finding(
            Kind.REPEATED_HEADER,
            "the record repeats the names of the fields, as a header line does",
            path,
            record.line,
            record.column,
        )
        for record in headers
    ]
    left_out = {(record.line, record.column) for record in headers}
    return [it for it in records if (it.line, it.column) not in left_out], warnings


def _is_header(value: Mapping[str, object], layout: Layout) -> bool:
    """Return whether prompt and answer are the names of their fields, or all values are names."""
    prompt = value.get(layout.prompt)
    if not isinstance(prompt, str) or len(prompt) > _LONGEST_NAME:
        return False
    names = _folded(value)
    if _folded([prompt])[0] not in names:
        return False
    needed = [name for name in (layout.prompt, layout.answer) if name in value]
    if _folded(needed) == _folded(value[name] for name in needed):
        return True
    return len(names) > 1 and sorted(names) == sorted(_folded(value.values()))


def _folded(texts: Iterable[object]) -> list[str]:
    return [str(text).strip().casefold() for text in texts]
