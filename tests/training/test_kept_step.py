"""Validation, early stopping, and the step whose adapter is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import Models, brisk, rows, run_training
from trl.trainer import base_trainer

from finetuning_exam.model.adapter import load_adapter
from finetuning_exam.model.device import choose_compute
from finetuning_exam.model.likelihood import stock_nll
from finetuning_exam.model.load import load_base
from finetuning_exam.model.score import score_rows
from finetuning_exam.training.progress import read_metrics

CPU = choose_compute("cpu", "float32")
WEIGHTS = "adapter_model.safetensors"


def test_the_best_step_is_kept(models: Models, tmp_path: Path) -> None:
    """The saved adapter has the lowest validation loss of the run, not the last one."""
    settings = brisk(
        models.folder(),
        learning_rate=5e-2,
        max_steps=12,
        save_steps=1,
        early_stopping_patience=None,
        eval_batch_size=3,
    )
    run = run_training(settings, tmp_path, rows(8), rows(20)[12:])
    losses = {
        int(row["step"]): row["eval_loss"]
        for row in read_metrics(tmp_path / "metrics.jsonl")
        if "eval_loss" in row
    }
    assert sorted(losses) == list(range(13))
    trained_losses = {step: loss for step, loss in losses.items() if step > 0}
    best = min(trained_losses, key=lambda step: trained_losses[step])
    assert best < 12, "the training must overshoot for this test to be meaningful"
    assert (run.result.best_step, run.result.best_validation_loss) == (best, losses[best])
    assert run.result.first_validation_loss == losses[0]
    reloaded = load_adapter(load_base(str(models.folder()), CPU), tmp_path)
    for model in (reloaded, run.prepared.model):
        scores = score_rows(model, run.prepared.rows.validation, stock_nll(model, 0), 3)
        found = sum(s.nll for s in scores) / sum(s.n_tokens for s in scores)
        assert found == pytest.approx(losses[best], rel=1e-6)


def test_the_last_step_can_be_kept(models: Models, tmp_path: Path) -> None:
    """`--load_best_model_at_end False` keeps the last step, and the result records it."""
    settings = brisk(
        models.folder(),
        learning_rate=5e-2,
        max_steps=5,
        save_steps=2,
        early_stopping_patience=None,
        load_best_model_at_end=False,
    )
    run = run_training(settings, tmp_path, rows(8), rows(20)[12:])
    assert run.result.best_step == run.result.steps == 5
    kept = load_file(tmp_path / WEIGHTS)
    last = load_file(tmp_path / "checkpoint-5" / WEIGHTS)
    assert kept.keys() == last.keys()
    assert all(torch.equal(kept[name], last[name]) for name in kept)


def test_the_last_step_is_validated_too(models: Models, tmp_path: Path) -> None:
    """The last step is validated once, even if `save_steps` does not divide it."""
    settings = brisk(models.folder(), max_steps=5, save_steps=2, early_stopping_patience=None)
    run_training(settings, tmp_path, rows(8), rows(20)[12:])
    rows_ = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows_ if "eval_loss" in row] == [0, 2, 4, 5]


def test_training_stops_early(models: Models, tmp_path: Path) -> None:
    """Training ends after `early_stopping_patience` validations without improvement."""
    settings = brisk(
        models.folder(), learning_rate=0.2, max_steps=40, save_steps=1, early_stopping_patience=2
    )
    run = run_training(settings, tmp_path, rows(8), rows(20)[12:])
    assert run.result.stopped_early
    assert run.result.steps == run.result.best_step + 2


def test_validation_loss_does_not_depend_on_its_batch_size(models: Models, tmp_path: Path) -> None:
    """The validation loss is nats over tokens of all rows, not a mean of batch means."""
    losses = []
    for size in (1, 3, 8):
        settings = brisk(models.folder(), max_steps=1, eval_batch_size=size)
        run = run_training(settings, tmp_path / str(size), rows(4), rows(20)[12:])
        losses.append(run.result.first_validation_loss)
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)


def test_no_telemetry_is_sent(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training reports nothing to the Hub, whatever the environment says."""
    monkeypatch.delenv("CI", raising=False)  # there TRL sends nothing anyway
    sent: list[object] = []
    monkeypatch.setattr(base_trainer, "send_telemetry", lambda *args, **named: sent.append(args))
    run_training(brisk(models.folder(), max_steps=1), tmp_path, rows(4))
    assert sent == []
