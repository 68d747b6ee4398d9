"""Datasets of the Hugging Face Hub: `hub:owner/name`, with `:split` if it is not train."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

from finetuning_exam.data.reading.files import FileRecords, RawRecord, no_records
from finetuning_exam.data.reading.stdin import STDIN
from finetuning_exam.errors import UsageError

_SPEC = re.compile(
    r"hub:(?P<name>\w[\w.-]*/\w[\w.-]*)(?::(?P<split>\w[\w.-]*(?:\[[\d:%-]+\])?))?", re.ASCII
)

_MISSING = ("DatasetNotFoundError", "RepositoryNotFoundError", "GatedRepoError")


def is_hub_name(path: str) -> bool:
    """Return whether a data path names a dataset of the Hub and not a file."""
    return path.startswith("hub:")


def absolute_path(path: str) -> str:
    """Return a file's absolute path; the name of a hub dataset or of standard input is kept."""
    return path if is_hub_name(path) or path == STDIN else str(Path(path).resolve())


def read_hub(spec: str) -> FileRecords:
    """Read all records of one split of a Hub dataset, numbered from 1. No code of it is run.

    `sha256` is that of the records, each dumped as JSON with sorted keys and a line feed.

    Raises:
        UsageError: the name is malformed, or the dataset cannot be loaded for any reason.
        DataError: the split has no records.
    """
    found = _SPEC.fullmatch(spec)
    if found is None:
        raise UsageError(
            f"{spec} is not a valid name of a Hub dataset.",
            "Write hub:owner/name or hub:owner/name:split.",
        )
    name, split = found["name"], found["split"] or "train"
    if os.path.lexists(name):  # the library would read it instead of the Hub dataset
        raise UsageError(
            f"{spec}: a local file or folder named {name} shadows the Hub dataset.",
            "Give the path of a local file instead, or run the command from another folder.",
        )
    try:
        values = _load(name, split)
        digest = hashlib.sha256()
        for value in values:
            digest.update(json.dumps(value, sort_keys=True, default=str).encode() + b"\n")
    except Exception as error:  # the library and the network may fail in any way
        raise _unloadable(spec, split, error) from error
    if not values:
        raise no_records(spec, "hub dataset")
    records = tuple(RawRecord(number, 0, value) for number, value in enumerate(values, start=1))
    return FileRecords(spec, digest.hexdigest(), "hub dataset", records, ())


def _load(name: str, split: str) -> list[dict[str, object]]:
    import datasets  # noqa: TID251 -- heavy, and only for a dataset of the Hub

    return [dict(row) for row in datasets.load_dataset(name, split=split)]


def _unloadable(spec: str, split: str, error: Exception) -> UsageError:
    """Return a one-line error for any failure of the library, with advice if it is offline."""
    is_offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    if is_offline or isinstance(error, ConnectionError | TimeoutError):
        cause = "HF_HUB_OFFLINE is set" if is_offline else "the Hub is unreachable"
        return UsageError(
            f"{spec} cannot be loaded: {cause}.",
            "Load it once while online (without HF_HUB_OFFLINE), or download its file and give "
            "that file's path.",
        )
    name, message = type(error).__name__, str(error)
    if message.startswith("Unknown split"):
        known = ", ".join(re.findall(r"'([^']+)'", message))
        hint = f"Name one of its splits ({known})." if known else "Name one of its splits."
        return UsageError(f"{spec} has no split {split!r}.", hint)
    if "scripts are no longer supported" in message or "trust_remote_code" in message:
        return UsageError(
            f"{spec} cannot be loaded: it needs code of its own, which is never run.",
            "Download its data as a file and give that file's path.",
        )
    cause = "no such dataset, or it requires a login" if name in _MISSING else f"unexpected {name}"
    return UsageError(
        f"{spec} cannot be loaded: {cause}.",
        "Check its name, its splits and whether it requires a login on the Hugging Face Hub.",
    )
