"""Pack the rows of a batch without padding, and split a batch by tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.encoding.labels import IGNORED
from finetuning_exam.model.fast.attention import Group, make_groups


@dataclass(frozen=True, slots=True)
class PackedRows:
    """Concatenated rows, shortest first. Index tensors are int64.

    ids, positions: (tokens,), positions counted from the start of each row. `predicting`
    (supervised,) are the tokens whose next token is supervised, `targets` those next tokens, and
    `row_of_target` the index of each target's row in the order the rows were given. `weights`
    (supervised,) float32 are the factors of the targets' losses, or None if all are 1.
    """

    ids: Tensor
    positions: Tensor
    groups: tuple[Group, ...]
    predicting: Tensor
    targets: Tensor
    row_of_target: Tensor
    n_rows: int
    weights: Tensor | None = None


def pack(rows: Sequence[Encoded], device: torch.device) -> PackedRows:
    """Concatenate rows, shortest first."""
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].ids))
    ids: list[int] = []
    positions: list[int] = []
    predicting: list[int] = []
    row_of_target: list[int] = []
    weights: list[float] = []
    for index in order:
        row = rows[index]
        found = [at for at, label in enumerate(row.labels[1:]) if label != IGNORED]
        predicting += [len(ids) + at for at in found]
        row_of_target += [index] * len(found)
        weights += [row.weights[at + 1] if row.weights else 1.0 for at in found]
        ids += row.ids
        positions += range(len(row.ids))
    where = torch.tensor(predicting, dtype=torch.int64, device=device)
    tokens = torch.tensor(ids, dtype=torch.int64, device=device)
    return PackedRows(
        ids=tokens,
        positions=torch.tensor(positions, dtype=torch.int64, device=device),
        groups=make_groups([len(rows[index].ids) for index in order], device),
        predicting=where,
        targets=tokens[where + 1],
        row_of_target=torch.tensor(row_of_target, dtype=torch.int64, device=device),
        n_rows=len(rows),
        weights=_weights(weights, device),
    )


def _weights(found: Sequence[float], device: torch.device) -> Tensor | None:
    if all(weight == 1 for weight in found):
        return None
    return torch.tensor(found, dtype=torch.float32, device=device)


def split_by_tokens(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Split rows, sorted by length, into as few even parts of at most `budget` tokens as possible.

    `lengths` are the rows' tokens; a part is a list of their indices. A row longer than the budget
    is a separate part. Every row is in exactly one part.
    """
    total = sum(lengths)
    share = total / max(1, -(-total // budget))  # even parts, so that none has just a few tokens
    parts: list[list[int]] = []
    used = 0
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        length = lengths[index]
        if not parts or used + length > budget or used + length / 2 > share:
            parts.append([])
            used = 0
        parts[-1].append(index)
        used += length
    return parts
