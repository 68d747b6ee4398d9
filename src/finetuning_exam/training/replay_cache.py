"""Texts that a base wrote for an earlier run, so that the next run of the same base need not wait.

They are in the folder that the environment variable FTE_CACHE names, or else in the platform's
folder for caches. Nothing depends on them: without a cache the base writes the same texts again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from platformdirs import user_cache_path

from finetuning_exam.errors import UserError
from finetuning_exam.training.replay_file import Ids, read_texts, write_texts

CACHE = "FTE_CACHE"


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of this program's caches, which need not exist."""
    named = environment.get(CACHE)
    return Path(named) if named else user_cache_path("finetuning-exam", appauthor=False)


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
