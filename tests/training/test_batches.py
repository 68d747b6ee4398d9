"""The optimizer batches of a run: their rows, their order and their passes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import BRISK, Models, brisk, encoded_rows, rows, run_training
from trainings import OBJECTIVE

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.run_record import MicroBatches
from finetuning_exam.settings import FastPiece, TrainSettings
from finetuning_exam.training.batches import draw_batches, split_into_passes
from finetuning_exam.training.plan import rows_per_step
from finetuning_exam.training.trl import ObjectiveTrainer

FAST: frozenset[FastPiece] = frozenset({"rows", "attention"})


def _settings(rows: int, accumulation: int = 1) -> TrainSettings:
    return replace(
        BRISK, per_device_train_batch_size=rows, gradient_accumulation_steps=accumulation
    )


def test_the_passes_of_a_batch() -> None:
    """The fast path splits by tokens, the stock path by `per_device_train_batch_size`."""
    batch = encoded_rows((10, 40, 20, 30, 50, 60))
    found = split_into_passes(OBJECTIVE, batch, _settings(2, 3), MicroBatches(tokens=70), FAST)
    assert all(sum(len(row.ids) for row in part) <= 70 for part in found)
    assert sorted(row.ids for part in found for row in part) == sorted(row.ids for row in batch)
    stock = split_into_passes(
        OBJECTIVE, batch, _settings(4, 3), MicroBatches(tokens=70), frozenset()
    )
    assert stock == [batch[:4], batch[4:]]


@settings(deadline=None)
@given(n_rows=st.integers(1, 40), batch=st.integers(1, 9), n=st.integers(1, 20))
def test_an_epoch_uses_every_row_once(n_rows: int, batch: int, n: int) -> None:
    """Every epoch contains each row once, in batches of one optimizer step."""
    rows = encoded_rows(range(2, 2 + n_rows))
    chosen = _settings(batch, 2)
    found = draw_batches(rows, chosen, n)
    assert len(found) == n
    per_epoch = -(-n_rows // (2 * batch))
    for start in range(0, n - per_epoch + 1, per_epoch):
        epoch = [row for it in found[start : start + per_epoch] for row in it]
        assert sorted(map(id, epoch)) == sorted(map(id, rows))
    assert {len(it) for it in found} <= {rows_per_step(chosen), n_rows % (2 * batch)}
    assert found == draw_batches(rows, chosen, n)


@pytest.mark.parametrize(("rows_a_pass", "accumulation"), [(4, 1), (2, 3)])
def test_the_batches_are_those_of_the_trainer(
    models: Models,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows_a_pass: int,
    accumulation: int,
) -> None:
    """The predicted batches are those that the trainer draws, epoch after epoch."""
    seen: list[set[tuple[int, ...]]] = []
    step = ObjectiveTrainer.training_step

    def watched(
        self: ObjectiveTrainer[Encoded],
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor | tuple[Encoded, ...]],
        *more: Any,
    ) -> object:
        seen.append({row.ids for row in cast("tuple[Encoded, ...]", inputs["rows"])})
        return step(self, model, inputs, *more)

    monkeypatch.setattr(ObjectiveTrainer, "training_step", watched)
    chosen = brisk(
        models.folder(),
        per_device_train_batch_size=rows_a_pass,
        gradient_accumulation_steps=accumulation,
        max_steps=7,
        seed=5,
    )
    prepared = run_training(chosen, tmp_path, rows(13)).prepared
    drawn = draw_batches(prepared.rows.train, chosen, 7)
    assert seen == [{row.ids for row in batch} for batch in drawn]


def test_another_seed_draws_other_batches() -> None:
    """The batches depend on the seed."""
    rows = encoded_rows(range(2, 40))
    one, other = (draw_batches(rows, replace(BRISK, seed=seed), 1) for seed in (1, 2))
    assert one != other
