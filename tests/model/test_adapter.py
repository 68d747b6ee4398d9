"""Adapters are saved in PEFT's format and come back whole or not at all."""

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
from finetuning_exam.model.adapter import add_adapter, load_adapter, lora_config
from finetuning_exam.model.device import choose_compute
from finetuning_exam.model.load import load_base
from finetuning_exam.model.tuned import load_tuned

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
    """PEFT loads an adapter with a tensor missing in silence; here it is an error with code 3."""
    state = load_file(folder / WEIGHTS)
    lost = sorted(state)[3]
    del state[lost]
    save_file(state, folder / WEIGHTS)
    with pytest.raises(AdapterError) as caught:
        load_adapter(load_base(str(models.folder()), CPU), folder)
    assert str(caught.value) == (
        f"{folder}: 1 tensors of the adapter are missing and 0 are unknown, such as {lost}. "
        "Train it again, or copy the folder again."
    )
    assert caught.value.exit_code == 3


def test_an_adapter_with_a_tensor_too_many_is_refused(models: Models, folder: Path) -> None:
    """A tensor that no module of the base takes is an error."""
    state = load_file(folder / WEIGHTS)
    name = sorted(state)[0].replace("layers.0", "layers.7")
    save_file({**state, name: torch.zeros(4, 32)}, folder / WEIGHTS)
    with pytest.raises(
        AdapterError, match=f"0 tensors .* missing and 1 are unknown, such as {name}"
    ):
        load_adapter(load_base(str(models.folder()), CPU), folder)


@pytest.mark.parametrize("size", [0, 7, 2000, -1])
def test_a_truncated_adapter_is_refused(models: Models, folder: Path, size: int) -> None:
    """A weight file cut short anywhere is an error that names the file."""
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:size])
    with pytest.raises(AdapterError, match=f"{WEIGHTS}: is damaged") as caught:
        load_adapter(load_base(str(models.folder()), CPU), folder)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"peft_type": "NONE"}', '{"peft_type": "LORA", "r": "four"}']
)
def test_a_damaged_adapter_config_is_refused(models: Models, folder: Path, content: str) -> None:
    """A config that is no config of a LoRA adapter is an AdapterError, never a traceback."""
    (folder / "adapter_config.json").write_text(content, encoding="utf-8")
    with pytest.raises(AdapterError):
        load_adapter(load_base(str(models.folder()), CPU), folder)


def test_an_adapter_of_other_shapes_is_refused(models: Models, folder: Path) -> None:
    """A rank in the config that the tensors do not have is an error."""
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    (folder / "adapter_config.json").write_text(json.dumps({**config, "r": 5}), encoding="utf-8")
    with pytest.raises(AdapterError, match="does not fit"):
        load_adapter(load_base(str(models.folder()), CPU), folder)


@pytest.mark.parametrize("name", [WEIGHTS, "adapter_config.json"])
def test_a_folder_without_an_adapter_is_a_usage_error(
    models: Models, folder: Path, name: str
) -> None:
    """A folder without weights or config says what is missing and how to hint it."""
    (folder / name).unlink()
    with pytest.raises(UsageError) as caught:
        load_adapter(load_base(str(models.folder()), CPU), folder)
    assert str(caught.value) == (
        f"{folder}: holds no {name}. "
        "Train first (fte train), or give the adapter's folder with --adapter."
    )


def test_another_base_of_the_same_shape_is_refused(models: Models, folder: Path) -> None:
    """An adapter knows its base by hash; the error names both bases."""
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
        "Name the base it was trained on with --model."
    )


@pytest.mark.parametrize("place", [-1, -1000, -5000])
def test_flipped_bytes_are_refused(models: Models, folder: Path, place: int) -> None:
    """Weights of the right shape that are not the run's bytes are refused with code 3."""
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
        "Train it again, or copy the whole folder again."
    )
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("name", ["lm_head", "embed_tokens", "self_attn", "proj", "nope"])
def test_a_target_that_is_no_linear_module_is_refused(models: Models, name: str) -> None:
    """Head, embedding and what is no whole name of a linear module get no adapter."""
    base = load_base(str(models.folder()), CPU)
    with pytest.raises(UsageError) as caught:
        add_adapter(base, lora_config(4, 8, 0.0, ("q_proj", name)), 0)
    assert str(caught.value) == (
        f"--lora_target_modules: {base.name} has no module {name}. "
        "It has: down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj."
    )


def test_an_adapter_finds_its_own_base(models: Models, folder: Path) -> None:
    """Without --model the base is the one named in the adapter's config."""
    tuned = load_tuned(folder, None, "cpu", "float32", "auto")
    assert tuned.base.folder == models.folder()
    assert tuned.encoder.template == "plain"


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


def test_the_config_names_the_base_by_a_path_that_stays_true(trained: Run) -> None:
    """adapter_config.json names the base's folder absolutely, and the LoRA settings as given."""
    config = json.loads((trained.folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == str(trained.prepared.base.folder.resolve())
    assert (config["r"], config["lora_alpha"], config["task_type"]) == (4, 8, "CAUSAL_LM")
    assert config["peft_type"] == "LORA"


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
