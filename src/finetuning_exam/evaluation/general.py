"""General text, used to measure forgetting: paragraphs unrelated to the training data."""

from __future__ import annotations

from importlib.resources import files

from finetuning_exam.data.reading.opening import open_regular
from finetuning_exam.errors import DataError, UsageError

MAX_BYTES = 1_000_000
"""Larger files are refused: each paragraph is scored twice, and more text adds no information."""


def read_general_text(path: str | None) -> tuple[str, ...]:
    """Return the paragraphs of a text file, separated by blank lines.

    Without a path, return the paragraphs of the built-in sample.

    Raises:
        UsageError: the path is not a regular file, or the file is too large.
        DataError: the file is not UTF-8, or has no text.
    """
    if path is None:
        sample = files("finetuning_exam.evaluation") / "general_text.txt"
        return _paragraphs(sample.read_text(encoding="utf-8"))
    with open_regular(path) as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise UsageError(
            f"--general_file {path}: larger than {MAX_BYTES:,} bytes.",
            "Use an excerpt; a few dozen paragraphs are enough.",
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


def _paragraphs(text: str) -> tuple[str, ...]:
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return tuple(part.strip() for part in lines.split("\n\n") if part.strip())
