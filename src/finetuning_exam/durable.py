"""Files and folders that are there whole or not at all, also after a crash or a power cut."""

from __future__ import annotations

import errno
import hashlib
import json
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
    """Write a file whole: into a temporary neighbour, flushed to disk, then renamed.

    Raises:
        DiskError: no space left, or the disk fails.
        UsageError: it cannot be written for another reason.
    """
    partial = path.with_name(f".{path.name}{_PARTIAL}")
    with _as_user_error(path):
        try:
            # backslashreplace: names of files on Linux need not be Unicode
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
    """Write a JSON file whole, indented, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_folder(place: Path, write: Callable[[Path], None]) -> None:
    """Fill a folder aside, flush it, seal it with a manifest, and put it in its place at once.

    What was there before is replaced. A write that fails leaves the place as it was.

    Raises:
        DiskError, UsageError: as `write_text`.
    """
    staged = _aside(place, _PARTIAL)
    with _as_user_error(place):
        try:
            _remove(staged)
            staged.mkdir(parents=True)
            write(staged)
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
    """A folder to write files into, which are then flushed and moved into `folder`, each whole.

    Raises:
        DiskError, UsageError: as `write_text`; then none of them was moved.
    """
    aside = folder / f".files{_PARTIAL}"
    with _as_user_error(folder):
        try:
            _remove(aside)
            aside.mkdir()
            yield aside
            written = sorted(aside.iterdir())
            for path in written:
                sync_file(path)
            for path in written:
                path.replace(folder / path.name)
            sync_folder(folder)
        finally:
            _remove(aside)


def remove_folder(folder: Path) -> None:
    """Take a folder away at once, by name first, so that no half of it is ever under its name."""
    removed = _aside(folder, _REMOVED)
    _remove(removed)
    folder.rename(removed)
    _remove(removed)


def leftovers(folder: Path) -> tuple[Path, ...]:
    """What writes and removals that were cut short have left in a folder."""
    return tuple(
        path
        for path in sorted(folder.iterdir())
        if path.name.startswith(".") and path.suffix in (_PARTIAL, _REMOVED)
    )


def sweep(folder: Path) -> None:
    """Remove the leftovers of a folder."""
    for path in leftovers(folder):
        _remove(path)


# A manifest says which bytes a folder was given.


def write_manifest(folder: Path, names: Iterable[str]) -> None:
    """Write down size and SHA-256 of files of a folder."""
    write_text(folder / MANIFEST, _manifest_of(folder, names))


def manifest_faults(folder: Path, needed: Iterable[str] = ()) -> tuple[str, ...]:
    """How a folder differs from its manifest, a line each; none: every byte is as it was written.

    Files the manifest does not name are not looked at; it must name those that are `needed`.
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
    unknown = [f"{MANIFEST} does not name {name}" for name in needed if name not in files]
    found = (_file_fault(folder / name, files[name]) for name in files)
    return (*unknown, *filter(None, found))


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
    """The one text that a manifest of these files has; it tells of its own damage too."""
    body = json.dumps(files, indent=2, sort_keys=True)
    digest = hashlib.sha256(body.encode("utf-8")).hexdigest()
    return json.dumps({"files": files, "sha256": digest}, indent=2, sort_keys=True) + "\n"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# The disk


def sync_file(path: Path) -> None:
    """Flush a file to the disk."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder's names to the disk, where the system can do that (POSIX)."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _as_user_error(path: Path) -> Iterator[None]:
    """Whatever the disk refuses, in words."""
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
    """What to tell of a write that failed."""
    if error.errno in _FULL:
        return DiskError(f"{path}: no space left on the disk.", "Free some space.")
    if error.errno == errno.EIO:
        return DiskError(
            f"{path}: the disk failed to write it ({error.strerror}).",
            "Look after the disk, or give another --output_dir.",
        )
    return UsageError(f"{path}: cannot be written ({error.strerror}).")


def _aside(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}{suffix}")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Json]:
    """The object in a JSON file.

    Raises:
        OSError, ValueError: it cannot be read, or holds no object.
    """
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ValueError(f"{path}: holds no object")
    return cast(dict[str, Json], value)


def read_object(path: Path) -> dict[str, Json]:
    """Return the object in a JSON file, empty where there is none or it cannot be read."""
    try:
        return read_json(path)
    except (OSError, ValueError, RecursionError):
        return {}
