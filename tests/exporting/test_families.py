"""Specification of the families of models that llama.cpp runs: each is the same model there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from exports import Exports
from tiny import ARCHITECTURES

from finetuning_exam.errors import ModelError

SUPPORTED: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "gemma3": {"num_hidden_layers": 6},  # the sixth layer is the first of full attention
    "mistral": {},
    "phi3": {},
    "gpt2": {},
    "gpt_neox": {},
    "smollm3": {"num_hidden_layers": 4},  # the fourth layer is the first without positions
    "granite": {},
    "olmo2": {},
    "stablelm": {},
}
each_family = pytest.mark.parametrize(("architecture", "options"), SUPPORTED.items(), ids=SUPPORTED)


@each_family
@pytest.mark.usefixtures("llama_cpp")
def test_a_family_is_the_same_model_in_llama_cpp(
    architecture: str, options: dict[str, Any], exports: Exports, out: Path
) -> None:
    """Merged and written as f32, a random model of the family has the likelihoods of base and
    adapter in llama.cpp, and gives the same answers.
    """
    base = exports.base(architecture, **options)
    made = exports.export(base, "gguf", out, outtype="f32")
    found = made.exported.verification
    assert found is not None
    assert found.faults == ()
    assert abs(found.figures.nll_exported - found.figures.nll_tuned) < 1e-3
    assert abs(found.figures.nll_tuned - found.figures.nll_base) > 1e-2, "the adapter does nothing"
    assert found.figures.same_answers == 1


@each_family
@pytest.mark.usefixtures("llama_cpp")
def test_an_adapter_of_a_family_is_the_same_in_llama_cpp(
    architecture: str, options: dict[str, Any], exports: Exports, out: Path
) -> None:
    """Beside its base, the adapter alone has the likelihoods of base and adapter."""
    base = exports.base(architecture, **options)
    made = exports.export(base, "gguf-adapter", out)
    found = made.exported.verification
    assert found is not None
    assert found.faults == ()
    assert sorted(it.name for it in out.iterdir()) == [
        "README.md",
        "adapter-f32.gguf",
        "export.json",
        "manifest.json",
    ]


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES.keys() - SUPPORTED))
def test_another_family_is_refused_by_name(architecture: str, exports: Exports, out: Path) -> None:
    """A family that is not tested is refused before anything is written."""
    pytest.importorskip("gguf")
    base = exports.base(architecture)
    with pytest.raises(ModelError, match=f"{architecture} model, which cannot be written as GGUF"):
        exports.export(base, "gguf", out, verify=False)
    assert not out.exists()


@pytest.mark.parametrize(
    ("architecture", "options", "what"),
    [
        ("llama", {"hidden_act": "gelu"}, "the activation gelu"),
        ("gemma3", {"final_logit_softcapping": 30.0}, "soft caps of logits"),
        ("gemma3", {"query_pre_attn_scalar": 4}, "query_pre_attn_scalar 4"),
        ("stablelm", {"qk_layernorm": True}, "norms of queries and keys by head"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "other scales of attention"),
        ("smollm3", {"no_rope_layers": [0, 1]}, "layers without positions in other places"),
    ],
)
def test_a_setting_that_llama_cpp_ignores_is_refused(
    architecture: str, options: dict[str, Any], what: str, exports: Exports, out: Path
) -> None:
    """What llama.cpp would silently compute otherwise is refused by name."""
    pytest.importorskip("gguf")
    base = exports.base(architecture, **options)
    with pytest.raises(ModelError, match=what):
        exports.export(base, "gguf", out, verify=False)
