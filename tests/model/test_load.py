"""A base is loaded completely and without running its code, or refused in one line."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import CONTEXT, Models

from finetuning_exam.errors import ModelError
from finetuning_exam.model.device import choose_compute
from finetuning_exam.model.load import load_base

CPU = choose_compute("cpu", "float32")


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


def test_a_hub_name_without_a_network_is_one_line() -> None:
    """A name found neither locally nor on the Hub gives a one-line error."""
    with pytest.raises(ModelError, match="no-such-user/no-such-model: not a local folder"):
        load_base("no-such-user/no-such-model", CPU)


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
    with pytest.raises(ModelError):
        load_base(str(folder), CPU)


def test_truncated_weights_are_refused(folder: Path) -> None:
    """A truncated weight file is an error."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cannot be loaded as a causal language model"):
        load_base(str(folder), CPU)


def test_an_unknown_architecture_is_refused(folder: Path) -> None:
    """A config of a model type that Transformers does not know is an error."""
    (folder / "config.json").write_text('{"model_type": "nonesuch"}', encoding="utf-8")
    with pytest.raises(ModelError, match="cannot be loaded as a causal language model"):
        load_base(str(folder), CPU)


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
    with pytest.raises(ModelError):
        load_base(str(folder), CPU)


def test_a_tokenizer_larger_than_the_embedding_is_refused(models: Models) -> None:
    """Ids without an embedding are found on loading, not as an index error in training."""
    folder = models.folder(vocab_size=480)
    with pytest.raises(
        ModelError, match=r"20 tokens without an embedding, such as '.+' \(id 480\)"
    ):
        load_base(str(folder), CPU)
