"""Scores under teacher forcing: the likelihood of the supervised tokens of rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.errors import ModelError
from finetuning_exam.model.fast.path import FastPath, shared_nll
from finetuning_exam.model.fast.shared_prompts import by_question, n_shared_tokens, share_prompts
from finetuning_exam.model.likelihood import RowNll
from finetuning_exam.model.mode import Side, evaluating, on_side


@dataclass(frozen=True, slots=True)
class Score:
    """Negative log-likelihood of one row's supervised tokens, in nats, and how many there are."""

    nll: float
    n_tokens: int
    n_bytes: int

    @property
    def nll_per_token(self) -> float:
        """Nats per supervised token."""
        return self.nll / self.n_tokens


def mean_nll(scores: Sequence[Score]) -> float:
    """Return the nats per supervised token of all rows together."""
    return math.fsum(it.nll for it in scores) / sum(it.n_tokens for it in scores)


def score_rows(
    model: torch.nn.Module,
    rows: Sequence[Encoded],
    row_nll: RowNll,
    batch_size: int,
) -> tuple[Score, ...]:
    """Score every row, in the order given; `row_nll` is the model's likelihood.

    A row's score does not depend on its batch beyond float32 rounding.
    """
    nlls = values_in_batches(
        model,
        [len(row.ids) for row in rows],
        lambda indices: row_nll([rows[index] for index in indices]),
        batch_size,
    )
    return _scores(rows, nlls)


def score_options(fast: FastPath, rows: Sequence[Encoded], batch_size: int) -> tuple[Score, ...]:
    """Score rows of which several have the same prompt, in the order given.

    The scores are those of `score_rows`. On the decoder each prompt is computed once, with
    `batch_size` prompts in one forward pass.
    """
    (found,) = _score_options(fast, rows, batch_size, ("tuned",))
    return found


def score_options_of_both(
    fast: FastPath, rows: Sequence[Encoded], batch_size: int
) -> tuple[tuple[Score, ...], tuple[Score, ...]]:
    """Score rows as `score_options` does, by base and by tuned model, which share their batches."""
    base, tuned = _score_options(fast, rows, batch_size, ("base", "tuned"))
    return base, tuned


def _score_options(
    fast: FastPath, rows: Sequence[Encoded], batch_size: int, sides: Sequence[Side]
) -> list[tuple[Score, ...]]:
    """Return the scores by each side; "tuned" is the model as it is."""
    if not fast.decoder:
        found = []
        for side in sides:
            with on_side(fast.model, side):
                found.append(score_rows(fast.model, rows, fast.row_nll, batch_size))
        return found
    nlls = [[0.0] * len(rows) for _ in sides]
    with evaluating(fast.model), torch.inference_mode():
        for indices in _by_questions(rows, batch_size):
            batch = share_prompts([rows[index] for index in indices], fast.decoder.device)
            for of_side, side in zip(nlls, sides, strict=True):
                with on_side(fast.model, side):
                    values = shared_nll(fast.decoder, batch).tolist()
                for index, value in zip(indices, values, strict=True):
                    of_side[index] = value
    return [_scores(rows, of_side) for of_side in nlls]


def option_tokens(fast: FastPath, rows: Sequence[Encoded], batch_size: int) -> int:
    """Return how many tokens `score_options` computes for rows."""
    if not fast.decoder:
        return sum(len(row.ids) for row in rows)
    batches = _by_questions(rows, batch_size)
    return sum(n_shared_tokens([rows[index] for index in indices]) for indices in batches)


def _by_questions(rows: Sequence[Encoded], batch_size: int) -> list[list[int]]:
    """Return the rows of each forward pass: those of `batch_size` questions."""
    questions = by_question(rows)
    return [
        [index for it in questions[start : start + batch_size] for index in it]
        for start in range(0, len(questions), batch_size)
    ]


def _scores(rows: Sequence[Encoded], nlls: Sequence[float]) -> tuple[Score, ...]:
    return tuple(
        Score(nll, row.n_supervised, row.answer_bytes) for nll, row in zip(nlls, rows, strict=True)
    )


def values_in_batches(
    model: torch.nn.Module,
    lengths: Sequence[int],
    compute: Callable[[Sequence[int]], Tensor],
    batch_size: int,
) -> list[float]:
    """Compute a value for every row, by rows of like length in one forward pass.

    `compute` takes the indices of a batch and returns its values: (rows,). Dropout and gradients
    are off, whatever the model's mode. The values are in the order of `lengths`.
    """
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    values = [0.0] * len(lengths)
    with evaluating(model), torch.inference_mode():
        for start in range(0, len(order), batch_size):
            indices = order[start : start + batch_size]
            for index, value in zip(indices, compute(indices).tolist(), strict=True):
                values[index] = value
    return values


def check_finite(base: Sequence[Score], tuned: Sequence[Score]) -> None:
    """Refuse scores that mean nothing.

    Raises:
        ModelError: a likelihood is NaN or infinite.
    """
    for side, scores in (("base", base), ("tuned", tuned)):
        n = sum(not math.isfinite(it.nll) for it in scores)
        if n:
            raise ModelError(
                f"The {side} model gives {n:,} of {len(scores):,} texts a likelihood that is NaN "
                "or infinite.",
                "Try --dtype float32. If that does not help, the weights are damaged.",
            )
