"""Specification of what is logged of a step: its loss, its tokens, and the columns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import Models, brisk, rows, run_training
from trainings import BY_BOTH

from finetuning_exam.model.device import choose_compute
from finetuning_exam.model.likelihood import stock_nll
from finetuning_exam.model.load import load_base
from finetuning_exam.model.score import score_rows
from finetuning_exam.training.progress import read_metrics

CPU = choose_compute("cpu", "float32")


@BY_BOTH
def test_logged_loss_is_that_of_the_step(
    models: Models, tmp_path: Path, fast_path: tuple[str, ...]
) -> None:
    """The logged and the shown loss of a step are nats per supervised token over all its rows."""
    shown: list[float | None] = []
    settings = brisk(
        models.folder(),
        max_steps=1,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=3,
        fast_path=fast_path,
        micro_batch_tokens=80,
    )
    run = run_training(
        settings, tmp_path, rows(6), on_progress=lambda progress: shown.append(progress.loss)
    )
    base = load_base(str(models.folder()), CPU)
    scores = score_rows(base.model, run.prepared.rows.train, stock_nll(base.model, 0), 6)
    expected = sum(s.nll for s in scores) / sum(s.n_tokens for s in scores)
    assert shown[0] is None
    assert shown[-1] == pytest.approx(expected, rel=1e-5)
    logged = [row["loss"] for row in read_metrics(tmp_path / "metrics.jsonl") if "loss" in row]
    assert logged == pytest.approx([expected], rel=1e-4)


@BY_BOTH
def test_tokens_are_counted_without_padding(
    models: Models, tmp_path: Path, fast_path: tuple[str, ...]
) -> None:
    """The tokens of a run are those of its rows, not of the padded batches."""
    settings = brisk(models.folder(), max_steps=3, fast_path=fast_path, micro_batch_tokens=80)
    run = run_training(settings, tmp_path, rows(12))
    assert run.result.tokens == sum(len(row.ids) for row in run.prepared.rows.train)


def test_metrics_have_the_promised_columns(models: Models, tmp_path: Path) -> None:
    """Every logged step is one line with step, epoch, loss, rate, norm, tokens and speed."""
    run_training(brisk(models.folder(), max_steps=3), tmp_path, rows(12))
    lines = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    parsed = [json.loads(line) for line in lines]
    assert [row["step"] for row in parsed] == [1, 2, 3]
    names = ["step", "epoch", "loss", "learning_rate", "grad_norm", "tokens", "tokens_per_second"]
    assert all(list(row) == names for row in parsed)
