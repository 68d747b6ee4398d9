"""General text, used to measure forgetting: paragraphs unrelated to the training data.

The package has two samples of the same kinds of text, which share no sentence: one for the exam,
and one for choices made before it, such as a step or an adapter's scale. Were one sample used for
both, the exam would measure a model by the text that it was chosen by. Each is in the order
narrative, news, encyclopaedic, dialogue, code, everyday, over and over, so that a prefix is a mix.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

from finetuning_exam.data.reading.opening import open_regular
from finetuning_exam.errors import DataError, UsageError

if TYPE_CHECKING:
    from finetuning_exam.data.encoding.encoder import Encoded, Encoder

MAX_BYTES = 1_000_000
"""Larger files are refused: each paragraph is scored twice, and more text adds no information."""


def read_general_text(path: str | None) -> tuple[str, ...]:
    """Return the paragraphs of a text file, separated by blank lines.

    Without a path, return the paragraphs of the exam's built-in sample.

    Raises:
        UsageError: the path is not a regular file, or the file is too large.
        DataError: the file is not UTF-8, or has no text.
    """
    if path is None:
        return _built_in("general_text.txt")
    with open_regular(path) as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise UsageError(
            f"--general_file {path}: larger than {MAX_BYTES:,} bytes.",
            "Use an excerpt; a hundred paragraphs are enough.",
        )
    try:
        found = _paragraphs(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(
            [f"{path}: not valid UTF-8 at byte {error.start + 1}."], "Save the file as UTF-8."
        ) from error
    if not found:
        raise DataError([f"{path}: contains no text."], "Add paragraphs separated by blank lines.")
    return found


def read_validation_text() -> tuple[str, ...]:
    """Return the paragraphs of the second built-in sample, which no exam uses.

    A choice that weighs what a model has lost, such as that of a step or of an adapter's scale, is
    made by this sample.
    """
    return _built_in("general_validation.txt")


def general_rows(encoder: Encoder, paragraphs: Sequence[str], context: int) -> tuple[Encoded, ...]:
    """Encode paragraphs, each cut to the context; those that predict nothing are left out."""
    rows = (encoder.encode_text(part).first(context) for part in paragraphs)
    return tuple(row for row in rows if row.n_supervised)


def _built_in(name: str) -> tuple[str, ...]:
    sample = files("finetuning_exam.evaluation") / name
    return _paragraphs(sample.read_text(encoding="utf-8"))


def _paragraphs(text: str) -> tuple[str, ...]:
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return tuple(part.strip() for part in lines.split("\n\n") if part.strip())
