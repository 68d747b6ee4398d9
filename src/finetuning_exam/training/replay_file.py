"""replay.jsonl: the texts of a run's replay, so that a resumed run goes on with the same ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from finetuning_exam.durable import write_text

Ids = tuple[int, ...]


def write_texts(path: Path, texts: Sequence[Ids], decoded: Sequence[str]) -> None:
    """Write one JSON object for each text: its ids, and the text itself for a reader.

    Raises:
        DiskError, UsageError: it cannot be written.
    """
    lines = (
        json.dumps({"ids": ids, "text": text}, ensure_ascii=False)
        for ids, text in zip(texts, decoded, strict=True)
    )
    write_text(path, "".join(f"{line}\n" for line in lines))


def read_texts(path: Path) -> tuple[Ids, ...] | None:
    """Return the ids of the texts in a file; None where there is none, or it is damaged."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return tuple(tuple(map(int, json.loads(line)["ids"])) for line in lines)
    except (OSError, ValueError, TypeError, KeyError):
        return None
