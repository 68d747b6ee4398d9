"""Values of a table that is stored in columns, where NaN stands for nothing."""

from __future__ import annotations

import math


def without_nan(record: dict[str, object]) -> dict[str, object]:
    """Return a record in which a cell that is NaN is "", as an empty cell of a CSV file is.

    Inside of lists and objects, NaN becomes null, and a field that is null is left out: a table
    gives every object the fields of all others.
    """
    return {
        name: ("" if isinstance(value, float) and math.isnan(value) else _inside(value))
        for name, value in record.items()
    }


def _inside(value: object) -> object:
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, list):
        return [_inside(it) for it in value]
    if isinstance(value, dict):
        inside = {key: _inside(it) for key, it in value.items()}
        return {key: it for key, it in inside.items() if it is not None}
    return value


def is_nothing(value: object) -> bool:
    """Return whether a value says nothing: null, NaN, an empty text, or a container of these."""
    if isinstance(value, str):
        return value.strip() in ("", "[]", "{}", "null", "nan", "NaN", "None")
    if isinstance(value, list):
        return all(is_nothing(it) for it in value)
    if isinstance(value, dict):
        return all(is_nothing(it) for it in value.values())
    return value is None or (isinstance(value, float) and math.isnan(value))
