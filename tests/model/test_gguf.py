"""A GGUF file is a base like any other, or is refused with the reason."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import dequantize, quantize
from gguf_files import write_gguf
from safetensors.torch import load_file
from tiny import LEAN, Models, rows, write_rows

from finetuning_exam.cache import CACHE, cache_folder
from finetuning_exam.cli import main
from finetuning_exam.durable import read_object
from finetuning_exam.errors import DiskError, ModelError
from finetuning_exam.model import gguf
from finetuning_exam.model.device import choose_compute
from finetuning_exam.model.folder import canonical_name, check_local_model, find_model_folder
from finetuning_exam.model.load import load_base

COMPUTE = choose_compute("cpu", "float32")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in an empty folder and with an empty cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    gguf._unpacked_once.cache_clear()


def _logits(name: str) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = load_base(name, COMPUTE).model(torch.arange(1, 40)[None]).logits
    return logits


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", [GGMLQuantizationType.F32, GGMLQuantizationType.F16])
def test_the_model_is_the_one_in_the_file(
    models: Models, tied: bool, kind: GGMLQuantizationType
) -> None:
    """Weights and ids are those of the folder from which the file was written."""
    original = models.folder(tie_word_embeddings=tied, text="chat")
    write_gguf(original, Path("m.gguf"), kind)
    base = load_base("m.gguf", COMPUTE)
    atol = 1e-5 if kind == GGMLQuantizationType.F32 else 0.05
    torch.testing.assert_close(_logits("m.gguf"), _logits(str(original)), rtol=0, atol=atol)
    expected = load_base(str(original), COMPUTE)
    for text in ("What is LoRA?", "  two  spaces\n\n", "naïve 日本 🙂", "<|user|>\nHi<|end|>"):
        assert base.tokenizer(text)["input_ids"] == expected.tokenizer(text)["input_ids"]
    assert base.tokenizer.chat_template == expected.tokenizer.chat_template
    assert base.tokenizer.eos_token == expected.tokenizer.eos_token
    assert base.context == expected.context
    assert (base.source_note, expected.source_note) == (gguf.NOTE, None)


def test_rounded_weights_are_those_of_the_file(models: Models) -> None:
    """Q8_0 has 8 bits per weight: the base has the rounded numbers, to the last bit."""
    original = models.folder()
    write_gguf(original, Path("m.gguf"), GGMLQuantizationType.Q8_0)
    name = "model.layers.1.mlp.up_proj.weight"
    found, exact = (
        load_file(folder / "model.safetensors")[name].float().numpy()
        for folder in (find_model_folder("m.gguf"), original)
    )
    kind = GGMLQuantizationType.Q8_0
    assert (found == dequantize(quantize(exact, kind), kind)).all()
    assert (found != exact).any()


def test_it_is_unpacked_once_and_bound_by_its_content(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of the file is the same base; another file under the same name is another."""
    write_gguf(models.folder(), Path("m.gguf"))
    first = load_base("m.gguf", COMPUTE).sha256
    shutil.copy("m.gguf", "copy.gguf")
    gguf._unpacked_once.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(gguf, "_unpack", lambda *_: pytest.fail("unpacked again"))
        assert load_base("copy.gguf", COMPUTE).sha256 == first
    write_gguf(models.folder(seed=1), Path("m.gguf"))
    assert load_base("m.gguf", COMPUTE).sha256 != first


def test_a_damaged_cache_is_replaced(models: Models) -> None:
    """What was changed in the cache is found by its manifest, and unpacked again."""
    write_gguf(models.folder(), Path("m.gguf"))
    weights = find_model_folder("m.gguf") / "model.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before[:-4] + b"\0\0\0\1")
    gguf._unpacked_once.cache_clear()
    assert (find_model_folder("m.gguf") / "model.safetensors").read_bytes() == before


def test_a_run_from_gguf_is_checked_trained_and_examined(
    models: Models, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command takes the file; an adapter is refused on a file that has changed."""
    write_gguf(models.folder(), Path("m.gguf"))
    write_rows(Path("d.jsonl"), rows(40))
    assert main(["check", "d.jsonl", "--model", "m.gguf"]) == 0
    flags = ["d.jsonl", "--device", "cpu", "--answered_examples", "2", "--max_new_tokens", "4"]
    assert main(["train", *flags, "--model", "m.gguf", "--max_steps", "2", *LEAN]) == 0
    assert f"m.gguf: {gguf.NOTE}" in capsys.readouterr().out.replace("\n", " ")
    assert canonical_name("m.gguf") == str(Path("m.gguf").resolve())
    assert read_object(Path("output/adapter_config.json"))["base_model_name_or_path"] == "./m.gguf"
    write_rows(Path("e.jsonl"), rows(60)[40:])
    exam = ["exam", "e.jsonl", "--adapter", "output", "--device", "cpu", "--skills", "none"]
    exam += ["--answered_examples", "2", "--max_new_tokens", "4"]
    assert main(exam) == 0
    write_gguf(models.folder(seed=1), Path("m.gguf"))
    assert main(exam) == 3
    assert "trained on" in capsys.readouterr().err


def _refusal(name: str) -> str:
    with pytest.raises(ModelError) as caught:
        check_local_model(name)
    return str(caught.value)


@pytest.mark.parametrize("n_bytes", [0, 3, 20, 400, 3_000, -1, -40_000])
def test_a_cut_file_is_refused(models: Models, n_bytes: int) -> None:
    """A download that broke off is named as such, wherever it did."""
    write_gguf(models.folder(), Path("m.gguf"))
    whole = Path("m.gguf").read_bytes()
    Path("m.gguf").write_bytes(whole[:n_bytes])
    assert _refusal("m.gguf").startswith(
        ("m.gguf: cut or damaged (", "m.gguf: not a GGUF file, whatever its name says. ")
    )
    assert not [path for path in (cache_folder() / "gguf").iterdir() if path.suffix != ".lock"]


def test_other_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no whole language model, or cannot be read, is named as what it is."""
    assert _refusal("gone.gguf") == "gone.gguf: no such GGUF file. Check the path."
    Path("m-00001-of-00003.gguf").write_bytes(b"GGUF")
    assert "split over several files. Join them" in _refusal("m-00001-of-00003.gguf")
    for kind, name in (("adapter", "a LoRA adapter"), ("mmproj", "image or audio part")):
        _write_header(Path("a.gguf"), kind, "llama")
        assert f"{name}" in _refusal("a.gguf")
    _write_header(Path("a.gguf"), "model", "rwkv7")
    assert "a.gguf: Transformers cannot read this model from GGUF (" in _refusal("a.gguf")
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    assert "reading GGUF needs the package gguf. Install it" in _refusal("a.gguf")


def _write_header(path: Path, kind: str, architecture: str) -> None:
    writer = GGUFWriter(path, architecture)
    writer.add_type(kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_folder_of_gguf_files_names_them(models: Models) -> None:
    """The hint is the command that works."""
    Path("m m").mkdir()
    write_gguf(models.folder(), Path("m m/a.gguf"))
    assert _refusal("m m").endswith("Give the file: --model 'm m/a.gguf'.")
    Path("m m/config.json").write_text("{}", encoding="utf-8")
    shutil.copy("m m/a.gguf", "m m/b.gguf")
    assert _refusal("m m").endswith("a.gguf', or another of its 2 GGUF files.")


def test_room_and_permission_are_checked(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, or a cache that cannot be made, is one line and leaves nothing."""
    write_gguf(models.folder(), Path("m.gguf"))
    usage = shutil.disk_usage(".")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
        with pytest.raises(DiskError, match=r"unpacked, it takes 0\.0 GB, and .* Free some space"):
            check_local_model("m.gguf")
    Path("file").touch()
    monkeypatch.setenv(CACHE, "file/cache")
    assert "cannot be unpacked into file/cache/gguf (Not a directory). Set FTE_CACHE" in _refusal(
        "m.gguf"
    )
