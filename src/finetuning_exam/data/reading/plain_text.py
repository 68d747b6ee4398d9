"""Plain text files: each paragraph is a text of its own, all of which is trained.

Paragraphs are what blank lines separate. In Markdown a heading belongs to what follows it, and a
fenced block of code is not divided.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from finetuning_exam.data.findings import Finding
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.files import (
    RawRecord,
    Stream,
    damage_findings,
)
from finetuning_exam.data.reading.joined import without_marks
from finetuning_exam.data.reading.utf8 import first_undecodable

PLAIN = (".txt", ".text")
MARKDOWN = (".md", ".markdown")
_JSON = re.compile(rb"\s*(?:\{\s*[\"'}]|\[\s*[\[{\"\]])")
_FENCE = re.compile(r" {0,3}(```+|~~~+)")
_HEADING = re.compile(r"#{1,6}(\s.*)?")


def is_plain_text(head: bytes, ending: str) -> bool:
    """Return whether a file with this beginning and extension is text, and not JSON."""
    return ending in (*PLAIN, *MARKDOWN) and bool(head.strip()) and not _JSON.match(head)


def read_plain_text(stream: Stream, ending: str) -> tuple[list[RawRecord], list[Finding]]:
    """Read each paragraph as a record with a `text`; a note says so.

    A paragraph that is not UTF-8 is a finding, at its first such line.

    Raises:
        UsageError: the file is too large to be held in memory.
    """
    data, notes = without_marks(stream.whole(), stream.path)
    last = data.count(b"\n") + 1
    lines = [it.rstrip("\r") for it in data.decode("utf-8", "surrogateescape").split("\n")]
    is_markdown = ending in MARKDOWN
    records: list[RawRecord] = []
    findings: list[Finding] = []
    for start, end in _paragraphs(lines, is_markdown=is_markdown):
        text = "\n".join(lines[start:end])
        if bad := first_undecodable(lines[start:end]):
            number, detail = start + bad[0], bad[1]
            findings.append(Finding(Kind.NOT_UTF8, detail, stream.path, number))
        else:
            records.append(RawRecord(start + 1, 0, {"text": text}))
    if records:
        count = f"each of its {len(records):,} paragraphs" if len(records) > 1 else "its text"
        apart = " (what blank lines separate)" if len(records) > 1 else ""
        detail = f"{count}{apart} is read as a text of its own, and all of it is trained"
        notes.append(Finding(Kind.PLAIN_TEXT, detail, stream.path))
    return records, [*notes, *findings, *damage_findings(stream, last)]


def _paragraphs(lines: Sequence[str], *, is_markdown: bool) -> Iterator[tuple[int, int]]:
    """Yield the index of the first line of each paragraph, and that after its last."""
    start: int | None = None
    fence, only_headings = "", True
    for index, line in enumerate(lines):
        if line.strip() or fence:
            start = index if start is None else start
            if is_markdown:
                only_headings = only_headings and bool(_HEADING.fullmatch(line))
                fence = _fence_after(line, fence)
        elif start is not None and not (is_markdown and only_headings):
            yield start, index
            start, only_headings = None, True
    if start is not None:
        end = next(it for it in range(len(lines), 0, -1) if lines[it - 1].strip())
        yield start, end


def _fence_after(line: str, fence: str) -> str:
    """Return the mark of the block of code that is open after a line; "" if there is none."""
    found = _FENCE.match(line)
    if not found:
        return fence
    if not fence:
        return found[1]
    closes = found[1].startswith(fence) and not line[found.end() :].strip()
    return "" if closes else fence
