"""The fast path changes how a run is computed, but not its results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tiny import Models, Run, brisk, rows, run_training
from torch.testing import assert_close

from finetuning_exam.training.progress import read_metrics

NAMES = ("loss", "eval_loss", "grad_norm", "learning_rate", "tokens")
"""Logged values of a step that must not depend on how it was computed."""


def _run(models: Models, folder: Path, architecture: str, changes: Mapping[str, object]) -> Run:
    """Train five steps of eight rows over two epochs, with validation on separate rows."""
    settings = brisk(
        models.folder(architecture),
        max_steps=5,
        learning_rate=1e-3,
        gradient_accumulation_steps=2,
        save_steps=2,
        early_stopping_patience=None,
        **changes,
    )
    return run_training(settings, folder, rows(18), rows(26)[18:])


def _assert_same_run(found: Run, expected: Run) -> None:
    for name in ("steps", "best_step", "tokens", "stopped_early"):
        assert getattr(found.result, name) == getattr(expected.result, name), name
    logged, other = (read_metrics(run.folder / "metrics.jsonl") for run in (found, expected))
    assert [row["step"] for row in logged] == [row["step"] for row in other]
    for ours, theirs in zip(logged, other, strict=True):
        assert ours.keys() == theirs.keys()
        for name in set(NAMES) & theirs.keys():
            assert ours[name] == pytest.approx(theirs[name], rel=2e-5), name
    adapter, expected_adapter = (
        load_file(run.folder / "adapter_model.safetensors") for run in (found, expected)
    )
    assert adapter.keys() == expected_adapter.keys()
    for name, tensor in expected_adapter.items():
        assert_close(adapter[name], tensor, rtol=1e-4, atol=2e-5, msg=name)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="all"),
        pytest.param({"micro_batch_tokens": 90}, id="small parts"),
        pytest.param({"fast_path": ("rows",)}, id="rows alone"),
        pytest.param({"gradient_checkpointing": True}, id="checkpointing"),
        pytest.param(
            {"gradient_checkpointing": True, "fast_path": ("none",)}, id="stock checkpointing"
        ),
    ],
)
def test_a_run_does_not_depend_on_the_computation(
    models: Models, tmp_path: Path, changes: dict[str, object]
) -> None:
    """With all or some pieces of the fast path, in parts of any size, and with gradient
    checkpointing, a run logs the same numbers, keeps the same step and saves the same adapter.
    """
    expected = _run(models, tmp_path / "stock", "llama", {"fast_path": ("none",)})
    found = _run(models, tmp_path / "found", "llama", changes)
    _assert_same_run(found, expected)


@pytest.mark.parametrize("architecture", ["qwen3", "gemma3", "granite", "smollm3", "phi", "bloom"])
def test_other_architectures_do_not_depend_on_it_either(
    models: Models, tmp_path: Path, architecture: str
) -> None:
    """The same holds for architectures with the full fast path, only its loss, or only its rows."""
    expected = _run(models, tmp_path / "stock", architecture, {"fast_path": ("none",)})
    found = _run(models, tmp_path / "fast", architecture, {"micro_batch_tokens": 90})
    assert found.prepared.fast.pieces > expected.prepared.fast.pieces == frozenset()
    _assert_same_run(found, expected)
