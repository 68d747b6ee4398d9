"""Specification of how a training ends whose loss or weights are no longer finite."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tiny import Models, brisk, checkpoints_in, ignore, rows, run_training
from trainings import BY_BOTH

from finetuning_exam.data.split import Split
from finetuning_exam.errors import DivergedError
from finetuning_exam.training.run import prepare, train

WEIGHTS = "adapter_model.safetensors"


@BY_BOTH
def test_a_loss_that_is_not_a_number_ends_the_run(
    models: Models, tmp_path: Path, fast_path: tuple[str, ...]
) -> None:
    """A NaN loss raises DivergedError with exit code 5 at its step and saves no adapter."""
    settings = brisk(models.folder(), output_dir=str(tmp_path), fast_path=fast_path)
    prepared = prepare(settings, Split(rows(8), (), ()))
    with torch.no_grad():
        prepared.base.model.get_output_embeddings().weight[7, 7] = math.nan
    with pytest.raises(DivergedError) as caught:
        train(prepared, checkpoints_in(tmp_path), ignore)
    assert caught.value.exit_code == 5
    assert str(caught.value) == (
        "The training loss at step 1 is nan. "
        "Rows of this step: rows.jsonl:1, rows.jsonl:4, rows.jsonl:7, rows.jsonl:8. "
        "Lower --learning_rate, or look for broken rows."
    )
    assert not (tmp_path / WEIGHTS).exists()


@BY_BOTH
def test_a_learning_rate_out_of_all_reason_diverges(
    models: Models, tmp_path: Path, fast_path: tuple[str, ...]
) -> None:
    """Weights that overflow in a step are noticed in the next one."""
    settings = brisk(models.folder(), learning_rate=1e30, max_steps=4, fast_path=fast_path)
    with pytest.raises(DivergedError, match=r"at step 2 is nan"):
        run_training(settings, tmp_path, rows(16))


@BY_BOTH
@pytest.mark.parametrize("n_validation", [0, 4])
def test_divergence_in_the_last_step_is_noticed(
    models: Models, tmp_path: Path, n_validation: int, fast_path: tuple[str, ...]
) -> None:
    """Weights that overflow in the last step, after which no loss is taken, raise too."""
    settings = brisk(models.folder(), learning_rate=1e30, max_steps=1, fast_path=fast_path)
    with pytest.raises(DivergedError):
        run_training(settings, tmp_path, rows(8), rows(12)[8 : 8 + n_validation])
