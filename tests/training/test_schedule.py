"""The learning rate of every step: a warm-up has no step that changes nothing."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file
from tiny import Models, brisk, rows, run_training
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from trainings import BY_BOTH, FastPieces, plan_of
from transformers import get_scheduler

from finetuning_exam.settings import Scheduler, TrainSettings
from finetuning_exam.training.trl import without_zero_step

PEAK = 0.25


def _rates(scheduler: LRScheduler, steps: int) -> list[float]:
    found: list[float] = []
    for _ in range(steps):
        rates = {group["lr"] for group in scheduler.optimizer.param_groups}
        assert len(rates) == 1
        found.append(rates.pop())
        scheduler.optimizer.step()
        scheduler.step()
    return found


def _stock(name: str, warmup: int, total: int) -> LambdaLR:
    groups = [{"params": [torch.zeros(1, requires_grad=True)]} for _ in range(2)]
    optimizer = torch.optim.AdamW(groups, lr=PEAK)
    stock = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=total)
    assert isinstance(stock, LambdaLR)
    return stock


@pytest.mark.parametrize("ratio", [0.0, 0.01, 0.03, 0.5, 1.0])
@pytest.mark.parametrize("total", [1, 2, 3, 10, 100])
@pytest.mark.parametrize("name", get_args(Scheduler))
def test_no_step_has_a_rate_of_zero(name: Scheduler, total: int, ratio: float) -> None:
    """For every schedule, length and warm-up the rate is positive at every step, rises to its
    peak, and is what Transformers has from the end of the warm-up on.
    """
    settings = TrainSettings(max_steps=total, warmup_ratio=ratio, lr_scheduler_type=name)
    warmup = plan_of(settings, 100).warmup_steps
    found = _rates(without_zero_step(_stock(name, warmup, total), warmup), total)
    stock = _rates(_stock(name, warmup, total), total)
    assert min(found) > 0
    assert all(one < other for one, other in pairwise(found[: warmup + 1]))
    assert max(found) == found[warmup] == PEAK
    assert found[warmup:] == stock[warmup:]
    assert (stock[0] == 0) == (warmup > 0)


@BY_BOTH
@pytest.mark.parametrize("ratio", [0.03, 1.0])
def test_the_first_step_of_a_run_changes_the_adapter(
    models: Models, tmp_path: Path, ratio: float, fast_path: FastPieces
) -> None:
    """After one step of a run with a warm-up no B matrix is zero, by either path."""
    settings = brisk(
        models.folder(),
        lr_scheduler_type="cosine",
        warmup_ratio=ratio,
        max_steps=2,
        save_steps=1,
        fast_path=fast_path,
    )
    run_training(settings, tmp_path, rows(8))
    first = load_file(tmp_path / "checkpoint-1" / "adapter_model.safetensors")
    assert all(bool(it.any()) for name, it in first.items() if "lora_B" in name)
