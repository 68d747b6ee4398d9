"""Specification of repeated and resumed trainings: the same bytes come out."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from tiny import Models, brisk, rows, run_training
from trainings import BY_BOTH

from finetuning_exam.settings import TrainSettings
from finetuning_exam.training.progress import Progress, read_metrics

WEIGHTS = "adapter_model.safetensors"


class _Killed(Exception):
    """Stands for whatever ends a process in the middle of a training."""


def _kill_at(step: int) -> ProgressWatcher:
    return ProgressWatcher(step)


class ProgressWatcher:
    """Ends a training after a step, as a signal would."""

    def __init__(self, last_step: int) -> None:
        self._last_step = last_step

    def __call__(self, progress: Progress) -> None:
        """Take in a step."""
        if progress.step >= self._last_step:
            raise _Killed


def _sha256(folder: Path) -> str:
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


@BY_BOTH
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_the_same_seed_gives_the_same_bytes(
    models: Models, tmp_path: Path, dropout: float, fast_path: tuple[str, ...]
) -> None:
    """Two runs with one seed write the same adapter file, byte for byte; another seed another."""
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
        torch.rand(number + 1)  # the state of the global generator must not matter
        hashes.append(_sha256(folder))
    assert hashes[0] == hashes[1]
    assert hashes[2] != hashes[0]


@BY_BOTH
def test_dropout_takes_part_in_training(
    models: Models, tmp_path: Path, fast_path: tuple[str, ...]
) -> None:
    """`--lora_dropout` changes the adapter that comes out."""
    for dropout in (0.0, 0.5):
        settings = brisk(models.folder(), lora_dropout=dropout, max_steps=2, fast_path=fast_path)
        run_training(settings, tmp_path / str(dropout), rows(8))
    assert _sha256(tmp_path / "0.0") != _sha256(tmp_path / "0.5")


@BY_BOTH
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_resumed_training_ends_the_same(
    models: Models, tmp_path: Path, dropout: float, fast_path: tuple[str, ...]
) -> None:
    """A training killed after its second checkpoint and resumed writes the bytes of one that was
    not, across the border of an epoch, with accumulation and with dropout.
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
    assert min(steps) == 4, "the resumed training must not begin again"
    assert resumed.result.steps == 9
    assert _sha256(tmp_path / "cut") == _sha256(tmp_path / "whole")
    assert resumed.result.best_step == whole.result.best_step
    assert resumed.result.best_validation_loss == whole.result.best_validation_loss


def _killed_and_resumed(
    models: Models, folder: Path, settings: TrainSettings, killed_at: int, checkpoint: int
) -> tuple[int, tuple[dict[str, float], ...]]:
    """Steps of the resumed training, and what its metrics file holds."""
    with pytest.raises(_Killed):
        run_training(settings, folder, rows(8), rows(20)[12:], on_progress=_kill_at(killed_at))
    path = folder / f"checkpoint-{checkpoint}"
    run = run_training(settings, folder, rows(8), rows(20)[12:], checkpoint=path)
    return run.result.steps, read_metrics(folder / "metrics.jsonl")


def test_patience_survives_a_resume(models: Models, tmp_path: Path) -> None:
    """A resumed training counts on: it stops early at the step where an unbroken one stops."""
    settings = brisk(
        models.folder(), learning_rate=0.2, max_steps=40, save_steps=1, early_stopping_patience=3
    )
    whole = run_training(settings, tmp_path / "whole", rows(8), rows(20)[12:]).result
    kept = whole.steps - 1  # two validations without a better one are in this checkpoint
    steps, _ = _killed_and_resumed(models, tmp_path / "cut", settings, whole.steps, kept)
    assert steps == whole.steps


def test_a_resumed_training_logs_each_step_once(models: Models, tmp_path: Path) -> None:
    """After a resume metrics.jsonl still has one row for each logged step and each validation."""
    settings = brisk(models.folder(), max_steps=6, save_steps=2, early_stopping_patience=None)
    _, metrics = _killed_and_resumed(models, tmp_path, settings, 6, 4)
    assert [row["step"] for row in metrics if "loss" in row] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in metrics if "eval_loss" in row] == [0, 2, 4, 6]


def test_a_resumed_training_counts_its_tokens_on(models: Models, tmp_path: Path) -> None:
    """The tokens in metrics.jsonl never fall, not even over a resume."""
    settings = brisk(models.folder(), max_steps=6, save_steps=2, early_stopping_patience=None)
    _, metrics = _killed_and_resumed(models, tmp_path, settings, 6, 4)
    tokens = [row["tokens"] for row in metrics if "tokens" in row]
    assert tokens == sorted(tokens)
