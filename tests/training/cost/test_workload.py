"""Specification of what a training computes: its batches, its passes, and their sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import BRISK, Models, brisk, encoded_rows, rows, run_training

from finetuning_exam.data.encoding.encode import Encoded
from finetuning_exam.run_record import MicroBatches
from finetuning_exam.settings import TrainSettings
from finetuning_exam.training.cost.workload import (
    Size,
    draw_batches,
    longest_rows,
    passes,
    rows_per_step,
    size_of,
)
from finetuning_exam.training.trl import EncodedRowsTrainer

FAST = frozenset({"rows", "attention"})


def _settings(rows: int, accumulation: int = 1) -> TrainSettings:
    return replace(
        BRISK, per_device_train_batch_size=rows, gradient_accumulation_steps=accumulation
    )


def _row(length: int, n_supervised: int) -> Encoded:
    ids = tuple(range(length))
    prompt = length - n_supervised
    return Encoded(ids, (-100,) * prompt + ids[prompt:], prompt, 0)


def test_a_stock_pass_is_padded() -> None:
    """Rows are as long as the longest, and the head runs where any row is supervised."""
    short = [_row(10, 2), _row(6, 3)]
    assert size_of(short, frozenset()) == Size(tokens=20, pairs=200, logits=2 * 5)


@pytest.mark.parametrize(
    ("lengths", "tokens", "pairs"),
    [
        ((100,), 100, 100 * 100),
        ((64, 30), 94, 2 * 64 * 64),  # short rows share a group
        ((256,), 256, 128 * 128 + 128 * 256),
        ((400,), 400, 100 * (100 + 200 + 300 + 400)),
        ((400, 180), 580, 100 * (100 + 200 + 300 + 400) + 90 * (90 + 180)),
        ((400, 380), 780, 2 * 100 * (100 + 200 + 300 + 400)),
    ],
)
def test_a_fast_pass_is_packed(lengths: tuple[int, ...], tokens: int, pairs: int) -> None:
    """No token is filling; a row attends in blocks up to itself, like rows side by side."""
    batch = [_row(length, 3) for length in lengths]
    assert size_of(batch, FAST) == Size(tokens, pairs, 3 * len(lengths))


def test_the_passes_of_a_batch() -> None:
    """By tokens with the fast path's rows, else by the rows of a batch on the device."""
    batch = encoded_rows((10, 40, 20, 30, 50, 60))
    found = passes(batch, _settings(2, 3), MicroBatches(tokens=70), FAST)
    assert all(sum(len(row.ids) for row in part) <= 70 for part in found)
    assert sorted(row.ids for part in found for row in part) == sorted(row.ids for row in batch)
    assert passes(batch, _settings(4, 3), MicroBatches(tokens=70), frozenset()) == [
        batch[:4],
        batch[4:],
    ]


@settings(deadline=None)
@given(n_rows=st.integers(1, 40), batch=st.integers(1, 9), n=st.integers(1, 20))
def test_batches_are_drawn_as_a_training_draws_them(n_rows: int, batch: int, n: int) -> None:
    """Every epoch has every row once, in batches of an optimizer step's rows."""
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
def test_the_batches_are_those_of_the_training(
    models: Models,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows_a_pass: int,
    accumulation: int,
) -> None:
    """What is drawn here is what the trainer draws, epoch after epoch."""
    seen: list[set[tuple[int, ...]]] = []
    step = EncodedRowsTrainer.training_step

    def watched(
        self: object, model: object, inputs: dict[str, tuple[Encoded, ...]], *more: object
    ) -> object:
        seen.append({row.ids for row in inputs["rows"]})
        return step(self, model, inputs, *more)

    monkeypatch.setattr(EncodedRowsTrainer, "training_step", watched)
    chosen = brisk(
        models.folder(),
        per_device_train_batch_size=rows_a_pass,
        gradient_accumulation_steps=accumulation,
        max_steps=7,
        seed=5,
    )
    prepared = run_training(chosen, tmp_path, rows(13)).prepared
    drawn = draw_batches(prepared.train_rows, chosen, 7)
    assert seen == [{row.ids for row in batch} for batch in drawn]


def test_another_seed_draws_other_batches() -> None:
    """The draw is the seed's."""
    rows = encoded_rows(range(2, 40))
    one, other = (draw_batches(rows, replace(BRISK, seed=seed), 1) for seed in (1, 2))
    assert one != other


def test_the_longest_rows() -> None:
    """They are those of most tokens, the longest last; all where there are fewer."""
    rows = encoded_rows((5, 9, 2, 7))
    assert [len(row.ids) for row in longest_rows(rows, 2)] == [7, 9]
    assert [len(row.ids) for row in longest_rows(rows, 8)] == [2, 5, 7, 9]
