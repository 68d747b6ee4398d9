"""The files that the paths of a command stand for: folders, patterns and standard input."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from finetuning_exam.data.findings import Finding
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.fields import as_argument, listed
from finetuning_exam.data.reading.hub import is_hub_name
from finetuning_exam.data.reading.opening import PATH_HINT, unreadable
from finetuning_exam.data.reading.stdin import DASH, STDIN, spooled
from finetuning_exam.errors import UsageError

_RECORDS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".xlsx", ".parquet")
_TEXTS = (".txt", ".md")
_COMPRESSED = r"(?:\.gz|\.zst|\.zstd)?"
_NAME = re.compile(
    rf"(?P<stem>.*?)(?P<ending>{'|'.join(map(re.escape, (*_RECORDS, *_TEXTS)))}){_COMPRESSED}",
    re.IGNORECASE,
)
_PART = re.compile(r"[-_.]?\d+(?:-of-\d+)?$")
"""The number of a part at the end of a name: `train-00000-of-00002`."""
_WORD = re.compile(r"[a-z]+", re.IGNORECASE)
_TRAIN = ("train", "training")
_EXAM = ("exam", "test", "testing", "eval", "evaluation", "validation", "valid", "val", "dev")
"""Names of held-out files; the first that a folder has is its exam file."""
_FIRST_WORDS = ("train", "training", "exam", "test", "validation")
_NOT_DATA = re.compile(
    r"(readme|license|licence|changelog|contributing|notice|requirements)\b.*"
    r"|(dataset_infos?|dataset_dict|state|package|config)\.json",
    re.IGNORECASE,
)
_PATTERN = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Inputs:
    """The files to train on, the exam file found beside them, and notes on how they were found."""

    files: tuple[str, ...]
    exam: str | None = None
    notes: tuple[Finding, ...] = ()


def find_inputs(paths: Sequence[str], *, with_exam: bool) -> Inputs:
    """Return the files that paths stand for; folders are looked into.

    In a folder, `train.*` (or `x_train.*`) is the training data if there is such a file, and all
    other data files are if not. With `with_exam`, and if a folder is the only path, its `exam.*`,
    `test.*` or `validation.*` is the exam file.

    Raises:
        UsageError: a folder has no data files or several for training, or a pattern fits none.
    """
    files: list[str] = []
    notes: list[Finding] = []
    exam: str | None = None
    for path in paths:
        if is_hub_name(path) or not os.path.isdir(path):
            files += expand([path])
            continue
        train, held_out, others = _sorted_out(path)
        exam = held_out[0] if with_exam and held_out and len(paths) == 1 else None
        said = _said(train, exam)
        notes.append(Finding(Kind.FOUND_FILES, said, path))
        notes += [
            Finding(Kind.UNUSED_FILE, f"it is not used: {said}", it)
            for it in [*held_out, *others]
            if it != exam
        ]
        files += train
    return Inputs(tuple(files), exam, tuple(notes))


def expand(paths: Sequence[str]) -> list[str]:
    """Return the files that fit patterns such as `data/*.jsonl`, sorted; `-` is standard input.

    A path that exists is no pattern.

    Raises:
        UsageError: no file fits a pattern, or standard input cannot be read.
    """
    files: list[str] = []
    for path in paths:
        if path == DASH:
            spooled()
            files.append(STDIN)
        elif is_hub_name(path) or not _PATTERN.search(path) or os.path.lexists(path):
            files.append(path)
        elif found := [it for it in sorted(glob.glob(path, recursive=True)) if os.path.isfile(it)]:
            files += found
        elif "://" in path:
            files.append(path)
        else:
            raise UsageError(f"{path}: no file fits this pattern.", PATH_HINT)
    return files


def stdin_notes(paths: Sequence[str]) -> list[Finding]:
    """Return the note that data from standard input is not kept, if it was read."""
    if STDIN not in paths:
        return []
    detail = "the data is not kept; to resume or repeat a run, pipe the same data again"
    return [Finding(Kind.FROM_STDIN, detail, STDIN)]


def _sorted_out(folder: str) -> tuple[list[str], list[str], list[str]]:
    """Return the files of a folder to train on, its held-out ones and its other data files.

    Raises:
        UsageError: there are none, or it is not clear which of them to train on.
    """
    try:
        with os.scandir(folder) as found:
            names = sorted(it.name for it in found if it.is_file() and _is_data(it.name))
    except OSError as error:
        raise unreadable(folder, error) from error
    records = [name for name in names if _ending(name) in _RECORDS]
    names = records or names
    if not names:
        raise _no_data(folder)
    splits = {name: _split(name) for name in names}
    train = [name for name in names if splits[name] in _TRAIN]
    held_out = [name for split in _EXAM for name in names if splits[name] == split]
    others = [name for name in names if name not in train and name not in held_out]
    is_one = len({_ending(name) for name in train}) == 1
    if len(train) > 1 and not (is_one and all(_is_part(name) for name in train)):
        raise UsageError(
            f"{folder} has several training files: {listed(train)}.",
            f"Give the file itself, for example {as_argument(os.path.join(folder, train[0]))}.",
        )
    if not train:
        train, others = (others, []) if others else (held_out, [])
        held_out = [name for name in held_out if name not in train]
    parts = [[os.path.join(folder, name) for name in it] for it in (train, held_out, others)]
    return parts[0], parts[1], parts[2]


def _is_data(name: str) -> bool:
    is_named = bool(_NAME.fullmatch(name)) and not name.startswith(".")
    return is_named and not _NOT_DATA.fullmatch(name)


def _ending(name: str) -> str:
    found = _NAME.fullmatch(name)
    return str(found["ending"]).lower() if found else ""


def _split(name: str) -> str:
    """Return the split that a file's name names, as last word or first; "" if it names none."""
    words = [it[0].lower() for it in _WORD.finditer(_PART.sub("", _stem(name)))]
    if words and words[-1] in (*_TRAIN, *_EXAM):
        return words[-1]
    return words[0] if words and words[0] in _FIRST_WORDS else ""


def _is_part(name: str) -> bool:
    return bool(_PART.search(_stem(name)))


def _stem(name: str) -> str:
    found = _NAME.fullmatch(name)
    return str(found["stem"]) if found else name


def _no_data(folder: str) -> UsageError:
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda it: it.name)
    inside = [it.path for it in entries if it.is_dir() and _has_data(it.path)]
    hint = PATH_HINT
    if inside:
        hint = f"Its subfolders are not looked into: give {as_argument(inside[0])}."
    elif any(it.name.endswith(".arrow") for it in entries):
        name = as_argument(folder)
        hint = f'Write it as JSON lines: datasets.load_from_disk({name!r}).to_json("new.jsonl").'
    return UsageError(f"{folder} is a folder without data files.", hint)


def _has_data(folder: str) -> bool:
    try:
        return any(map(_is_data, os.listdir(folder)))
    except OSError:
        return False


def _said(train: Sequence[str], exam: str | None) -> str:
    """Return in one line how the files of a folder are used."""
    said = f"the training data is {', '.join(repr(os.path.basename(it)) for it in train[:5])}"
    if len(train) > 5:
        said += f" and {len(train) - 5:,} more"
    return f"{said}, and the exam is {os.path.basename(exam)!r}" if exam else said
