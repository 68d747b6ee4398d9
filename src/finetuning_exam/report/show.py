"""Show an example as the model sees it: trained text bright, the rest dim, end tokens visible."""

from __future__ import annotations

from itertools import groupby

from rich.text import Text

from finetuning_exam.data.encoding.encoder import Encoded, Encoder
from finetuning_exam.data.encoding.labels import IGNORED
from finetuning_exam.data.encoding.rows import encode_all
from finetuning_exam.data.records import Example
from finetuning_exam.report.text import counted, visible

TRAINED, GIVEN = "┃ ", "│ "
"""The marks before a line of trained text, and before a line that is only given."""


def render_example(example: Example, encoder: Encoder, limit: int) -> Text:
    """Render the rows of an example, decoded from their ids, each line marked as trained or given.

    It has several where each of its answers is trained in a row of its own.
    """
    encoded = encode_all(encoder, [example], limit)
    findings = [it for it in encoded.findings if it.kind.severity != "note"]
    text = Text()
    n_rows = len(encoded.rows)
    for number, row in enumerate(encoded.rows or (None,), start=1):
        text.append(("\n\n" if number > 1 else "") + visible(example.where), style="bold")
        if row:
            which = f" · row {number} of {n_rows}" if n_rows > 1 else ""
            size = f"{counted(len(row.ids), 'token')}, {row.n_supervised} trained"
            text.append(f"{which} · {size}", style="dim")
        for finding in findings if number == 1 else ():
            text.append(f"\n{visible(finding.detail)}.")
        if row:
            _append_row(text, row, encoder)
    return text


def _append_row(text: Text, row: Encoded, encoder: Encoder) -> None:
    for is_trained, span in _spans(row, encoder):
        mark, style = (TRAINED, "green") if is_trained else (GIVEN, "dim")
        for line in visible(span).split("\n"):
            text.append(f"\n{mark}{line}", style=style)


def _spans(row: Encoded, encoder: Encoder) -> list[tuple[bool, str]]:
    """Return the row's text in trained and other stretches; line ends between them are dropped."""
    spans: list[tuple[bool, str]] = []
    end, before = 0, ""
    for is_trained, stretch in groupby(label != IGNORED for label in row.labels):
        start, end = end, end + len(list(stretch))
        # Decoded alone, a stretch may lose the blank that it starts with.
        text = encoder.tokenizer.decode(list(row.ids[:end]))
        follows = text.startswith(before)
        span = (
            text[len(before) :] if follows else encoder.tokenizer.decode(list(row.ids[start:end]))
        )
        spans.append((is_trained, span.removesuffix("\n")))
        before = text
    return spans
