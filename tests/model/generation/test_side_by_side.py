"""Base and tuned rows in one pass: each row is its own model's, to the bit for the base."""

from __future__ import annotations

import math

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tiny import ARCHITECTURES, adapted
from transformers import AutoModelForCausalLM

from finetuning_exam.model.generation.side_by_side import (
    RowsNotApart,
    adapter_on_first_rows,
    can_mix,
)

IDS = torch.tensor([[5, 9, 40, 7], [8, 8, 301, 2], [77, 12, 13, 14], [5, 9, 40, 8]])
MERGES_ROWS = ("opt",)
"""Architectures that flatten rows and positions into one dimension before a module."""


def _logits(model: PeftModel, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=ids).logits
    return logits


def _mixed(model: PeftModel, n_tuned: int, ids: torch.Tensor = IDS) -> torch.Tensor:
    with adapter_on_first_rows(model) as rows:
        rows.announce(n_tuned, *IDS.shape)
        return _logits(model, ids)


@pytest.mark.parametrize("n_tuned", [0, 1, 3, 4])
@pytest.mark.parametrize("architecture", [it for it in ARCHITECTURES if it not in MERGES_ROWS])
def test_the_first_rows_are_tuned_and_the_others_base(architecture: str, n_tuned: int) -> None:
    """In a mixed pass the first rows have the tuned model's logits, the others exactly the base's,
    for every architecture whose modules see rows.
    """
    model = adapted(architecture).eval()
    tuned = _logits(model)
    with model.disable_adapter():
        base = _logits(model)
    assert not torch.allclose(base, tuned, atol=1e-2)
    mixed = _mixed(model, n_tuned)
    torch.testing.assert_close(mixed[:n_tuned], tuned[:n_tuned], atol=1e-5, rtol=1e-5)
    assert torch.equal(mixed[n_tuned:], base[n_tuned:])


@pytest.mark.parametrize("architecture", MERGES_ROWS)
def test_rows_that_are_merged_are_noticed(architecture: str) -> None:
    """Where a module sees rows and positions as one dimension, the pass is refused."""
    with pytest.raises(RowsNotApart):
        _mixed(adapted(architecture).eval(), 2)


def test_the_model_is_left_as_it_was() -> None:
    """Afterwards the adapter works on every row again, even if the pass failed."""
    model = adapted().eval()
    tuned = _logits(model)
    _mixed(model, 1)
    assert torch.equal(_logits(model), tuned)
    with pytest.raises(RowsNotApart):  # announced is a pass of another shape
        _mixed(model, 1, IDS[:3])
    assert torch.equal(_logits(model), tuned)


def test_an_adapter_of_nan_does_not_reach_the_base() -> None:
    """A diverged adapter beside it leaves the base's rows as they are."""
    model = adapted().eval()
    with model.disable_adapter():
        base = _logits(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(math.nan)
    mixed = _mixed(model, 2)
    assert mixed[:2].isnan().any()
    assert torch.equal(mixed[2:], base[2:])


def test_a_base_in_bfloat16_has_its_adapter_in_float32() -> None:
    """The adapter's part is computed in the adapter's own format, as PEFT does."""
    model = adapted().eval()
    for name, parameter in model.named_parameters():
        if "lora_" not in name:
            parameter.data = parameter.data.bfloat16()
    tuned = _logits(model)
    with model.disable_adapter():
        base = _logits(model)
    mixed = _mixed(model, 2)
    assert torch.equal(mixed[:2], tuned[:2])
    assert torch.equal(mixed[2:], base[2:])


def _with(**changes: object) -> PeftModel:
    """A llama with an adapter of another kind."""
    base = AutoModelForCausalLM.from_config(ARCHITECTURES["llama"].config(attention_bias=True))
    settings: dict[str, object] = {"r": 4, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    return get_peft_model(base, LoraConfig(**(settings | changes)))


@pytest.mark.parametrize("changes", [{}, {"use_rslora": True}, {"lora_bias": True}])
def test_plain_lora_can_be_mixed(changes: dict[str, object]) -> None:
    """LoRA on linear modules, however it is scaled, with bias or without."""
    assert can_mix(_with(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"use_dora": True},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"modules_to_save": ["lm_head"]},
        {"trainable_token_indices": [1, 2]},
    ],
)
def test_what_is_more_than_plain_lora_cannot_be_mixed(changes: dict[str, object]) -> None:
    """DoRA, an adapted embedding, and whole modules or tokens that were trained too."""
    assert not can_mix(_with(**changes))


def test_a_merged_adapter_cannot_be_mixed() -> None:
    """Merged into the weights, the adapter is in every row."""
    model = _with()
    model.merge_adapter()
    assert not can_mix(model)
