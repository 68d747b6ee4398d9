"""Adapters are saved in PEFT's format, and loaded completely or refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tiny import Models, Run, brisk, logits_of, rows, run_training
from transformers import AutoModelForCausalLM

from finetuning_exam.durable import file_sha256, write_manifest
from finetuning_exam.errors import AdapterError, UsageError
from finetuning_exam.model.adapter import (
    add_adapter,
    load_adapter,
    lora_config,
    save_adapter,
    start_from,
)
from finetuning_exam.model.device import choose_compute
from finetuning_exam.model.folder import adapter_origin
from finetuning_exam.model.load import load_base
from finetuning_exam.model.session import Session

CPU = choose_compute("cpu", "float32")
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def trained(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A llama with an adapter of four steps."""
    return run_training(brisk(models.folder()), tmp_path_factory.mktemp("trained"), rows(12))


@pytest.fixture
def folder(trained: Run, tmp_path: Path) -> Path:
    """A copy of the adapter's folder, to be damaged."""
    return Path(shutil.copytree(trained.folder, tmp_path / "adapter"))


def test_an_adapter_with_a_tensor_missing_is_refused(models: Models, folder: Path) -> None:
    """A missing tensor, which PEFT only warns about, is an error with exit code 3."""
    state = load_file(folder / WEIGHTS)
    lost = sorted(state)[3]
    del state[lost]
    save_file(state, folder / WEIGHTS)
    with pytest.raises(AdapterError) as caught:
        load_adapter(load_base(str(models.folder()), CPU), folder)
    assert str(caught.value) == (
        f"{folder}: 1 tensor of 28 is missing, such as {lost}. Copy the folder again, or retrain."
    )
    assert caught.value.exit_code == 3


def test_an_adapter_with_a_tensor_too_many_is_refused(models: Models, folder: Path) -> None:
    """A tensor that fits no module of the base is an error."""
    state = load_file(folder / WEIGHTS)
    name = sorted(state)[0].replace("layers.0", "layers.7")
    save_file({**state, name: torch.zeros(4, 32)}, folder / WEIGHTS)
    with pytest.raises(AdapterError, match=f": 1 tensor is not part of this base, such as {name}"):
        load_adapter(load_base(str(models.folder()), CPU), folder)


@pytest.mark.parametrize("size", [0, 7, 2000, -1])
def test_a_truncated_adapter_is_refused(models: Models, folder: Path, size: int) -> None:
    """A truncated weight file is an error that names the file."""
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:size])
    with pytest.raises(AdapterError, match=rf"{WEIGHTS}: (empty|cut)") as caught:
        load_adapter(load_base(str(models.folder()), CPU), folder)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"peft_type": "NONE"}', '{"peft_type": "LORA", "r": "four"}']
)
def test_a_damaged_adapter_config_is_refused(models: Models, folder: Path, content: str) -> None:
    """A config that is not that of a LoRA adapter is an AdapterError, never a traceback."""
    (folder / "adapter_config.json").write_text(content, encoding="utf-8")
    with pytest.raises(AdapterError):
        load_adapter(load_base(str(models.folder()), CPU), folder)


def _refusal(base: Path, folder: Path) -> str:
    with pytest.raises(AdapterError) as caught:
        load_adapter(load_base(str(base), CPU), folder)
    assert caught.value.exit_code == 3
    (line,) = str(caught.value).splitlines()
    return line


def test_a_rank_that_differs_from_the_weights_is_refused(models: Models, folder: Path) -> None:
    """A rank in the config that differs from the tensors is named, with both sizes."""
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    (folder / "adapter_config.json").write_text(json.dumps({**config, "r": 5}), encoding="utf-8")
    line = _refusal(models.folder(), folder)
    assert f"{folder}: adapter_config.json says r = 5, but the weights have another rank" in line
    assert ".lora_A.weight is 4 × 64 in its file, 5 × 64 by the config." in line


def test_a_base_of_another_width_is_refused(models: Models, folder: Path) -> None:
    """An adapter without a run.json on a base of another width: both sizes are named."""
    wide = models.folder(hidden_size=64)
    line = _refusal(wide, folder)
    assert f"{folder}: the adapter was trained on a base of another size than {wide}: " in line
    assert "32 × 4 in its file, 64 × 4 for this base. Use --model" in line


def test_a_base_without_the_adapters_modules_is_refused(models: Models, folder: Path) -> None:
    """An adapter on a base of another architecture: the modules that it lacks are named."""
    gpt2 = models.folder("gpt2")
    line = _refusal(gpt2, folder)
    assert f"{folder}: the adapter belongs to another base than {gpt2}, which has none" in line
    assert ".self_attn.k_proj" in line


@pytest.mark.parametrize(
    ("rename", "message"),
    [
        (("base_model.model.", ""), "none of the 28 tensors has a name that PEFT gives, such as "),
        (("base_model.model.model.", "base_model.model."), "none of the 28 tensors has a name"),
        (("layers.1.", "layers.3."), "14 tensors of 28 are missing, such as "),
        (("lora_A.weight", "lora_A.other.weight"), "14 tensors of 28 are missing, such as "),
    ],
    ids=["no prefix", "short prefix", "other layer", "adapter name"],
)
def test_names_that_do_not_fit_are_refused(
    models: Models, folder: Path, rename: tuple[str, str], message: str
) -> None:
    """Tensors under names that PEFT would pass over are an error: no base poses as tuned."""
    state = load_file(folder / WEIGHTS)
    save_file({name.replace(*rename): it for name, it in state.items()}, folder / WEIGHTS)
    assert f"{folder}: {message}" in _refusal(models.folder(), folder)


def test_half_of_the_layers_is_refused(models: Models, folder: Path) -> None:
    """An adapter that lacks the second layer is not whole."""
    state = load_file(folder / WEIGHTS)
    kept = {name: it for name, it in state.items() if "layers.0." in name}
    save_file(kept, folder / WEIGHTS)
    line = _refusal(models.folder(), folder)
    assert (
        f"{folder}: 14 tensors of 28 are missing, such as base_model.model.model.layers.1" in line
    )


@pytest.mark.parametrize("name", [WEIGHTS, "adapter_config.json"])
def test_a_folder_without_an_adapter_is_a_usage_error(
    models: Models, folder: Path, name: str
) -> None:
    """The error names the missing file and how to fix it."""
    (folder / name).unlink()
    with pytest.raises(UsageError) as caught:
        load_adapter(load_base(str(models.folder()), CPU), folder)
    assert str(caught.value) == (
        f"{folder}: no {name} in this folder. "
        "Train first (fte train), or use --adapter to name the adapter's folder."
    )


def test_another_base_of_the_same_shape_is_refused(models: Models, folder: Path) -> None:
    """An adapter identifies its base by hash; the error names both bases."""
    own, other = models.folder(), models.folder(seed=1)
    own_base = load_base(str(own), CPU)
    record = {"base": {"name": str(own), "sha256": own_base.sha256}, "template": "plain"}
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    load_adapter(own_base, folder)
    other_base = load_base(str(other), CPU)
    with pytest.raises(AdapterError) as caught:
        load_adapter(other_base, folder)
    assert str(caught.value) == (
        f"{folder}: the adapter was trained on {own} (sha256 {own_base.sha256[:12]}), "
        f"not on {other} (sha256 {other_base.sha256[:12]}). "
        "Use --model to name the base it was trained on."
    )


@pytest.mark.parametrize("place", [-1, -1000, -5000])
def test_flipped_bytes_are_refused(models: Models, folder: Path, place: int) -> None:
    """Weights that are not the run's bytes are refused with code 3, even in the right shape."""
    base = load_base(str(models.folder()), CPU)
    record = {
        "base": {"name": base.name, "sha256": base.sha256},
        "adapter": {"sha256": file_sha256(folder / WEIGHTS)},
    }
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    write_manifest(folder, ["run.json", "adapter_config.json", WEIGHTS])
    load_adapter(base, folder)
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[place] ^= 0xFF
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(AdapterError) as caught:
        load_adapter(base, folder)
    assert str(caught.value) == (
        f"{folder}: the adapter is damaged ({WEIGHTS} is damaged). "
        "Copy the whole folder again, or retrain."
    )
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("name", ["lm_head", "embed_tokens", "self_attn", "proj", "nope"])
def test_a_target_that_is_no_linear_module_is_refused(models: Models, name: str) -> None:
    """The head, the embedding and partial names of linear modules are refused."""
    base = load_base(str(models.folder()), CPU)
    with pytest.raises(UsageError) as caught:
        add_adapter(base, lora_config(4, 8, 0.0, ("q_proj", name)), 0)
    assert str(caught.value) == (
        f"--lora_target_modules: {base.name} has no module {name}. "
        "Available modules: down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj."
    )


def test_an_adapter_finds_its_own_base(models: Models, folder: Path) -> None:
    """Without --model the base is the one that run.json names."""
    base = load_base(str(models.folder()), CPU)
    record = {"base": {"name": base.name, "sha256": base.sha256}, "template": "plain"}
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    session = Session.load(folder, device="cpu", dtype="float32")
    assert session.base.folder == models.folder()
    assert session.encoder.template == "plain"


@pytest.mark.parametrize("place", [".", "adapter"], ids=["here", "beside"])
def test_a_relative_base_is_found(
    models: Models, folder: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Without run.json, a relative base in adapter_config.json is sought from the current folder,
    then from the adapter's.
    """
    monkeypatch.chdir(folder.parent)
    (folder.parent / place / "model").symlink_to(models.folder())
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = "./model"
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    assert Session.load(folder, device="cpu", dtype="float32").base.n_parameters > 0


def test_plain_peft_gives_the_same_logits(models: Models, trained: Run) -> None:
    """`PeftModel.from_pretrained` on a plain base computes what our own loading computes."""
    ids = trained.prepared.rows.train[0].ids
    plain = AutoModelForCausalLM.from_pretrained(models.folder(), dtype=torch.float32)
    before = logits_of(plain.eval(), ids)
    peft = PeftModel.from_pretrained(plain, str(trained.folder)).eval()
    ours = load_adapter(load_base(str(models.folder()), CPU), trained.folder)
    torch.testing.assert_close(logits_of(peft, ids), logits_of(ours, ids), atol=1e-5, rtol=0)
    assert not torch.allclose(logits_of(peft, ids), before, atol=1e-2)


def test_the_file_holds_lora_matrices_only(trained: Run) -> None:
    """The adapter's file holds A and B of every adapted module, and no weight of the base."""
    names = list(load_file(trained.folder / WEIGHTS))
    assert len(names) == 2 * 14
    assert [n for n in names if not n.endswith(("lora_A.weight", "lora_B.weight"))] == []


@pytest.mark.parametrize("inside", [True, False])
def test_the_config_names_no_place_of_this_machine(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: bool
) -> None:
    """adapter_config.json names a base within the current folder relative to it, and of any other
    folder only the last part; never a Hub name by accident.
    """
    model = models.folder()
    monkeypatch.chdir(model.parents[1] if inside else tmp_path)
    base = load_base(str(model), CPU)
    save_adapter(add_adapter(base, lora_config(4, 8, 0.0, ("all-linear",)), seed=0), tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    named = f"{model.parent.name}/{model.name}" if inside else model.name
    assert config["base_model_name_or_path"] == f"./{named}"
    assert (config["r"], config["lora_alpha"], config["task_type"]) == (4, 8, "CAUSAL_LM")
    assert config["peft_type"] == "LORA"


def test_the_built_in_base_is_found_by_its_name_in_the_config(tmp_path: Path) -> None:
    """adapter_config.json names the built-in base as a folder of the package, wherever it is."""
    base = load_base("builtin", CPU)
    save_adapter(add_adapter(base, lora_config(4, 8, 0.0, ("q_proj",)), seed=0), tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == "finetuning_exam/model/builtin"
    assert adapter_origin(tmp_path).base_name == "builtin"


@pytest.mark.parametrize(("architecture", "tied"), [("llama", True), ("gpt2", True)])
def test_merging_equals_the_adapter(
    models: Models, tmp_path: Path, architecture: str, tied: bool
) -> None:
    """`merge_and_unload` gives the adapter's logits, and leaves a tied embedding alone."""
    model = models.folder(architecture, tie_word_embeddings=tied)
    run = run_training(brisk(model), tmp_path, rows(12))
    base = load_base(str(model), CPU)
    embedding = base.model.get_input_embeddings().weight.clone()
    adapted = load_adapter(base, run.folder)
    ids = run.prepared.rows.train[1].ids
    with_adapter = logits_of(adapted, ids)
    merged = adapted.merge_and_unload()
    torch.testing.assert_close(logits_of(merged, ids), with_adapter, atol=1e-4, rtol=1e-5)
    assert torch.equal(merged.get_input_embeddings().weight, embedding)
    assert merged.get_output_embeddings().weight is merged.get_input_embeddings().weight


def test_a_fresh_adapter_is_drawn_from_its_seed(models: Models) -> None:
    """The same seed draws the same A matrices, another seed others; B is zero."""

    def drawn(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        base = load_base(str(models.folder()), CPU)
        model = add_adapter(base, lora_config(4, 8, 0.0, ("q_proj",)), seed)
        named = dict(model.named_parameters())
        head = "base_model.model.model.layers.1.self_attn.q_proj"
        return named[f"{head}.lora_A.default.weight"], named[f"{head}.lora_B.default.weight"]

    first, zero = drawn(1)
    torch.rand(5)
    again, _ = drawn(1)
    other, _ = drawn(2)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not zero.any()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_an_adapter_that_diverged_is_refused(models: Models, folder: Path, value: float) -> None:
    """Weights of NaN or infinity, which answer nothing, are named: alone, and to train on."""
    state = load_file(folder / WEIGHTS)
    name = sorted(state)[5]
    state[name][0, 0] = value
    save_file(state, folder / WEIGHTS)
    for file in ("manifest.json", "run.json"):
        (folder / file).unlink(missing_ok=True)
    base = load_base(str(models.folder()), CPU)
    fresh = add_adapter(load_base(str(models.folder()), CPU), lora_config(4, 8, 0, ["q_proj"]), 0)
    for load in (lambda: load_adapter(base, folder), lambda: start_from(fresh, base, folder)):
        with pytest.raises(AdapterError) as caught:
            load()
        assert str(caught.value) == (
            f"{folder}: the adapter's training has diverged: 1 of 28 tensors hold NaN or infinity, "
            f"such as {name}. Train again with a lower --learning_rate."
        )
