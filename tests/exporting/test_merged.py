"""Specification of merged folders: what plain Transformers loads is base and adapter."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from exports import Exports
from peft import LoraConfig, PeftModel, get_peft_model
from tiny import ARCHITECTURES
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetuning_exam.durable import manifest_faults, read_json
from finetuning_exam.exporting.merged import write_merged_folder
from finetuning_exam.exporting.source import Source, open_source
from finetuning_exam.model.weights import INDEX, weight_files

IDS = torch.tensor([[5, 17, 300, 44, 260, 9, 80, 81]])


def _logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model.eval()(input_ids=IDS).logits
    return found


def _tuned(base: Path, adapter: Path) -> PeftModel:
    whole = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return PeftModel.from_pretrained(whole, str(adapter))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_merged_folder_has_the_logits_of_base_and_adapter(
    architecture: str, exports: Exports, out: Path
) -> None:
    """Loaded by plain Transformers, the logits are those of the unmerged model to 1e-4."""
    base = exports.base(architecture)
    exports.export(base, "merged", out, verify=False)
    found = _logits(AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32))
    expected = _logits(_tuned(base, exports.adapter(base)))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    before = _logits(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32))
    assert float((expected - before).abs().max()) > 1e-2, "the adapter does nothing"


VARIANTS: dict[str, dict[str, Any]] = {
    "rslora": {"use_rslora": True},
    "patterns": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 5, "0.mlp.up": 9}},
    "dora": {"use_dora": True},
    "head": {"target_modules": ["q_proj", "lm_head"]},
    "embedding": {"target_modules": ["q_proj", "embed_tokens"]},
    "saved module": {"modules_to_save": ["lm_head"]},
    "bias": {"bias": "lora_only"},
}


@pytest.mark.parametrize("tied", [False, True], ids=["own head", "tied head"])
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_every_kind_of_adapter_is_merged(
    variant: dict[str, Any], tied: bool, exports: Exports, out: Path
) -> None:
    """Whatever PEFT adds to a model is in the merged folder; a tied head that the adapter touched
    has its own weights there.
    """
    base = exports.base(tie_word_embeddings=tied)
    whole = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config: dict[str, Any] = {"r": 4, "lora_alpha": 8} | variant
    config.setdefault("target_modules", ["q_proj", "down_proj"])
    torch.manual_seed(0)
    tuned = get_peft_model(whole, LoraConfig(task_type="CAUSAL_LM", **config))
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora" in name or "modules_to_save" in name:
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
    adapter = out.with_name("adapter")
    tuned.save_pretrained(adapter, save_embedding_layers=False)
    expected = _logits(_tuned(base, adapter))
    exports.export(base, "merged", out, verify=False, adapter_name_or_path=str(adapter))
    merged = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    torch.testing.assert_close(_logits(merged), expected, rtol=0, atol=1e-4)
    touched = {"lm_head", "embed_tokens"} & set(config["target_modules"])
    is_touched = bool(touched) or "modules_to_save" in config
    assert merged.config.tie_word_embeddings == (tied and not is_touched)


def _source(exports: Exports, base: Path, **more: Any) -> Source:
    return open_source(exports.settings(base, "merged", Path("unused"), **more))


def test_a_large_model_is_sharded(exports: Exports, out: Path) -> None:
    """Shards have at most the size that is asked for, and an index that Transformers reads."""
    base = exports.base()
    source = _source(exports, base)
    out.mkdir()
    with source.weights(out.parent) as weights:
        write_merged_folder(source, weights, "auto", out, shard_bytes=60_000)
    shards = weight_files(out, str(out)).loaded
    assert len(shards) > 2
    limit = 60_000 + 5_000  # with the header; a tensor that is larger has a file of its own
    largest = max(torch.Size(it.shape).numel() * 4 for it in _parameters(out))
    assert all(it.stat().st_size < max(limit, largest + 5_000) for it in shards)
    assert read_json(out / INDEX)["metadata"] == {
        "total_size": sum(torch.Size(it.shape).numel() * 4 for it in _parameters(out))
    }
    expected = _logits(_tuned(base, exports.adapter(base)))
    found = _logits(AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def _parameters(folder: Path) -> list[torch.Tensor]:
    return [it.detach() for it in AutoModelForCausalLM.from_pretrained(folder).parameters()]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_number_format_is_that_of_the_base_or_as_given(
    dtype: str, exports: Exports, out: Path
) -> None:
    """Config and tensors name the same format; every fourth byte decides what a file weighs."""
    base = exports.base()
    exports.export(base, "merged", out, verify=False, dtype=dtype)
    assert read_json(out / "config.json")["dtype"] == dtype
    assert {it.dtype for it in _parameters(out)} == {getattr(torch, dtype)}
    assert manifest_faults(out, ("config.json", "model.safetensors", "README.md")) == ()


def test_the_end_tokens_of_training_end_an_answer(exports: Exports, out: Path) -> None:
    """config.json and generation_config.json name the trained end token, and greedy decoding."""
    base = exports.base(eos_token_id=9)
    exports.export(base, "merged", out, verify=False)
    generation = read_json(out / "generation_config.json")
    assert generation["eos_token_id"] == read_json(out / "config.json")["eos_token_id"] == [0, 9]
    assert generation["do_sample"] is False


def test_a_plain_run_of_an_instruct_base_does_not_keep_its_chat_template(
    exports: Exports, out: Path
) -> None:
    """The exported tokenizer renders the plain template that training used."""
    base = exports.base()
    exports.export(base, "merged", out, verify=False, template="plain")
    tokenizer = AutoTokenizer.from_pretrained(out)
    asked = [{"role": "user", "content": "Why?"}]
    found = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert found == "### Instruction:\nWhy?\n\n### Response:\n"
    source = _source(exports, base, template="plain")
    assert replace(source, chat_template=None).encoder.template == "plain"


def test_system_texts_are_folded_as_in_training(exports: Exports, out: Path) -> None:
    """The exported template puts them before the first question, and so it is verified."""
    base = exports.base()
    found = exports.export(base, "merged", out, system_turns="fold")
    assert found.faults == ()
    tokenizer = AutoTokenizer.from_pretrained(out)
    system = {"role": "system", "content": "Be brief."}
    texts = [
        tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        for turns in (
            [system, {"role": "user", "content": "Why?"}],
            [{"role": "user", "content": "Be brief.\n\nWhy?"}],
        )
    ]
    assert texts[0] == texts[1]


def test_the_card_says_what_was_proven(exports: Exports, out: Path) -> None:
    """README.md and export.json have the checks; without verification they say that it was none."""
    base = exports.base()
    exports.export(base, "merged", out)
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "| likelihood |" in card
    assert "transformers chat path/to/this/folder" in card
    content = json.loads((out / "export.json").read_text(encoding="utf-8"))
    assert content["proof"] == "the same model"
    assert content["verification"]["faults"] == []
    exports.export(base, "merged", out, verify=False, overwrite=True)
    assert "Nothing was proven" in (out / "README.md").read_text(encoding="utf-8")
    assert "nothing was proven" in str(read_json(out / "export.json")["proof"])
