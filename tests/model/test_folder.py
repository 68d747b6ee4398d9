"""Specification of what model and adapter folders must contain, checked without torch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from weight_files import save_weights

from finetuning_exam.errors import ModelError, UsageError
from finetuning_exam.model import folder as model_folder
from finetuning_exam.model.folder import (
    Origin,
    adapter_origin,
    canonical_name,
    check_adapter_folder,
    check_local_model,
    find_model_folder,
    looks_like_path,
)

REMOTE_CODE = (
    "m: needs to run its own code (auto_map in config.json), which is never allowed. "
    "Use a model whose architecture is part of Transformers."
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in an empty folder, and no name ever reaches the hub."""
    monkeypatch.chdir(tmp_path)

    def refuse(name: str) -> Path:
        raise AssertionError(f"{name} was asked of the hub")

    monkeypatch.setattr(model_folder, "_from_hub", refuse)
    return tmp_path


def _model(name: str = "m", config: str = '{"model_type": "llama"}') -> Path:
    path = Path(name)
    path.mkdir(parents=True)
    (path / "config.json").write_text(config, encoding="utf-8")
    save_weights(path / "model.safetensors", "weight")
    return path


def _adapter(path: Path, config: object = None, run: object = None) -> Path:
    path.mkdir()
    (path / "adapter_model.safetensors").touch()
    (path / "adapter_config.json").write_text(json.dumps(config or {}), encoding="utf-8")
    if run is not None:
        (path / "run.json").write_text(json.dumps(run), encoding="utf-8")
    return path


def _refusal(name: str) -> str:
    with pytest.raises(ModelError) as caught:
        check_local_model(name)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_builtin_is_inside_the_package() -> None:
    """`builtin` is the package's own folder, even beside a folder of that name."""
    _model("builtin")
    found = find_model_folder("builtin")
    assert found.is_absolute()
    assert found.parts[-2:] == ("model", "builtin")


def test_a_folder_that_is_there_is_taken() -> None:
    """A folder is found by any path to it, with `~` for the home."""
    _model("m")
    _model("org/m")
    assert find_model_folder("m") == Path("m")
    assert find_model_folder("./org/m") == Path("org/m")
    check_local_model("m")


def test_a_folder_in_the_home_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` stands for the home folder."""
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    _model("m")
    assert find_model_folder("~/m") == folder / "m"
    check_local_model("~/m")


@pytest.mark.parametrize(
    "name", ["./m", "../m", "/no/m", "~/no-such-folder", "a/b/c", "C:\\m", "a b"]
)
def test_a_path_that_is_missing_never_reaches_the_hub(name: str) -> None:
    """A name that looks like a path, or cannot be a Hub name, is a missing folder."""
    assert looks_like_path(name)
    assert (
        _refusal(name) == f"{name}: no such model folder. Check the path, or use --model builtin."
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("~no-such-user-here/m", id="home of nobody"),
        pytest.param("./" + "n" * 300, id="too long"),
        pytest.param("./a\0b", id="NUL"),
    ],
)
def test_an_impossible_path_is_reported_as_missing(name: str) -> None:
    """A path that the system cannot look up is a missing folder, not a crash."""
    assert _refusal(name).startswith(f"{name}: ")


@pytest.mark.parametrize("name", ["gpt2", "org/model", "org/model-1.5_x"])
def test_a_hub_name_waits(name: str) -> None:
    """A possible Hub name is not checked before the model is loaded."""
    assert not looks_like_path(name)
    check_local_model(name)


def test_a_file_is_no_model() -> None:
    """The error for a file says that it is a file."""
    Path("m").touch()
    assert _refusal("m") == "m: a file, not a model folder. Use the folder that contains it."


def test_an_adapter_given_as_a_model_is_named() -> None:
    """The folder of an adapter is no model, not even where Transformers would load its base."""
    _adapter(Path("out"))
    assert _refusal("out") == (
        "out: an adapter, not a model. "
        "Give its base as --model; --fork trains an adapter further, --adapter examines it."
    )
    _model("m")
    Path("m/adapter_config.json").write_text("{}", encoding="utf-8")
    assert _refusal("m").startswith("m: holds an adapter (adapter_config.json) beside the model")


def test_a_folder_without_config_is_no_model() -> None:
    """A folder without config.json is not a model."""
    Path("m").mkdir()
    assert _refusal("m") == (
        "m: no config.json in this folder. Use a folder that contains a Transformers model."
    )


def test_a_model_that_brings_code_is_refused() -> None:
    """`auto_map` in config.json means remote code: refused before anything is loaded."""
    _model(config='{"auto_map": {"AutoModelForCausalLM": "evil.Model"}}')
    assert _refusal("m") == REMOTE_CODE


def test_weights_that_are_not_safetensors_are_refused() -> None:
    """A folder with pickled weights only is refused."""
    (_model() / "model.safetensors").rename("m/pytorch_model.bin")
    assert _refusal("m") == (
        "m: no .safetensors weights in this folder. "
        "Other formats can run code when loaded; convert the weights first."
    )


@pytest.mark.parametrize("config", ["{", "\udcff", "[" * 100_000], ids=["cut", "binary", "deep"])
def test_a_broken_config_is_reported(config: str) -> None:
    """The error for a config.json that cannot be parsed names the folder and the reason."""
    (_model() / "config.json").write_bytes(config.encode("utf-8", "surrogateescape"))
    message = _refusal("m")
    assert message.startswith("m: config.json cannot be read (")
    assert "Expecting" not in message


@pytest.mark.parametrize("config", ["[]", '"auto_map"'])
def test_a_config_that_is_not_an_object_is_reported(config: str) -> None:
    """A config.json that is not an object is refused, without mentioning code."""
    _model(config=config)
    message = _refusal("m")
    assert message.startswith("m: ")
    assert "auto_map" not in message


def test_a_canonical_name_can_be_found_again(folder: Path) -> None:
    """A folder is named by its absolute path; builtin and hub names stay as they are."""
    _model("m")
    _model("builtin")
    names = [canonical_name(name) for name in ("m", "builtin", "org/model")]
    assert names == [str(folder.resolve() / "m"), "builtin", "org/model"]


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_folder_without_an_adapter_is_refused(missing: str) -> None:
    """The error names the missing file."""
    path = _adapter(Path("out"))
    check_adapter_folder(path)
    (path / missing).unlink()
    with pytest.raises(UsageError) as caught:
        check_adapter_folder(path)
    assert str(caught.value) == (
        f"out: no {missing} in this folder. "
        "Train first (fte train), or use --adapter to name the adapter's folder."
    )


def test_the_origin_is_what_the_run_says() -> None:
    """run.json takes precedence over adapter_config.json for the base and the template."""
    run: dict[str, object] = {"base": {"name": "/models/m", "sha256": "ab"}, "template": "chat"}
    path = _adapter(Path("out"), {"base_model_name_or_path": "other"}, run)
    assert adapter_origin(path) == Origin("/models/m", "ab", "chat")
    run |= {"device": "cpu", "dtype": "bfloat16"}
    (path / "run.json").write_text(json.dumps(run), encoding="utf-8")
    assert adapter_origin(path).cpu_dtype == "bfloat16"
    run["device"] = "cuda"
    run["template"] = "plain"
    (path / "run.json").write_text(json.dumps(run), encoding="utf-8")
    assert adapter_origin(path) == Origin("/models/m", "ab", "plain")


@pytest.mark.parametrize("run", [None, {"state": "unfinished"}, [], {"base": {"name": "x"}}])
def test_without_a_run_the_origin_is_what_peft_says(run: object) -> None:
    """Without run.json, adapter_config.json names the base."""
    path = _adapter(Path("out"), {"base_model_name_or_path": "org/model"}, run)
    assert adapter_origin(path) == Origin("org/model", None, None)
