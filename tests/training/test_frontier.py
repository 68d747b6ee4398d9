"""Specification of adapter scales: what is learned against what is lost, and which one is kept."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import BRISK, Models, adapted, rows, write_rows

from finetuning_exam.api.train import TrainedRun, train
from finetuning_exam.evaluation.general import read_general_text, read_validation_text
from finetuning_exam.model.adapter import adapter_tensors, scaled_adapter
from finetuning_exam.model.folder import ADAPTER_WEIGHTS
from finetuning_exam.model.mode import on_side
from finetuning_exam.model.score import Score
from finetuning_exam.training import frontier
from finetuning_exam.training.frontier import SCALES, Scores, best_scale


def _losses(mean: float, spread: float = 0.0) -> tuple[Score, ...]:
    """Forty rows of ten tokens with this mean loss, every second one above it by `spread`."""
    return tuple(
        Score(10 * (mean + (spread if index % 2 else -spread)), 10, 40) for index in range(40)
    )


def _scores(validation: list[float], general: list[float]) -> dict[float, Scores]:
    return {
        scale: Scores(_losses(learned), _losses(lost))
        for scale, learned, lost in zip(SCALES, validation, general, strict=True)
    }


@pytest.mark.parametrize(
    ("validation", "general", "expected"),
    [
        pytest.param([4, 3.2, 2.6, 2.2, 2], [3, 3.1, 3.3, 3.6, 4], 1.0, id="each scale loses gain"),
        pytest.param([4, 3, 2.3, 2.02, 2], [3, 3.1, 3.2, 3.4, 4], 0.75, id="less lost, as much"),
        pytest.param([4, 3, 2.03, 2.01, 2], [3, 3.1, 3.2, 3.4, 4], 0.5, id="the least lost"),
        pytest.param([4, 3, 2.3, 2.02, 2], [3, 3.1, 3.2, 3.6, 4], 1.0, id="not by half"),
        pytest.param(
            [4, 3, 2.3, 2.02, 2], [3, 3.001, 3.01, 3.02, 3.04], 1.0, id="nothing serious is lost"
        ),
        pytest.param([4, 3, 2.2, 1.9, 2], [3, 3.0, 3.0, 3.0, 3.0], 0.75, id="it learned too much"),
        pytest.param([4, 3, 2.2, 1.9, 2], [3, 3.1, 3.1, 3.1, 3.0], 1.0, id="but it lost more"),
        pytest.param([4, 4.5, 5, 5.5, 6], [3, 3.1, 3.2, 3.4, 4], 0.25, id="it only got worse"),
        pytest.param([4, 4, 4, 4, 4], [3, 3, 3, 3, 3], 1.0, id="it does nothing"),
    ],
)
def test_a_smaller_scale_is_kept_only_if_it_is_clearly_better(
    validation: list[float], general: list[float], expected: float
) -> None:
    """The rule of `best_scale`, by losses at scales 0 (the base), 0.25, 0.5, 0.75 and 1."""
    assert best_scale(_scores(validation, general), seed=1) == expected


def test_a_difference_that_may_be_chance_changes_no_scale() -> None:
    """Less is lost on average, but not certainly."""
    scores = _scores([4, 3, 2.3, 2.02, 2], [3, 3.1, 3.2, 3.4, 4])
    assert best_scale(scores, seed=1) == 0.75
    noisy = replace(scores[0.75], general=_losses(3.4, spread=3))
    assert best_scale({**scores, 0.75: noisy}, seed=1) == 1.0


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma3"])
def test_a_scaled_adapter_is_scaled_and_restored(architecture: str) -> None:
    """Scale 0 is the base, half is halfway in the adapter's weights, and nothing is left of it."""
    model = adapted(architecture).eval()
    before = adapter_tensors(model)
    ids = torch.tensor([[3, 5, 7, 11, 13]])
    with torch.no_grad():
        whole = model(ids).logits
        with on_side(model, "base"):
            base = model(ids).logits
        with scaled_adapter(model, 0.0):
            assert torch.equal(model(ids).logits, base)
        with scaled_adapter(model, 0.5):
            half = model(ids).logits
        assert torch.equal(model(ids).logits, whole)
    assert not torch.allclose(half, whole)
    assert not torch.allclose(half, base)
    after = adapter_tensors(model)
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def _train(model: Path, folder: Path, **others: Any) -> TrainedRun:
    if not (folder / "train.jsonl").exists():
        folder.mkdir(exist_ok=True)
        write_rows(folder / "train.jsonl", rows(60))
    settings = replace(
        BRISK,
        data=(str(folder / "train.jsonl"),),
        model_name_or_path=str(model),
        output_dir=str(folder / "run"),
        device="cpu",
        max_steps=6,
        save_steps=3,
        learning_rate=1e-2,
        **{"adapter_scale": "auto", **others},
    )
    return train(settings)


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "run" / ADAPTER_WEIGHTS)


def test_a_number_scales_what_is_saved_and_examined(models: Models, tmp_path: Path) -> None:
    """The adapter on disk is the scaled one, so that every runtime answers as the exam did."""
    whole = _train(models.folder(), tmp_path / "whole", adapter_scale=1.0)
    half = _train(models.folder(), tmp_path / "half", adapter_scale=0.5)
    assert (half.record.result.adapter_scale, half.record.result.frontier) == (0.5, ())
    scaled = _weights(tmp_path / "half")
    for name, value in _weights(tmp_path / "whole").items():
        expected = value * 0.5 if "lora_B" in name else value
        assert torch.equal(scaled[name], expected)
    losses = [run.exam.overall.nll_per_token.tuned for run in (whole, half)]
    assert losses[0] < losses[1] < whole.exam.overall.nll_per_token.base


def test_the_frontier_is_measured_and_recorded(models: Models, tmp_path: Path) -> None:
    """By default, run.json has the losses at each scale: those of the base at 0, and of the kept
    step at 1.
    """
    done = _train(models.folder(), tmp_path)
    result = done.record.result
    assert [point.scale for point in result.frontier] == list(SCALES)
    assert result.frontier[0].validation_loss == pytest.approx(result.first_validation_loss)
    assert result.frontier[-1].validation_loss == pytest.approx(result.best_validation_loss)
    assert result.adapter_scale == 1.0
    assert all(math.isfinite(point.general_loss) for point in result.frontier)


def test_the_choice_is_kept_by_a_resumed_run(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint has the whole adapter; scaling it again gives the same bytes."""
    monkeypatch.setattr(frontier, "best_scale", lambda scores, seed: 0.25)
    done = _train(models.folder(), tmp_path)
    assert done.record.result.adapter_scale == 0.25
    before = (tmp_path / "run" / ADAPTER_WEIGHTS).read_bytes()
    shutil.rmtree(tmp_path / "run" / "checkpoint-6")
    (tmp_path / "run" / ADAPTER_WEIGHTS).unlink()
    again = _train(models.folder(), tmp_path, resume_from_checkpoint="latest")
    assert (tmp_path / "run" / ADAPTER_WEIGHTS).read_bytes() == before
    assert again.record.result.frontier == done.record.result.frontier


def test_without_validation_rows_nothing_is_measured(models: Models, tmp_path: Path) -> None:
    """A file that is too small for validation rows has no frontier, and the whole adapter."""
    folder = tmp_path / "small"
    folder.mkdir()
    write_rows(folder / "train.jsonl", rows(12))
    result = _train(models.folder(), folder).record.result
    assert (result.adapter_scale, result.frontier) == (1.0, ())


def test_the_exam_has_another_general_text() -> None:
    """A scale is chosen by text that the exam does not use."""
    assert not set(read_validation_text()) & set(read_general_text(None))
