"""Repeated and resumed trainings give the same bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from tiny import Models, brisk, rows, run_training
from trainings import BY_BOTH, FastPieces

from finetuning_exam.settings import TrainSettings
from finetuning_exam.training.progress import OnProgress, Progress, read_metrics

WEIGHTS = "adapter_model.safetensors"


class _Killed(Exception):
    """Simulates whatever ends a process in the middle of a training."""


def _kill_at(step: int) -> OnProgress:
    """Return a progress callback that ends the training at a step."""

    def on_progress(progress: Progress) -> None:
        if progress.step >= step:
            raise _Killed

    return on_progress


def _sha256(folder: Path) -> str:
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


@BY_BOTH
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_the_same_seed_gives_the_same_bytes(
    models: Models, tmp_path: Path, dropout: float, fast_path: FastPieces
) -> None:
    """Runs with the same seed write the same adapter, byte for byte; another seed does not."""
    hashes = []
    for number, seed in enumerate((7, 7, 8)):
        settings = brisk(
            models.folder(),
            seed=seed,
            lora_dropout=dropout,
            max_steps=3,
            fast_path=fast_path,
            micro_batch_tokens=80,
        )
        folder = tmp_path / str(number)
        run_training(settings, folder, rows(12))
        torch.rand(number + 1)  # the global generator must have no influence
        hashes.append(_sha256(folder))
    assert hashes[0] == hashes[1]
    assert hashes[2] != hashes[0]


@BY_BOTH
def test_dropout_affects_training(models: Models, tmp_path: Path, fast_path: FastPieces) -> None:
    """`--lora_dropout` changes the trained adapter."""
    for dropout in (0.0, 0.5):
        settings = brisk(models.folder(), lora_dropout=dropout, max_steps=2, fast_path=fast_path)
        run_training(settings, tmp_path / str(dropout), rows(8))
    assert _sha256(tmp_path / "0.0") != _sha256(tmp_path / "0.5")


@BY_BOTH
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_resumed_training_gives_the_same_bytes(
    models: Models, tmp_path: Path, dropout: float, fast_path: FastPieces
) -> None:
    """A training that is killed after its second checkpoint and resumed writes the same bytes as
    an unbroken one, across an epoch boundary, with accumulation and dropout.
    """
    settings = brisk(
        models.folder(),
        lora_dropout=dropout,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        fast_path=fast_path,
        micro_batch_tokens=80,
        lr_scheduler_type="cosine",
        max_steps=9,
        save_steps=2,
        early_stopping_patience=None,
    )
    data, validation = rows(14), rows(20)[14:]
    whole = run_training(settings, tmp_path / "whole", data, validation)
    with pytest.raises(_Killed):
        run_training(settings, tmp_path / "cut", data, validation, on_progress=_kill_at(5))
    steps: list[int] = []
    resumed = run_training(
        settings,
        tmp_path / "cut",
        data,
        validation,
        on_progress=lambda progress: steps.append(progress.step),
        checkpoint=tmp_path / "cut" / "checkpoint-4",
    )
    assert min(steps) == 4, "the resumed training must not start over"
    assert resumed.result.steps == 9
    assert _sha256(tmp_path / "cut") == _sha256(tmp_path / "whole")
    assert resumed.result.best_step == whole.result.best_step
    assert resumed.result.best_validation_loss == whole.result.best_validation_loss


def _killed_and_resumed(
    models: Models, folder: Path, settings: TrainSettings, killed_at: int, checkpoint: int
) -> tuple[int, tuple[dict[str, float], ...]]:
    """Kill and resume a training; return its steps and the rows of its metrics file."""
    with pytest.raises(_Killed):
        run_training(settings, folder, rows(8), rows(20)[12:], on_progress=_kill_at(killed_at))
    path = folder / f"checkpoint-{checkpoint}"
    run = run_training(settings, folder, rows(8), rows(20)[12:], checkpoint=path)
    return run.result.steps, read_metrics(folder / "metrics.jsonl")


def test_patience_survives_a_resume(models: Models, tmp_path: Path) -> None:
    """A resumed training stops early at the same step as an unbroken one."""
    settings = brisk(
        models.folder(), learning_rate=0.2, max_steps=40, save_steps=1, early_stopping_patience=3
    )
    whole = run_training(settings, tmp_path / "whole", rows(8), rows(20)[12:]).result
    kept = whole.steps - 1  # this checkpoint has seen two validations without improvement
    steps, _ = _killed_and_resumed(models, tmp_path / "cut", settings, whole.steps, kept)
    assert steps == whole.steps


def test_a_resumed_training_logs_each_step_once(models: Models, tmp_path: Path) -> None:
    """After a resume, metrics.jsonl has exactly one row per logged step and per validation."""
    settings = brisk(models.folder(), max_steps=6, save_steps=2, early_stopping_patience=None)
    _, metrics = _killed_and_resumed(models, tmp_path, settings, 6, 4)
    assert [row["step"] for row in metrics if "loss" in row] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in metrics if "eval_loss" in row] == [0, 2, 4, 6]


def test_a_resumed_training_continues_the_token_count(models: Models, tmp_path: Path) -> None:
    """The token count in metrics.jsonl never decreases, not even across a resume."""
    settings = brisk(models.folder(), max_steps=6, save_steps=2, early_stopping_patience=None)
    _, metrics = _killed_and_resumed(models, tmp_path, settings, 6, 4)
    tokens = [row["tokens"] for row in metrics if "tokens" in row]
    assert tokens == sorted(tokens)
