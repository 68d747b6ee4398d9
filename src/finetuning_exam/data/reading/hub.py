"""Datasets of the Hugging Face hub: `hub:owner/name`, with `:split` where it is not train."""

from __future__ import annotations

import hashlib
import json
import os
import re

from finetuning_exam.data.reading.files import FileRows, Row, no_records
from finetuning_exam.errors import UsageError

_SPEC = re.compile(
    r"hub:(?P<name>\w[\w.-]*/\w[\w.-]*)(?::(?P<split>\w[\w.-]*(?:\[[\d:%-]+\])?))?", re.ASCII
)


def is_hub_name(path: str) -> bool:
    """Whether a data path names a dataset of the hub and not a file."""
    return path.startswith("hub:")


def read_hub(spec: str) -> FileRows:
    """All rows of one split of a hub dataset, numbered from 1. No code of the dataset is run.

    `sha256` is that of the rows, each dumped as JSON with sorted keys and a line feed.

    Raises:
        UsageError: the form is wrong, or the dataset cannot be loaded for whatever reason.
        DataError: the split has no rows.
    """
    found = _SPEC.fullmatch(spec)
    if found is None:
        raise UsageError(
            f"{spec}: does not name a dataset of the hub.",
            "Write hub:owner/name or hub:owner/name:split.",
        )
    name, split = found["name"], found["split"] or "train"
    if os.path.lexists(name):  # the library would read it in place of the hub's dataset
        raise UsageError(
            f"{spec}: there is a folder or file {name} here, which is not the hub's dataset.",
            "Give the path of a file in it, or run the command in another folder.",
        )
    try:
        values = _load(name, split)
        digest = hashlib.sha256()
        for value in values:
            digest.update(json.dumps(value, sort_keys=True, default=str).encode() + b"\n")
    except Exception as error:  # the library and the network may fail in any way
        raise _unloadable(spec, error) from error
    if not values:
        raise no_records(spec)
    rows = tuple(Row(number, 0, value) for number, value in enumerate(values, start=1))
    return FileRows(spec, digest.hexdigest(), "hub dataset", rows, ())


def _load(name: str, split: str) -> list[dict[str, object]]:
    import datasets  # noqa: TID251 -- heavy, and only for a dataset of the hub

    return [dict(row) for row in datasets.load_dataset(name, split=split)]


def _unloadable(spec: str, error: Exception) -> UsageError:
    """One line for whatever the library said, with the way out of being offline."""
    said = (str(error).strip().splitlines() or [""])[0].rstrip(".")
    is_offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    if is_offline or isinstance(error, ConnectionError | TimeoutError):
        why = "HF_HUB_OFFLINE is set" if is_offline else "the hub cannot be reached"
        return UsageError(
            f"{spec}: cannot be loaded: {why} ({said or type(error).__name__}).",
            "Load it once while online (without HF_HUB_OFFLINE), or download its file and give "
            "that file's path.",
        )
    return UsageError(
        f"{spec}: cannot be loaded ({type(error).__name__}{': ' * bool(said)}{said}).",
        "Look at its page on huggingface.co for the name, the split and whether it needs a login.",
    )
