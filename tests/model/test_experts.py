"""Mixtures of experts: what an adapter goes on, and that such models train, save and answer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tiny import EXPERTS, LEAN, Models, brisk, logits_of, rows, run_training, write_rows
from transformers import AutoModelForCausalLM

from finetuning_exam.cli import main
from finetuning_exam.errors import ModelError, UsageError
from finetuning_exam.model.adapter import add_adapter, load_adapter, lora_config
from finetuning_exam.model.device import choose_compute
from finetuning_exam.model.load import load_base
from finetuning_exam.model.targets import is_router, unadapted_experts

CPU = choose_compute("cpu", "float32")
BOTH = ("all-linear", "gate_up_proj", "down_proj")
QUICK = (
    *("--device", "cpu", "--max_steps", "2", "--answered_examples", "2", "--max_new_tokens", "4"),
    *LEAN,
)
ROUTER = {name: "router" if name == "granitemoe" else "gate" for name in EXPERTS}


def _adapted(model: PeftModel) -> set[str]:
    """Return the paths of the modules that have an adapter, without wrappers."""
    return {
        name.replace(".lora_A.default", "").replace(".base_layer", "")
        for name, _ in model.named_modules()
        if name.endswith("lora_A.default")
    }


@pytest.mark.parametrize("targets", [("all-linear",), BOTH], ids=["all-linear", "experts"])
@pytest.mark.parametrize("architecture", EXPERTS)
def test_a_router_is_adapted_only_where_it_is_named(
    models: Models, architecture: str, targets: tuple[str, ...]
) -> None:
    """Neither `all-linear` nor the names of experts put an adapter on what chooses the experts; its
    own name does, on it alone.
    """
    base = load_base(str(models.folder(architecture)), CPU)
    model = add_adapter(base, lora_config(4, 8, 0.0, targets), seed=0)
    assert not {name for name in _adapted(model) if is_router(name)}
    assert any(name.endswith(".experts") for name in _adapted(model)) == (targets == BOTH)
    base = load_base(str(models.folder(architecture)), CPU)
    model = add_adapter(base, lora_config(4, 8, 0.0, (ROUTER[architecture],)), seed=0)
    assert len(_adapted(model)) == 2
    assert all(map(is_router, _adapted(model)))


@pytest.mark.parametrize("architecture", EXPERTS)
def test_adapted_experts_are_trained_saved_and_loaded(
    models: Models, tmp_path: Path, architecture: str
) -> None:
    """Experts that are named get adapters that training changes, that load with the same logits
    here and in plain PEFT, that merge, and that are off with the adapter off.
    """
    folder = models.folder(architecture)
    run = run_training(brisk(folder, lora_target_modules=BOTH), tmp_path, rows(12))
    ids = run.prepared.rows.train[0].ids
    trained = logits_of(run.prepared.model, ids)
    stored = load_file(tmp_path / "adapter_model.safetensors")
    expert_b = [it for name, it in stored.items() if ".experts." in name and "lora_B" in name]
    assert len(expert_b) == 4
    assert all(bool(it.any()) for it in expert_b)
    assert unadapted_experts(run.prepared.model) == (0.0, ())
    fresh = load_base(str(folder), CPU)
    before = logits_of(fresh.model, ids)
    reloaded = load_adapter(fresh, tmp_path)
    torch.testing.assert_close(logits_of(reloaded, ids), trained, atol=1e-5, rtol=0)
    with reloaded.disable_adapter():
        torch.testing.assert_close(logits_of(reloaded, ids), before, atol=1e-6, rtol=0)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    peft = PeftModel.from_pretrained(plain, str(tmp_path)).eval()
    torch.testing.assert_close(logits_of(peft, ids), trained, atol=1e-5, rtol=0)
    merged = reloaded.merge_and_unload()
    torch.testing.assert_close(logits_of(merged, ids), trained, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(trained, before, atol=1e-2)


@pytest.mark.parametrize("architecture", EXPERTS)
def test_the_share_of_the_experts_is_theirs(models: Models, architecture: str) -> None:
    """The share of weights left alone is that of the experts' parameters, and they are named."""
    folder = models.folder(architecture)
    base = load_base(str(folder), CPU)
    experts = sum(p.numel() for name, p in base.model.named_parameters() if ".experts." in name)
    model = add_adapter(base, lora_config(4, 8, 0.0, ("all-linear",)), seed=0)
    share, names = unadapted_experts(model)
    assert share == pytest.approx(experts / base.n_parameters)
    assert 0.2 < share < 1
    assert names == ("down_proj", "gate_up_proj")


def test_dense_models_have_no_share(models: Models) -> None:
    """A model without experts has none that are left alone."""
    base = load_base(str(models.folder()), CPU)
    model = add_adapter(base, lora_config(4, 8, 0.0, ("q_proj",)), seed=0)
    assert unadapted_experts(model) == (0.0, ())


@pytest.mark.parametrize(
    ("architecture", "targets"),
    [
        ("qwen3_moe", ("gate_proj", "up_proj")),
        ("mixtral", ("w1", "w2")),
        ("olmoe", ("experts.gate_proj", "proj")),
    ],
)
def test_targets_that_exist_nowhere_are_refused(
    models: Models, architecture: str, targets: tuple[str, ...]
) -> None:
    """Names that fused experts had in other versions are no modules: the error lists what is."""
    base = load_base(str(models.folder(architecture)), CPU)
    with pytest.raises(UsageError) as caught:
        add_adapter(base, lora_config(4, 8, 0.0, targets), seed=0)
    assert str(caught.value) == (
        f"--lora_target_modules: {base.name} has no module {', '.join(targets)}. "
        "Available modules: down_proj, gate, gate_up_proj, k_proj, o_proj, q_proj, v_proj."
    )


def test_dropout_on_experts_is_refused(models: Models) -> None:
    """PEFT has no dropout for the parameters of experts: the error says so before training."""
    base = load_base(str(models.folder("mixtral")), CPU)
    with pytest.raises(UsageError, match=r"--lora_dropout 0\.1: experts cannot be adapted with"):
        add_adapter(base, lora_config(4, 8, 0.1, BOTH), seed=0)
    model = add_adapter(base, lora_config(4, 8, 0.1, ("all-linear",)), seed=0)
    assert len(_adapted(model)) == 8


@pytest.mark.parametrize("architecture", EXPERTS)
def test_a_mixture_trains_and_answers(
    models: Models,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    architecture: str,
) -> None:
    """`fte train` of a mixture ends with its exam, whatever its config says of router logits, and
    says which share of the weights stays as it is.
    """
    monkeypatch.chdir(tmp_path)
    folder = models.folder(architecture, output_router_logits=True)
    data = str(write_rows(Path("rows.jsonl"), rows(12)))
    assert main(["train", data, "--model", str(folder), *QUICK]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "% of the weights are in experts, which stay as they are. To adapt them too: " in said
    assert "--lora_target_modules all-linear down_proj gate_up_proj" in said
    config = json.loads(Path("output/adapter_config.json").read_text(encoding="utf-8"))
    assert not any(map(is_router, config["target_modules"]))


@pytest.mark.parametrize(
    ("architecture", "shape", "message"),
    [
        ("qwen3_moe", None, "experts.down_proj: 3 × 32 × 16 in the file, 4 × 32 × 16 by config"),
        ("mixtral", None, "experts.2.w1.weight is missing, while there are 4 experts."),
        ("mixtral", (3, 3), "experts.2.w1.weight is 3 × 3, and that of another expert 64 × 32."),
        (
            "olmoe",
            (3, 3),
            "experts.2.down_proj.weight is 3 × 3, and that of another expert 32 × 64.",
        ),
    ],
)
def test_an_expert_that_is_missing_or_odd_is_refused(
    models: Models, tmp_path: Path, architecture: str, shape: tuple[int, int] | None, message: str
) -> None:
    """A mixture whose files lack one expert's weight, or have it in another shape, is an error that
    names it, and never has a random expert.
    """
    folder = Path(shutil.copytree(models.folder(architecture), tmp_path / "model"))
    state = load_file(folder / "model.safetensors")
    lost = next(name for name in sorted(state) if ".experts.2." in name)
    del state[lost]
    if shape:
        state[lost] = torch.zeros(shape)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError) as caught:
        load_base(str(folder), CPU)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{folder}: ")
    assert message in line


def test_a_resumed_run_of_adapted_experts_is_the_same(models: Models, tmp_path: Path) -> None:
    """A checkpoint with adapted experts resumes to the same bytes."""
    settings = brisk(models.folder("qwen2_moe"), lora_target_modules=BOTH, save_steps=2)
    run_training(settings, tmp_path, rows(12))
    whole = (tmp_path / "adapter_model.safetensors").read_bytes()
    (tmp_path / "adapter_model.safetensors").unlink()
    run_training(settings, tmp_path, rows(12), checkpoint=tmp_path / "checkpoint-2")
    assert (tmp_path / "adapter_model.safetensors").read_bytes() == whole
