"""Atomic, durable writes: after a crash or power cut a file or folder is complete or absent."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from finetuning_exam.errors import DiskError, UsageError, UserError

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

MANIFEST = "manifest.json"
_PARTIAL = ".partial"
_REMOVED = ".removed"
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: to a temporary file beside it, flushed to disk, then renamed.

    Raises:
        DiskError: the disk is full or reports an I/O error.
        UsageError: the file cannot be written for any other reason.
    """
    partial = path.with_name(f".{path.name}{_PARTIAL}")
    with _as_user_error(path):
        try:
            # backslashreplace: file names on Linux need not be valid Unicode
            content = text.encode("utf-8", errors="backslashreplace")
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            sync_folder(path.parent)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def write_json(path: Path, value: Json) -> None:
    """Write an indented JSON file atomically, with keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_folder(place: Path, write: Callable[[Path], Path | None]) -> None:
    """Create a folder atomically, with a manifest of its files.

    `write` fills a temporary folder, which is flushed to disk and renamed to `place`, or to the
    place that `write` returns, replacing any folder there. If `write` fails, nothing is changed.

    Raises:
        DiskError, UsageError: see `write_text`.
    """
    staged = _hidden_sibling(place, _PARTIAL)
    with _as_user_error(place):
        try:
            _remove(staged)
            staged.mkdir(parents=True)
            place = write(staged) or place
            names = [path.name for path in staged.iterdir()]
            (staged / MANIFEST).write_text(_manifest_of(staged, names), encoding="utf-8")
            for name in (*names, MANIFEST):
                sync_file(staged / name)
            sync_folder(staged)
            if place.exists():
                remove_folder(place)
            staged.rename(place)
            sync_folder(place.parent)
        except BaseException:
            _remove(staged)
            raise


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder; on exit its content is flushed and moved into `folder`.

    Each file and each folder is moved atomically.

    Raises:
        DiskError, UsageError: see `write_text`; if writing fails, no file is moved.
    """
    aside = folder / f".files{_PARTIAL}"
    with _as_user_error(folder):
        try:
            _remove(aside)
            aside.mkdir()
            yield aside
            for path in aside.rglob("*"):
                sync_folder(path) if path.is_dir() else sync_file(path)
            for path in sorted(aside.iterdir()):
                place = folder / path.name
                if path.is_dir() and place.exists():
                    remove_folder(place)
                path.replace(place)
            sync_folder(folder)
        finally:
            _remove(aside)


def remove_folder(folder: Path) -> None:
    """Remove a folder, renaming it first so that a partly deleted folder never has its name."""
    removed = _hidden_sibling(folder, _REMOVED)
    _remove(removed)
    folder.rename(removed)
    _remove(removed)


def leftovers(folder: Path) -> tuple[Path, ...]:
    """Return the temporary files and folders that interrupted writes and removals left behind."""
    return tuple(
        path
        for path in sorted(folder.iterdir())
        if path.name.startswith(".") and path.suffix in (_PARTIAL, _REMOVED)
    )


def sweep(folder: Path) -> None:
    """Remove the leftovers in a folder."""
    for path in leftovers(folder):
        _remove(path)


# Manifests record the size and SHA-256 of each file in a folder.


def write_manifest(folder: Path, names: Iterable[str]) -> None:
    """Write a manifest with the size and SHA-256 of the named files in a folder."""
    write_text(folder / MANIFEST, _manifest_of(folder, names))


def manifest_faults(folder: Path, needed: Iterable[str] = ()) -> tuple[str, ...]:
    """List the differences between a folder and its manifest; empty if every byte is unchanged.

    Files that the manifest does not list are ignored, but it must list every `needed` file.
    """
    try:
        content = (folder / MANIFEST).read_bytes()
    except OSError:
        return (f"{MANIFEST} is missing",)
    try:
        files = json.loads(content)["files"]
        is_whole = _manifest_text(files).encode("utf-8") == content
        if not is_whole or any(Path(name).name != name for name in files):
            return (f"{MANIFEST} is damaged",)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return (f"{MANIFEST} is damaged",)
    unlisted = [f"{MANIFEST} does not list {name}" for name in needed if name not in files]
    found = (_file_fault(folder / name, files[name]) for name in files)
    return (*unlisted, *filter(None, found))


def _file_fault(path: Path, expected: dict[str, Json]) -> str | None:
    try:
        size = path.stat().st_size
        if size != expected["size"]:
            return f"{path.name} has {size:,} bytes, not {expected['size']:,}"
        if file_sha256(path) != expected["sha256"]:
            return f"{path.name} is damaged"
    except FileNotFoundError:
        return f"{path.name} is missing"
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror})"
    return None


def _manifest_of(folder: Path, names: Iterable[str]) -> str:
    files: dict[str, Json] = {
        name: {"size": (folder / name).stat().st_size, "sha256": file_sha256(folder / name)}
        for name in sorted(names)
    }
    return _manifest_text(files)


def _manifest_text(files: dict[str, Json]) -> str:
    """Return the canonical text of a manifest, with a digest that reveals damage to itself."""
    body = json.dumps(files, indent=2, sort_keys=True)
    digest = hashlib.sha256(body.encode("utf-8")).hexdigest()
    return json.dumps({"files": files, "sha256": digest}, indent=2, sort_keys=True) + "\n"


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Disk


def sync_file(path: Path) -> None:
    """Flush a file to the disk."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk; does nothing outside POSIX."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _as_user_error(path: Path) -> Iterator[None]:
    """Turn I/O errors, including those raised by safetensors, into user errors."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        raise failed_write(path, error) from error
    except Exception as error:
        number = re.search(r"\bos error (\d+)\b|\bcode: (\d+)\b", str(error))
        if type(error).__name__ != "SafetensorError" or number is None:
            raise
        code = int(number[1] or number[2])
        raise failed_write(path, OSError(code, os.strerror(code))) from error


def failed_write(path: Path, error: OSError) -> UserError:
    """Return the user error for a failed write."""
    if error.errno in _FULL:
        return DiskError(f"{path}: no space left on the disk.", "Free some space.")
    if error.errno == errno.EIO:
        return DiskError(
            f"{path}: the disk reported an error ({error.strerror}).",
            "Check the disk, or use another --output_dir.",
        )
    return UsageError(f"{path}: cannot be written ({error.strerror}).")


def _hidden_sibling(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}{suffix}")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def finite(value: float) -> float | None:
    """Return a number as JSON may hold it: None if it is NaN or infinite."""
    return value if math.isfinite(value) else None


def read_json(path: Path) -> dict[str, Json]:
    """Return the object in a JSON file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not valid JSON, or not an object.
    """
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ValueError(f"{path}: not a JSON object")
    return cast(dict[str, Json], value)


def read_object(path: Path) -> dict[str, Json]:
    """Return the object in a JSON file, empty where there is none or it cannot be read."""
    try:
        return read_json(path)
    except (OSError, ValueError, RecursionError):
        return {}
