"""Merge an adapter in a whole model, for adapters that are more than LoRA on linear layers."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from finetuning_exam.model.adapter import load_adapter
from finetuning_exam.model.device import choose_compute
from finetuning_exam.model.load import load_base


def write_merged(name: str, adapter: Path, place: Path) -> None:
    """Write base and adapter, merged in float32, as an ordinary model folder.

    Raises:
        ModelError, AdapterError: the base or the adapter cannot be used.
    """
    base = load_base(name, choose_compute("cpu", "float32"))
    config = base.model.config.get_text_config()
    tied = bool(getattr(config, "tie_word_embeddings", False))
    if tied:
        _untie(base.model)
    tuned = load_adapter(base, adapter)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merged: PreTrainedModel = tuned.merge_and_unload()
    head, embedding = merged.get_output_embeddings(), merged.get_input_embeddings()
    if tied:
        is_same = torch.equal(head.weight, embedding.weight)
        if is_same:
            head.weight = embedding.weight
        # PEFT changes the config when it merges.
        config.tie_word_embeddings = merged.config.tie_word_embeddings = is_same
    merged.save_pretrained(place)


def _untie(model: PreTrainedModel) -> None:
    """Give the head its own copy of the embedding, so that an update of one leaves the other."""
    head = model.get_output_embeddings()
    head.weight = nn.Parameter(head.weight.detach().clone())
