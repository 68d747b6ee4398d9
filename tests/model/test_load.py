"""A base is loaded completely and without running its code, or refused in one line."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from safetensors.torch import load_file, save_file
from tiny import CONTEXT, Models

from finetuning_exam.errors import ModelError
from finetuning_exam.model.device import choose_compute
from finetuning_exam.model.load import load_base

CPU = choose_compute("cpu", "float32")
RESPONSE: Any = SimpleNamespace(headers={}, request=None)


@pytest.fixture
def folder(models: Models, tmp_path: Path) -> Path:
    """A copy of a model's folder, to be damaged."""
    return Path(shutil.copytree(models.folder(), tmp_path / "model"))


def test_a_base_comes_in_evaluation_mode_with_its_facts(models: Models) -> None:
    """A loaded base is in evaluation mode, in the requested format, and fully described."""
    folder = models.folder()
    base = load_base(str(folder), CPU)
    assert not base.model.training
    assert {p.dtype for p in base.model.parameters()} == {torch.float32}
    assert (base.name, base.folder, base.context) == (str(folder), folder, CONTEXT)
    assert base.n_parameters == sum(
        t.numel() for t in load_file(folder / "model.safetensors").values()
    )
    assert len(base.sha256) == 64


def test_the_number_format_is_the_one_asked_for(models: Models) -> None:
    """`--dtype bfloat16` gives bfloat16 weights for any folder."""
    base = load_base(str(models.folder()), choose_compute("cpu", "bfloat16"))
    assert {p.dtype for p in base.model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("architecture", ["gpt2", "bloom"])
def test_context_is_found_by_any_of_its_names(models: Models, architecture: str) -> None:
    """GPT-2 says n_positions; a model without a limit gets 2048."""
    base = load_base(str(models.folder(architecture)), CPU)
    assert base.context == (CONTEXT if architecture == "gpt2" else 2048)


def test_the_hash_tells_weights_apart(models: Models, folder: Path) -> None:
    """The hash is the same for a copy of the weights and another for other weights."""
    copy = load_base(str(folder), CPU).sha256
    assert copy == load_base(str(models.folder()), CPU).sha256
    assert copy != load_base(str(models.folder(seed=1)), CPU).sha256


def test_a_missing_folder_never_falls_through_to_the_hub(tmp_path: Path) -> None:
    """A path that does not exist is an error, not a hub name."""
    with pytest.raises(ModelError) as caught:
        load_base(str(tmp_path / "nothing"), CPU)
    assert str(caught.value) == (
        f"{tmp_path / 'nothing'}: no such model folder. Check the path, or use --model builtin."
    )


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (None, "not in the cache of the Hub; this machine is offline (HF_HUB_OFFLINE is set)."),
        (
            LocalEntryNotFoundError("nothing"),
            "not in the cache of the Hub; the Hub did not answer (LocalEntryNotFoundError).",
        ),
        (ConnectionError("no route"), "the Hub did not answer (ConnectionError)."),
        (
            RepositoryNotFoundError("404", response=RESPONSE),
            "and the Hub has no public model of this name.",
        ),
        (
            GatedRepoError("403", response=RESPONSE),
            "and the Hub gives this model only to those who accepted its terms.",
        ),
    ],
    ids=["offline", "not cached", "no route", "no model", "gated"],
)
def test_a_hub_name_that_cannot_be_had_is_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None, message: str
) -> None:
    """A name found neither locally nor on the Hub gives the reason and how to give a folder; no one
    is told to look at a network.
    """
    if error is not None:

        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(ModelError) as caught:
        load_base("no-such-user/no-such-model", CPU)
    (line,) = str(caught.value).splitlines()
    assert line.startswith("no-such-user/no-such-model: not a local folder, and ")
    assert message in line
    assert "folder" in caught.value.hint
    assert "network" not in line


def test_missing_weights_are_refused(folder: Path) -> None:
    """Transformers fills missing weights at random; here they are an error that names one."""
    state = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    del state[name]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError) as caught:
        load_base(str(folder), CPU)
    assert (
        str(caught.value) == f"{folder}: missing weights (1), such as {name}. Copy the model again."
    )


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    """A weight whose shape differs from the config is an error."""
    state = load_file(folder / "model.safetensors")
    state["model.layers.1.mlp.up_proj.weight"] = torch.zeros(3, 32)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"up_proj\.weight: 3 × 32 in the file, 64 × 32 by config"):
        load_base(str(folder), CPU)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "nonesuch"}, "the architecture 'nonesuch' is not part of Transformers "),
        ({"model_type": None}, "config.json names no model_type, so its architecture is not known"),
        ({"model_type": "t5"}, "of the architecture 't5', which is not a causal language model"),
        ({"num_hidden_layers": "two"}, "config.json does not describe a llama model ("),
        ({"num_hidden_layers": 3}, "missing weights (9), such as model.layers.2."),
        (
            {"vocab_size": 600},
            "2 tensors are not of the size that config.json says, such as lm_head.weight: "
            "512 × 32 in the file, 600 × 32 by config.json.",
        ),
        (
            {"hidden_size": 64},
            "not of the size that config.json says, such as lm_head.weight: 512 × 32 in the file, "
            "512 × 64 by config.json.",
        ),
    ],
    ids=["unknown", "none", "other kind", "no number", "too deep", "vocabulary", "too wide"],
)
def test_a_config_that_does_not_fit_is_refused(
    folder: Path, change: dict[str, object], message: str
) -> None:
    """A config of another architecture or size is reported in our own words, with both sizes."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | change), encoding="utf-8")
    with pytest.raises(ModelError, match=re.escape(message)) as caught:
        load_base(str(folder), CPU)
    assert str(caught.value).startswith(f"{folder}: ")
    assert len(str(caught.value).splitlines()) == 1


def test_weights_that_no_module_takes_are_noted(folder: Path) -> None:
    """A config with fewer layers than the weights loads, and the rest is noted, not hidden."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(
        json.dumps(config | {"num_hidden_layers": 1}), encoding="utf-8"
    )
    assert load_base(str(folder), CPU).notes == (
        "9 tensors are not part of the model and not used, such as "
        "model.layers.1.input_layernorm.weight",
    )
    assert load_base("builtin", CPU).notes == ()


def test_code_of_a_model_is_never_run(folder: Path) -> None:
    """A folder that brings code is refused before anything is loaded."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["auto_map"] = {"AutoModelForCausalLM": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "evil.py").write_text("raise SystemExit('code ran')", encoding="utf-8")
    with pytest.raises(ModelError, match="which is never allowed"):
        load_base(str(folder), CPU)


def test_code_of_a_tokenizer_is_never_run(folder: Path) -> None:
    """A tokenizer that brings code is refused."""
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": [None, "evil.Evil"]}}
    path.write_text(json.dumps(config), encoding="utf-8")
    (folder / "evil.py").write_text(
        f"open({str(folder / 'ran')!r}, 'w').close()\nclass Evil: pass", encoding="utf-8"
    )
    with contextlib.suppress(ModelError):
        load_base(str(folder), CPU)
    assert not (folder / "ran").exists()


def test_a_folder_without_a_tokenizer_is_refused(folder: Path) -> None:
    """A folder without tokenizer files is refused."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(ModelError, match=r": no tokenizer in this folder \(no tokenizer\.json\)"):
        load_base(str(folder), CPU)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: content[:3000], "it ends too early"),
        (lambda content: "", "it is empty"),
        (lambda content: content.replace(",", ";", 1), "not valid JSON at line 2, column "),
        (lambda content: "[]", "not a JSON object"),
    ],
    ids=["cut", "empty", "no JSON", "list"],
)
def test_a_damaged_tokenizer_is_named(
    folder: Path, change: Callable[[str], str], reason: str
) -> None:
    """A damaged tokenizer.json is named with what is wrong, not in a parser's words."""
    path = folder / "tokenizer.json"
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(ModelError, match=reason) as caught:
        load_base(str(folder), CPU)
    assert f"{path}: " in str(caught.value)
    assert "expected" not in str(caught.value)


def test_a_tokenizer_larger_than_the_embedding_is_refused(models: Models) -> None:
    """Ids without an embedding are found on loading, not as an index error in training."""
    folder = models.folder(vocab_size=480)
    with pytest.raises(
        ModelError, match=r"20 tokens without an embedding, such as '.+' \(id 480\)"
    ):
        load_base(str(folder), CPU)
