"""Supervised fine-tuning as an objective: rows, loss, weights and sizes."""

from __future__ import annotations

import math

import pytest
import torch
from tiny import Models, adapted, encoded_rows, rows

from finetuning_exam.data.encoding.encoder import Encoded, make_encoder
from finetuning_exam.data.encoding.rows import hash_of_sequences
from finetuning_exam.model.device import choose_compute
from finetuning_exam.model.fast.path import FastPath, choose_fast_path, wanted_pieces
from finetuning_exam.model.load import load_base
from finetuning_exam.objectives.base import mean_loss, n_tokens, sequences_of
from finetuning_exam.objectives.sft import SupervisedFineTuning


@pytest.fixture(scope="module")
def path() -> FastPath:
    """Return the fast path of a tiny model with an adapter."""
    return choose_fast_path(adapted(), 0, wanted_pieces(["all"]))


@pytest.fixture(scope="module")
def objective(models: Models) -> SupervisedFineTuning:
    """Return an objective that also trains on prompts, and validates on answers only."""
    tokenizer = load_base(str(models.folder()), choose_compute("cpu", "float32")).tokenizer
    return SupervisedFineTuning(
        make_encoder(tokenizer, "plain", loss_on="everything"), make_encoder(tokenizer, "plain")
    )


def test_training_and_validation_rows_differ_in_their_labels(
    objective: SupervisedFineTuning,
) -> None:
    """Both have the same ids; validation supervises only the answer, whatever training does."""
    training = objective.training_rows(rows(3), 1024).rows
    validation = objective.validation_rows(rows(3), 1024).rows
    assert [row.ids for row in training] == [row.ids for row in validation]
    assert [objective.weight(row) for row in training] == [len(row.ids) - 1 for row in training]
    assert all(objective.weight(row) == len(row.ids) - row.prompt_length for row in validation)


def test_rows_longer_than_the_limit_have_findings(objective: SupervisedFineTuning) -> None:
    """An objective reports every row that it cuts or leaves out."""
    found = objective.training_rows(rows(2), 8)
    assert len(found.rows) + len(found.findings) >= 2
    assert found.findings


def test_the_loss_of_a_row_is_its_likelihood(
    objective: SupervisedFineTuning, path: FastPath
) -> None:
    """Losses are the negative log-likelihoods of the fast path, with gradients."""
    batch = encoded_rows((9, 5, 12))
    losses = objective.losses(path, batch)
    assert losses.shape == (3,)
    assert losses.requires_grad
    assert torch.equal(losses, path.row_nll(batch))


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_the_mean_loss_does_not_depend_on_the_batch_size(
    objective: SupervisedFineTuning, path: FastPath, batch_size: int
) -> None:
    """The mean loss is the sum of losses over the sum of weights, not a mean of means."""
    batch = encoded_rows((9, 5, 12, 30, 7))
    expected = math.fsum(path.row_nll(batch).tolist()) / sum(it.n_supervised for it in batch)
    assert mean_loss(objective, path, batch, batch_size) == pytest.approx(expected, rel=1e-6)


def test_a_row_is_one_sequence(objective: SupervisedFineTuning) -> None:
    """The only sequence of a row is the row itself; its tail keeps the labels of the answer."""
    batch = encoded_rows((9, 5))
    assert sequences_of(objective, batch) == batch
    assert n_tokens(objective, batch) == 14
    tail = objective.tail(batch[0], 4)
    assert (tail.ids, tail.labels) == (batch[0].ids[-4:], batch[0].labels[-4:])


def test_the_hash_of_rows_covers_ids_labels_and_boundaries() -> None:
    """Changing an id, a label or a boundary between rows changes the hash."""
    row = Encoded((1, 2), (-100, 2), 1, 1)
    rows = [
        [row],
        [Encoded((1, 3), (-100, 2), 1, 1)],
        [Encoded((1, 2), (-100, -100), 1, 1)],
        [row, row],
        [Encoded((1, 2, 1, 2), (-100, 2, -100, 2), 1, 1)],
    ]
    assert len({hash_of_sequences(it) for it in rows}) == len(rows)
    assert hash_of_sequences([row]) == hash_of_sequences(iter([row]))
