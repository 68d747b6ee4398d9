"""Specification: `check` refuses a base that `train` refuses, and no other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import ARCHITECTURES, EXPERTS, Models, rows, save_tokenizer, write_rows
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertLMHeadModel,
    ElectraConfig,
    ElectraForMaskedLM,
    PreTrainedConfig,
    PreTrainedModel,
    RobertaConfig,
    RobertaForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
)

from finetuning_exam import CheckSettings, TrainSettings, check, train
from finetuning_exam.errors import ModelError

SMALL = {
    "vocab_size": 512,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 300,
    "eos_token_id": 0,
    "pad_token_id": 1,
}


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run each test in a folder that holds a file of records."""
    monkeypatch.chdir(tmp_path)
    return str(write_rows(Path("d.jsonl"), rows(4)))


def _refusals(model: str, data: str) -> tuple[str, str]:
    """Return how `check` and `train` refuse a model, each on one line."""
    asked = CheckSettings(data=(data,), model_name_or_path=model)
    run = TrainSettings(data=(data,), model_name_or_path=model, device="cpu", max_steps=1)
    found: list[str] = []
    for refuse in (lambda: check(asked), lambda: train(run)):
        with pytest.raises(ModelError) as caught:
            refuse()
        found.append(str(caught.value))
        assert len(found[-1].splitlines()) == 1
        assert found[-1].startswith(f"{model}: ")
    return found[0], found[1]


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (BertForMaskedLM, BertConfig(**SMALL)),
        (BertLMHeadModel, BertConfig(**SMALL)),
        (RobertaForMaskedLM, RobertaConfig(**SMALL)),
        (ElectraForMaskedLM, ElectraConfig(embedding_size=32, **SMALL)),
        (
            T5ForConditionalGeneration,
            T5Config(vocab_size=512, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4),
        ),
    ],
    ids=["bert", "bert as a causal class", "roberta", "electra", "t5"],
)
def test_models_that_are_not_causal_are_refused(
    data: str, kind: Callable[[PreTrainedConfig], PreTrainedModel], config: PreTrainedConfig
) -> None:
    """A model that sees the text on both sides would learn nothing from an answer that it sees."""
    kind(config).save_pretrained("model")
    save_tokenizer(Path("model"))
    checked, trained = _refusals("./model", data)
    assert checked == trained
    assert "not a causal language model" in checked


def test_a_masked_model_trained_as_a_decoder_is_taken(data: str) -> None:
    """With `is_decoder`, a BERT writes from left to right."""
    BertLMHeadModel(BertConfig(is_decoder=True, **SMALL)).save_pretrained("model")
    save_tokenizer(Path("model"))
    asked = CheckSettings(data=(data,), model_name_or_path="./model")
    assert check(asked).errors == ()


@pytest.mark.parametrize("architecture", ARCHITECTURES | EXPERTS)
def test_every_architecture_is_taken(models: Models, data: str, architecture: str) -> None:
    """No sound model is refused by what its config and the headers of its weights say."""
    folder = str(models.folder(architecture))
    assert check(CheckSettings(data=(data,), model_name_or_path=folder)).errors == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "nonesuch"}, "'nonesuch' is not part of Transformers "),
        ({"model_type": None}, "config.json names no model_type"),
        ({"model_type": "t5"}, "'t5', which is not a causal language model"),
        ({"is_encoder_decoder": True}, "an encoder-decoder model (llama), which is not a causal"),
        ({"is_causal": False}, "a llama model that sees the text on both sides of a token"),
        ({"num_hidden_layers": "two"}, "num_hidden_layers in config.json is not a whole number"),
        ({"num_hidden_layers": 3}, "asks for 3 layers, and the weights lack 1 of them, such as "),
        ({"vocab_size": 600}, "embed_tokens.weight is 512 × 32 in the file, 600 × 32 by config"),
        ({"hidden_size": 64}, "embed_tokens.weight is 512 × 32 in the file, 512 × 64 by config"),
    ],
    ids=lambda it: "=".join(map(str, *it.items())) if isinstance(it, dict) else "",
)
def test_a_config_of_another_model_is_refused(
    models: Models, data: str, change: dict[str, object], message: str
) -> None:
    """The config alone, or the headers of the weights, show that the two do not belong together."""
    shutil.copytree(models.folder(), "model")
    path = Path("model/config.json")
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | change), encoding="utf-8")
    checked, _ = _refusals("./model", data)
    assert message in checked


def _without_layer(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state.items() if ".layers.0." not in key}


def _narrower(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    key = "model.embed_tokens.weight"
    return state | {key: state[key][:, :16].contiguous()}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without_layer, "asks for 2 layers, and the weights lack 1 of them, such as model.layers"),
        (_narrower, "model.embed_tokens.weight is 512 × 16 in the file, 512 × 32 by config.json"),
        (lambda _: {}, "the weights hold no tensors"),
    ],
    ids=["a layer is missing", "narrower embeddings", "no tensors"],
)
def test_weights_of_another_model_are_refused(
    models: Models,
    data: str,
    damage: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]],
    message: str,
) -> None:
    """Weights that lack what config.json asks for are refused by the headers of their files."""
    shutil.copytree(models.folder(), "model")
    path = Path("model/model.safetensors")
    save_file(damage(load_file(path)), path, metadata={"format": "pt"})
    checked, _ = _refusals("./model", data)
    assert message in checked


def test_an_expert_that_is_missing_is_named(models: Models, data: str) -> None:
    """Both name the expert whose weights are not there."""
    shutil.copytree(models.folder("mixtral"), "model")
    path = Path("model/model.safetensors")
    state = load_file(path)
    gone = next(key for key in sorted(state) if ".experts.2." in key)
    del state[gone]
    save_file(state, path, metadata={"format": "pt"})
    checked, trained = _refusals("./model", data)
    assert checked == trained
    assert f"{gone} is missing, while there are 4 experts" in checked
