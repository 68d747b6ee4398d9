"""Specification of the hash by which the rows of a resumed run are compared."""

from __future__ import annotations

from finetuning_exam.data.encoding.encode import Encoded
from finetuning_exam.training.inputs import hash_of_rows


def test_the_hash_of_rows_sees_ids_labels_and_borders() -> None:
    """Another id, another label and another border between rows each give another hash."""
    row = Encoded((1, 2), (-100, 2), 1, 1)
    rows = [
        [row],
        [Encoded((1, 3), (-100, 2), 1, 1)],
        [Encoded((1, 2), (-100, -100), 1, 1)],
        [row, row],
        [Encoded((1, 2, 1, 2), (-100, 2, -100, 2), 1, 1)],
    ]
    assert len({hash_of_rows(it) for it in rows}) == len(rows)
    assert hash_of_rows([row]) == hash_of_rows(iter([row]))
