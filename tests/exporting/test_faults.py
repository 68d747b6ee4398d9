"""Specification of the verification: each fault that exports are known for is caught and named."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from exports import Exports
from torch import Tensor

from finetuning_exam.cli import run_command
from finetuning_exam.durable import read_json, write_json
from finetuning_exam.exporting import formats
from finetuning_exam.exporting.gguf_files import model
from finetuning_exam.exporting.gguf_files.adapter import write_adapter
from finetuning_exam.exporting.gguf_files.arrange import as_it_is
from finetuning_exam.exporting.gguf_files.families import FAMILIES
from finetuning_exam.exporting.gguf_files.model import write_model
from finetuning_exam.exporting.gguf_files.vocabulary import Vocabulary
from finetuning_exam.exporting.gguf_files.write import Planned
from finetuning_exam.exporting.merged import write_merged_folder
from finetuning_exam.exporting.source import Source
from finetuning_exam.exporting.weights import Weights

END = "<|fin|>"
"""An end token that llama.cpp does not know by its text."""
Plant = Callable[[pytest.MonkeyPatch], None]


def _unrotated(patch: pytest.MonkeyPatch) -> None:
    """Queries and keys keep the order of Transformers."""
    patch.setitem(FAMILIES, "llama", replace(FAMILIES["llama"], arrange=as_it_is))


def _no_end(patch: pytest.MonkeyPatch) -> None:
    """Another token is named as the one that ends an answer."""
    _with_metadata(patch, {"tokenizer.ggml.eos_token_id": 7})


def _other_template(patch: pytest.MonkeyPatch) -> None:
    """The template of another family of models."""
    template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"
    _with_metadata(patch, {"tokenizer.chat_template": template})


def _with_metadata(patch: pytest.MonkeyPatch, other: dict[str, Any]) -> None:
    found = model.token_metadata
    patch.setattr(model, "token_metadata", lambda source: found(source) | other)


def _twice(patch: pytest.MonkeyPatch) -> None:
    """The adapter is merged into a base that has it already."""
    written = write_model

    def write(path: Path, source: Source, weights: Weights, *more: Any) -> None:
        written(path, source, _doubled(weights), *more)

    patch.setattr(formats, "write_model", write)


def _doubled(weights: Weights) -> Weights:
    doubled = {name: replace(it, scale=2 * it.scale) for name, it in weights.updates.items()}
    return replace(weights, updates=doubled)


def _swapped(patch: pytest.MonkeyPatch) -> None:
    """Two tensors of the same shape are in each other's places."""
    planned = model.planned_tensors
    other = {"blk.0.ffn_gate.weight": "blk.0.ffn_up.weight"}
    other |= {value: key for key, value in other.items()}

    def swap(source: Source, weights: Weights) -> list[Planned]:
        return [replace(it, name=other.get(it.name, it.name)) for it in planned(source, weights)]

    patch.setattr(model, "planned_tensors", swap)


def _misnamed(patch: pytest.MonkeyPatch) -> None:
    """The table of names is wrong, for writing and for reading back."""
    found = model.gguf_names

    def names(source: Source, weights: Weights) -> dict[str, str]:
        own = found(source, weights)
        up, gate = (f"model.layers.0.mlp.{it}_proj.weight" for it in ("up", "gate"))
        return own | {up: own[gate], gate: own[up]}

    patch.setattr(model, "gguf_names", names)
    patch.setattr("finetuning_exam.exporting.files.gguf_names", names)


def _other_rules(patch: pytest.MonkeyPatch) -> None:
    """The name of the rules by which texts are split is that of another family."""

    def named(found: Vocabulary, *more: Any) -> Vocabulary:
        return found.with_pre("llama-bpe")

    patch.setattr(formats, "with_rules", named)


def _double_start(patch: pytest.MonkeyPatch) -> None:
    """A token is put before every text, where training had none."""
    other = {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": 1}
    _with_metadata(patch, other)


IN_GGUF: dict[str, tuple[Plant, str]] = {
    "RoPE permutation": (_unrotated, r"has others before it: its positions \(RoPE\)"),
    "end token": (_no_end, r"an answer does not end at <\|fin\|>"),
    "chat template": (_other_template, r"the chat template gives '\[user\]"),
    "merged twice": (_twice, r"holds the adapter 2 times \(and 13 more\)"),
    "wrong place": (_swapped, r"gate_proj\.weight has the weights of model\.layers\.0\.mlp\.up_p"),
    "wrong names": (_misnamed, "already after a single token"),
    "pre-tokenizer": (_other_rules, r"the tokenizer splits a text otherwise.*pre-tokenizer"),
    "start": (_double_start, r"texts begin with \['<\|start\|>'\], and in training"),
}


@pytest.mark.usefixtures("llama_cpp")
@pytest.mark.parametrize(("plant", "line"), IN_GGUF.values(), ids=IN_GGUF)
def test_a_fault_in_a_gguf_file_is_named(
    plant: Plant, line: str, exports: Exports, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that llama.cpp runs as another model is kept aside, and what differs is said."""
    base = exports.base(end=END)
    plant(monkeypatch)
    made = exports.export(base, "gguf", out)
    assert [it for it in made.faults if _matches(line, it)], made.faults
    assert made.folder == out.with_name("out.failed")
    assert not out.exists()
    assert read_json(made.folder / "export.json")["proof"] == "differs"


@pytest.mark.usefixtures("llama_cpp")
def test_a_sound_file_with_an_unusual_end_token_passes(exports: Exports, out: Path) -> None:
    """The same export without a fault: the tests above can fail."""
    made = exports.export(exports.base(end=END), "gguf", out)
    assert made.faults == ()
    assert made.folder == out


@pytest.mark.usefixtures("llama_cpp")
def test_a_file_that_does_not_load_is_a_difference(
    exports: Exports, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export that its program refuses is kept aside like one that answers otherwise."""

    def cut(source: Source, weights: Weights) -> list[Planned]:
        return planned(source, weights)[:-1]

    planned = model.planned_tensors
    monkeypatch.setattr(model, "planned_tensors", cut)
    made = exports.export(exports.base(), "gguf", out)
    assert "llama.cpp does not load model-f32.gguf" in made.faults


@pytest.mark.usefixtures("llama_cpp")
def test_the_command_ends_with_code_8(
    exports: Exports,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`fte export` says what differs and where the export is kept, and exits with 8."""
    base = exports.base(end=END)
    _no_end(monkeypatch)
    settings = exports.settings(base, "gguf", out)
    flags = ["--adapter", settings.adapter_name_or_path, "--model", str(base)]
    words = ["gguf", str(out), *flags, "--eval_file", str(exports.questions)]
    assert run_command("export", [*words, "--max_new_tokens", "4"]) == 8
    error = capsys.readouterr().err
    assert "fte export: the export differs from the trained model: an answer does not end" in error
    assert f"It is kept in {out}.failed, to look at; do not use it." in error


def _scaled(patch: pytest.MonkeyPatch) -> None:
    written = write_adapter

    def write(path: Path, source: Source, weights: Weights, outtype: str) -> None:
        written(path, source, _doubled(weights), outtype)

    patch.setattr(formats, "write_adapter", write)


def _unrotated_updates(patch: pytest.MonkeyPatch) -> None:
    """The base is arranged as it should be, its updates are not."""
    adapter = "finetuning_exam.exporting.gguf_files.adapter._arranged"
    patch.setattr(adapter, lambda source, family, name, update: update.b)


IN_ADAPTERS: dict[str, tuple[Plant, str]] = {
    "RoPE permutation": (_unrotated_updates, r"its positions \(RoPE\), or its queries and keys"),
    "scaled twice": (_scaled, "the likelihood of the answers differs"),
}


@pytest.mark.usefixtures("llama_cpp")
@pytest.mark.parametrize(("plant", "line"), IN_ADAPTERS.values(), ids=IN_ADAPTERS)
def test_a_fault_in_an_adapter_is_named(
    plant: Plant, line: str, exports: Exports, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter that does something else in llama.cpp is kept aside."""
    plant(monkeypatch)
    made = exports.export(exports.base(), "gguf-adapter", out)
    assert [it for it in made.faults if _matches(line, it)], made.faults


Spoil = Callable[[Path], None]


def _without_end(folder: Path) -> None:
    path = folder / "generation_config.json"
    write_json(path, read_json(path) | {"eos_token_id": 7})


def _with_other_template(folder: Path) -> None:
    text = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"
    (folder / "chat_template.jinja").write_text(text, encoding="utf-8")


def _with_other_rules(folder: Path) -> None:
    path = folder / "tokenizer.json"
    content = read_json(path)
    content["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Digits", "individual_digits": True},
            {
                "type": "ByteLevel",
                "add_prefix_space": False,
                "trim_offsets": True,
                "use_regex": True,
            },
        ],
    }
    write_json(path, content)


def _spoiled_tensors(folder: Path, spoil: Callable[[dict[str, Tensor]], None]) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    spoil(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def _with_swapped_tensors(folder: Path) -> None:
    def swap(tensors: dict[str, Tensor]) -> None:
        up, gate = (f"model.layers.0.mlp.{it}_proj.weight" for it in ("up", "gate"))
        tensors[up], tensors[gate] = tensors[gate], tensors[up]

    _spoiled_tensors(folder, swap)


def _without_a_tensor(folder: Path) -> None:
    def drop(tensors: dict[str, Tensor]) -> None:
        del tensors["model.norm.weight"]

    _spoiled_tensors(folder, drop)


IN_FOLDERS: dict[str, tuple[Spoil, str]] = {
    "end token": (_without_end, r"an answer does not end at <\|end\|>"),
    "chat template": (_with_other_template, r"the chat template gives '\[user\]"),
    "pre-tokenizer": (_with_other_rules, "the tokenizer splits a text otherwise"),
    "wrong place": (_with_swapped_tensors, "gate_proj.weight has the weights of"),
    "missing": (_without_a_tensor, "model.norm.weight is missing"),
}


@pytest.mark.parametrize(("spoil", "line"), IN_FOLDERS.values(), ids=IN_FOLDERS)
def test_a_fault_in_a_merged_folder_is_named(
    spoil: Spoil, line: str, exports: Exports, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that Transformers runs as another model is kept aside."""
    written = write_merged_folder

    def write(source: Source, weights: Weights, dtype: Any, place: Path) -> None:
        written(source, weights, dtype, place)
        spoil(place)

    monkeypatch.setattr(formats, "write_merged_folder", write)
    made = exports.export(exports.base(), "merged", out)
    assert [it for it in made.faults if _matches(line, it)], made.faults
    assert made.folder == out.with_name("out.failed")


def test_a_folder_with_the_adapter_twice_is_named(
    exports: Exports, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights show that the adapter was merged twice."""
    written = write_merged_folder

    def write(source: Source, weights: Weights, dtype: Any, place: Path) -> None:
        written(source, _doubled(weights), dtype, place)

    monkeypatch.setattr(formats, "write_merged_folder", write)
    made = exports.export(exports.base(), "merged", out)
    assert any("holds the adapter 2 times" in it for it in made.faults)
    assert any("the likelihood of the answers differs" in it for it in made.faults)


@pytest.mark.usefixtures("llama_cpp")
def test_a_fault_in_a_modelfile_is_named(
    exports: Exports, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Modelfile whose template gives other prompts is kept aside."""
    other = "{{ range $i, $m := .Messages }}[{{ .Content }}]{{ end }}"
    monkeypatch.setattr(formats, "ollama_template", lambda source: other)
    made = exports.export(exports.base(), "ollama", out)
    assert any("Ollama's template gives" in it for it in made.faults), made.faults


def _matches(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None
