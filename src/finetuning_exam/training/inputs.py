"""The hash by which the rows of a resumed run are compared."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable

from finetuning_exam.data.encoding.encode import Encoded


def hash_of_rows(rows: Iterable[Encoded]) -> str:
    """SHA-256 over ids and labels: it sees every change of tokenizer, template, data and limits."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(array("q", (len(row.ids), *row.ids, *row.labels)).tobytes())
    return digest.hexdigest()
