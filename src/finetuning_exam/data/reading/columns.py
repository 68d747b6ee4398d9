"""Records that one JSON object holds by column or by row label, as data frames write them.

Supported are a list of cells for each column, what pandas writes with `orient` columns, index,
split and tight, and any of these in a field such as `data`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from finetuning_exam.data.reading.documents import LIST_NAMES, SPLIT_NAMES
from finetuning_exam.data.reading.layouts import CONVERSATION_FIELDS, PAIRS
from finetuning_exam.data.reading.packed_text import are_turns
from finetuning_exam.errors import UsageError

Row = dict[str, object]

_FIELDS = frozenset({it for pair in PAIRS for it in (pair.prompt, pair.answer)} | {"text"})
_LISTS_OF_TEXTS = (*CONVERSATION_FIELDS, "data")
"""Fields whose list of texts is one conversation, and not a column."""
_SPLIT = frozenset({"columns", "index", "data", "index_names", "column_names"})
_HINT = 'Write one record per line: df.to_json("new.jsonl", orient="records", lines=True).'


def rows_of(value: Mapping[str, object], path: str) -> list[Row] | None:
    """Return the records of an object that holds them by column or by label; None if it does not.

    The labels of the rows are not kept.

    Raises:
        UsageError: columns or rows have different lengths, or there are several splits.
    """
    if len(value) == 1:
        name, inner = next(iter(value.items()))
        if name in (*LIST_NAMES, *SPLIT_NAMES) and isinstance(inner, Mapping):
            return rows_of(inner, path)
    if {"columns", "data"} <= value.keys() <= _SPLIT:
        return _of_split(value["columns"], value["data"], path)
    columns = list(value.values())
    lists = [it for it in columns if isinstance(it, list)]
    if lists and len(lists) == len(columns):
        return _of_lists(value, path)
    objects = {name: it for name, it in value.items() if isinstance(it, Mapping)}
    if objects and len(objects) == len(columns):
        return _of_objects(objects, path)
    return None


def refuse_lists(records: Sequence[object], details: Iterable[str], path: str) -> None:
    """Refuse an array of lists of values, whose columns have no names.

    Raises:
        UsageError: there are no records, and each of the `details` says that one is a list.
    """
    said = list(details)
    if said and not records and all(it == "expected an object, got a list" for it in said):
        raise UsageError(
            f"{path} is a list of lists of values, without the names of their columns.", _HINT
        )


def _of_split(names: object, data: object, path: str) -> list[Row] | None:
    if not (isinstance(names, list) and isinstance(data, list)):
        return None
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        return None
    rows: list[Row] = []
    for number, cells in enumerate(data, start=1):
        if not isinstance(cells, list):
            return None
        if len(cells) != len(names):
            raise UsageError(
                f"{path}: row {number} of 'data' has {len(cells)} cells, but there are "
                f"{len(names)} columns.",
                _HINT,
            )
        rows.append(dict(zip(names, cells, strict=True)))
    return rows or None


def _of_lists(value: Mapping[str, object], path: str) -> list[Row] | None:
    """Read a list of cells for each column; a record whose fields are lists is none."""
    columns = {name: it for name, it in value.items() if isinstance(it, list)}
    if not _are_columns(columns):
        return None
    lengths = {name: len(cells) for name, cells in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name!r}: {n:,}" for name, n in list(lengths.items())[:5])
        raise UsageError(f"{path}: its columns have different lengths ({shown}).", _HINT)
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def _are_columns(columns: Mapping[str, list[object]]) -> bool:
    """Return whether lists are columns: of texts, or of conversations, and none is one itself."""
    if any(are_turns(cells) for cells in columns.values()):
        return False
    if any(_are_conversations(cells) for cells in columns.values()):
        return True
    texts = [
        name
        for name, cells in columns.items()
        if name not in _LISTS_OF_TEXTS
        and any(isinstance(cell, str) for cell in cells)
        and not any(isinstance(cell, list | dict) for cell in cells)
    ]
    return bool(texts) and (len(columns) > 1 or texts[0] in _FIELDS)


def _are_conversations(cells: Sequence[object]) -> bool:
    return any(cells) and all(are_turns(cell) for cell in cells if cell is not None)


def _of_objects(value: Mapping[str, Mapping[str, object]], path: str) -> list[Row] | None:
    """Read an object for each column, by row label, or for each row, by the column's name."""
    inner = list(next(iter(value.values())))
    if not inner or any(it.keys() != set(inner) for it in value.values()):
        return None
    splits = [name for name in value if name in ("train", *SPLIT_NAMES)]
    if len(splits) == len(value) > 1:
        raise UsageError(
            f"{path} is one object with several splits: {', '.join(splits)}.",
            "Write each split to a file of its own.",
        )
    if _are_columns_by_label(list(value), inner):
        return [{name: cells[label] for name, cells in value.items()} for label in inner]
    if _are_columns_by_label(inner, list(value)):
        return [dict(row) for row in value.values()]
    return None


def _are_columns_by_label(names: Sequence[str], labels: Sequence[str]) -> bool:
    """Return whether names are those of columns, and labels those of rows."""
    if all(it.isdecimal() for it in labels):
        return not all(it.isdecimal() for it in names)
    known = [{it.strip().casefold() for it in its} & _KNOWN for its in (names, labels)]
    return bool(known[0]) and not known[1] and not all(it.isdecimal() for it in names)


_KNOWN = _FIELDS | {*CONVERSATION_FIELDS}
