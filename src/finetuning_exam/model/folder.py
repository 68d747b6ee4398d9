"""Folders of models and adapters, looked at without torch so that a mistake is told at once."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from finetuning_exam import run_file
from finetuning_exam.durable import read_object
from finetuning_exam.errors import AdapterError, ModelError, UsageError
from finetuning_exam.model.preflight import code_in_adapter, code_in_model
from finetuning_exam.settings import BUILTIN_MODEL, Dtype, FieldSettings, Template

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an adapter comes from, as far as its folder tells."""

    base_name: str
    base_sha256: str | None = None
    template: Template | None = None
    cpu_dtype: Dtype | None = None
    """Number format of its training, where that was on a CPU."""
    adapter_sha256: str | None = None
    data_paths: tuple[str, ...] = ()
    data_sha256: str | None = None
    max_length: int | None = None
    """The longest row of its training, in tokens."""
    fields: FieldSettings = field(default_factory=FieldSettings)
    """How its training files were read."""


def find_model_folder(name: str) -> Path:
    """The folder a model name stands for; a path-like name never falls through to the hub.

    Raises:
        ModelError: no such folder, or the hub does not give it.
    """
    if name == BUILTIN_MODEL:
        return Path(str(files("finetuning_exam.model") / "builtin"))
    try:
        path = Path(name).expanduser()
        if path.is_dir():
            return path
        is_file = path.exists()
    except (OSError, RuntimeError, ValueError):  # no such home; a name the system does not take
        is_file = False
    if is_file:
        raise ModelError(
            f"{name}: is a file, not a model folder.", "Give the folder that holds it."
        )
    if looks_like_path(name):
        raise ModelError(f"{name}: no such model folder.", "Give a folder, or --model builtin.")
    return _from_hub(name)


def looks_like_path(name: str) -> bool:
    """Whether a name is meant as a path: it starts like one, or is no possible hub name."""
    return name.startswith((".", "/", "~")) or _HUB_NAME.fullmatch(name) is None


def check_model_folder(folder: Path, name: str) -> None:
    """Refuse, before anything is loaded, a folder without its files or one that brings code.

    Raises:
        ModelError: no or broken config.json, no safetensors weights, or anything that brings code
            (`preflight`).
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{name}: holds no config.json.", "Give a folder that holds a Transformers model."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{name}: its config.json cannot be read ({error}).") from error
    if not isinstance(config, dict):
        raise ModelError(f"{name}: its config.json holds no object.", "Copy the model again.")
    code = code_in_model(folder)
    if code:
        raise ModelError(
            f"{name}: wants to run code of its own ({code}), which is never done.",
            "Use a model whose architecture Transformers has.",
        )
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{name}: holds no .safetensors weights.",
            "Other formats can run code when opened; convert them first.",
        )


def check_local_model(name: str) -> None:
    """Check a model's folder now, if the name stands for one; a hub name waits until it is loaded.

    Raises:
        ModelError: the folder is missing or cannot be used.
    """
    if name == BUILTIN_MODEL or looks_like_path(name) or os.path.exists(name):
        check_model_folder(find_model_folder(name), name)


def weights_sha256(folder: Path) -> str:
    """SHA-256 over the weight files in order of name, each preceded by its name."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        digest.update(file.name.encode("utf-8"))
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 22):
                digest.update(chunk)
    return digest.hexdigest()


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise ModelError(
            f"{name}: no such folder here, and the hub did not give it ({type(error).__name__}).",
            "Check the name and the network, or give a folder.",
        ) from error


def canonical_name(name: str) -> str:
    """A model's name as it can be found again: a folder by its absolute path."""
    path = Path(name).expanduser()
    return str(path.resolve()) if name != BUILTIN_MODEL and path.is_dir() else name


def check_adapter_folder(folder: Path) -> None:
    """Fail early when a folder is no adapter.

    Raises:
        UsageError: the folder, its weights or its config is missing.
        AdapterError: its config would make a library import code.
    """
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (folder / name).is_file():
            raise UsageError(
                f"{folder}: holds no {name}.",
                "Train first (fte train), or give the adapter's folder with --adapter.",
            )
    code = code_in_adapter(folder / ADAPTER_CONFIG)
    if code:
        raise AdapterError(
            f"{folder}: wants to run code of its own ({code}), which is never done.",
            "Use an adapter that needs none.",
        )


def adapter_origin(folder: Path) -> Origin:
    """Return what run.json, or else adapter_config.json, says of an adapter's training.

    The run.json of a checkpoint is in the folder above.

    Raises:
        UsageError: a newer version of this program wrote the run.json.
    """
    own = run_file.read(folder)
    is_checkpoint = folder.name.startswith("checkpoint-")
    run = run_file.read(folder.parent) if own is None and is_checkpoint else own
    if run is None or run.inputs.base is None:
        config = read_object(folder / ADAPTER_CONFIG)
        return Origin(str(config.get("base_model_name_or_path") or BUILTIN_MODEL))
    inputs = run.inputs
    return Origin(
        base_name=run.inputs.base.name,
        base_sha256=run.inputs.base.sha256,
        template="chat" if inputs.template == "chat" else "plain",
        cpu_dtype=inputs.cpu_dtype,
        adapter_sha256=own.adapter_sha256 if own else None,
        data_paths=run.data_paths,
        data_sha256=inputs.data.sha256 if inputs.data else None,
        max_length=inputs.max_length,
        fields=inputs.fields,
    )
