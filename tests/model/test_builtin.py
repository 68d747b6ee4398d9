"""Specification of the built-in base: small, real, and loaded by plain Transformers."""

from __future__ import annotations

import math

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetuning_exam.durable import file_sha256
from finetuning_exam.model.folder import find_model_folder

FOLDER = find_model_folder("builtin")
WEIGHTS = FOLDER / "model.safetensors"


def test_it_is_small_and_has_a_card() -> None:
    """The weights take at most 15 MB, and the card names sources, licences and limits."""
    assert WEIGHTS.stat().st_size <= 15_000_000
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(name in card for name in ("git-man", "wordnet-base", "xz -9", "licence"))


def test_it_is_the_model_that_the_card_describes() -> None:
    """The card names the hash of the weights."""
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"`{file_sha256(WEIGHTS)}`" in card


def test_its_texts_end() -> None:
    """Sampled freely, some of its texts end within 300 tokens, as in its corpus."""
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    torch.manual_seed(0)
    start = torch.zeros(16, 1, dtype=torch.int64)
    with torch.inference_mode():
        ids = model.generate(
            start,
            attention_mask=torch.ones_like(start),
            max_new_tokens=300,
            do_sample=True,
            eos_token_id=0,
            pad_token_id=1,
        )
    n_ended = int((ids[:, 1:] == 0).any(dim=1).sum())
    assert 1 <= n_ended < len(start)


def test_plain_transformers_loads_it() -> None:
    """The Auto classes load a Llama with 4,096 entries, an end token and no chat template."""
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert len(tokenizer) == model.config.vocab_size == 4096
    assert tokenizer.eos_token_id == 0
    assert tokenizer.chat_template is None


def test_it_is_pretrained() -> None:
    """It finds English about commands far more likely than an untrained model does."""
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    ids = tokenizer("Print the name of each file in the directory.", return_tensors="pt").input_ids
    with torch.inference_mode():
        loss = model(ids, labels=ids).loss.item()
    assert loss < math.log(4096) - 3
