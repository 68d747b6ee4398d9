"""Texts that a base wrote for an earlier run, so that the next run of the same base need not wait.

Nothing depends on them: without a cache the base writes the same texts again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress

from finetuning_exam.cache import cache_folder
from finetuning_exam.errors import UserError
from finetuning_exam.training.replay_file import Ids, read_texts, write_texts


def texts_from_cache(
    made_from: object, write: Callable[[], Sequence[Ids]]
) -> tuple[tuple[Ids, ...], bool]:
    """Return texts, and whether an earlier run wrote them; otherwise `write` does, for later ones.

    `made_from` is all that the texts depend on, in a form that JSON has. A cache that cannot be
    read or written is no error.
    """
    key = hashlib.sha256(json.dumps(made_from).encode("utf-8")).hexdigest()
    path = cache_folder() / "replay" / f"{key}.jsonl"
    if found := read_texts(path):
        return found, True
    texts = tuple(write())
    with suppress(OSError, UserError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_texts(path, texts, [""] * len(texts))
    return texts, False
