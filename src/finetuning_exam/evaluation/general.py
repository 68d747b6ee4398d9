"""General text, by which forgetting is measured: paragraphs that nobody was taught."""

from __future__ import annotations

from importlib.resources import files

from finetuning_exam.data.reading.opening import open_regular
from finetuning_exam.errors import DataError, UsageError

MOST_BYTES = 1_000_000
"""Larger files are refused: every paragraph is scored twice, and more tell no more."""


def read_general_text(path: str | None) -> tuple[str, ...]:
    """The paragraphs of a text file, which empty lines part; absent: the package's own sample.

    Raises:
        UsageError: it is no regular file, or too large.
        DataError: it is not UTF-8, or has no text.
    """
    if path is None:
        sample = files("finetuning_exam.evaluation") / "general_text.txt"
        return _paragraphs(sample.read_text(encoding="utf-8"))
    with open_regular(path) as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise UsageError(
            f"--general_file {path}: is larger than {MOST_BYTES:,} bytes.", "Give an excerpt."
        )
    try:
        found = _paragraphs(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError([f"{path}: not UTF-8 at byte {error.start + 1}."]) from error
    if not found:
        raise DataError([f"{path}: has no text."], "Give paragraphs, parted by empty lines.")
    return found


def _paragraphs(text: str) -> tuple[str, ...]:
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return tuple(part.strip() for part in lines.split("\n\n") if part.strip())
