"""The folder of this program's caches: nothing depends on what is in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from platformdirs import user_cache_path

CACHE = "FTE_CACHE"
"""Environment variable that names another folder."""


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of this program's caches, which need not exist."""
    named = environment.get(CACHE)
    return Path(named) if named else user_cache_path("finetuning-exam", appauthor=False)
