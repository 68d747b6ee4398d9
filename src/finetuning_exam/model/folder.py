"""Model and adapter folders, checked without torch so that mistakes are reported at once."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from datetime import datetime
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
    """The run an adapter comes from, as far as its folder records it."""

    base_name: str
    base_sha256: str | None = None
    template: Template | None = None
    template_date: datetime | None = None
    """The date that the chat template wrote in training; None where it writes none."""
    cpu_dtype: Dtype | None = None
    """Number format of the training, if it ran on a CPU."""
    adapter_sha256: str | None = None
    data_paths: tuple[str, ...] = ()
    data_sha256: str | None = None
    max_length: int | None = None
    """`--max_length` of the training, in tokens."""
    fields: FieldSettings = field(default_factory=FieldSettings)
    """Settings with which the training files were read."""


def find_model_folder(name: str) -> Path:
    """Return the folder of a model name; a name that looks like a path is never sought on the Hub.

    Raises:
        ModelError: the folder does not exist, or the download failed.
    """
    if name == BUILTIN_MODEL:
        return Path(str(files("finetuning_exam.model") / "builtin"))
    try:
        path = Path(name).expanduser()
        if path.is_dir():
            return path
        is_file = path.exists()
    except (OSError, RuntimeError, ValueError):  # unknown home, or a name the system rejects
        is_file = False
    if is_file:
        raise ModelError(f"{name}: a file, not a model folder.", "Use the folder that contains it.")
    if looks_like_path(name):
        raise ModelError(
            f"{name}: no such model folder.", "Check the path, or use --model builtin."
        )
    return _from_hub(name)


def looks_like_path(name: str) -> bool:
    """Return True if a name starts like a path, or cannot be a Hub name."""
    return name.startswith((".", "/", "~")) or _HUB_NAME.fullmatch(name) is None


def check_model_folder(folder: Path, name: str) -> None:
    """Check a model folder before anything is loaded from it.

    Raises:
        ModelError: config.json is missing or broken, there are no safetensors weights, or the
            folder brings code (see `preflight`).
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{name}: no config.json in this folder.",
            "Use a folder that contains a Transformers model.",
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{name}: config.json cannot be read ({error}).", "Copy the model again."
        ) from error
    if not isinstance(config, dict):
        raise ModelError(f"{name}: config.json is not an object.", "Copy the model again.")
    code = code_in_model(folder)
    if code:
        raise ModelError(
            f"{name}: needs to run its own code ({code}), which is never allowed.",
            "Use a model whose architecture is part of Transformers.",
        )
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{name}: no .safetensors weights in this folder.",
            "Other formats can run code when loaded; convert the weights first.",
        )


def check_local_model(name: str) -> None:
    """Check a local model folder early; a Hub name is only checked when it is loaded.

    Raises:
        ModelError: the folder is missing or cannot be used.
    """
    if name == BUILTIN_MODEL or looks_like_path(name) or os.path.exists(name):
        check_model_folder(find_model_folder(name), name)


def weights_sha256(folder: Path) -> str:
    """Return the SHA-256 over all weight files, sorted by name, each preceded by its name."""
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
            f"{name}: not a local folder, and the Hub download failed ({type(error).__name__}).",
            "Check the name and the network, or use a local folder.",
        ) from error


def canonical_name(name: str) -> str:
    """Return a name that finds the model again: the absolute path of a local folder."""
    path = Path(name).expanduser()
    return str(path.resolve()) if name != BUILTIN_MODEL and path.is_dir() else name


def check_adapter_folder(folder: Path) -> None:
    """Check early that a folder contains an adapter.

    Raises:
        UsageError: the folder, its weights or its config is missing.
        AdapterError: the config would make a library import code.
    """
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (folder / name).is_file():
            raise UsageError(
                f"{folder}: no {name} in this folder.",
                "Train first (fte train), or use --adapter to name the adapter's folder.",
            )
    code = code_in_adapter(folder / ADAPTER_CONFIG)
    if code:
        raise AdapterError(
            f"{folder}: needs to run its own code ({code}), which is never allowed.",
            "Use an adapter without custom code.",
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
        template_date=inputs.date,
        cpu_dtype=inputs.cpu_dtype,
        adapter_sha256=own.adapter_sha256 if own else None,
        data_paths=run.data_paths,
        data_sha256=inputs.data.sha256 if inputs.data else None,
        max_length=inputs.max_length,
        fields=inputs.fields,
    )
