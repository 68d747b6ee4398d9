"""Model and adapter folders, checked without torch so that mistakes are reported at once."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import get_args

from finetuning_exam.errors import AdapterError, ModelError, UsageError
from finetuning_exam.model.preflight import code_in_adapter, code_in_model
from finetuning_exam.settings import BUILTIN_MODEL, Dtype, FieldSettings, Format, Template

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
RUN = "run.json"
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True, slots=True)
class Origin:
    """The run an adapter comes from, as far as its folder records it."""

    base_name: str
    base_sha256: str | None = None
    template: Template | None = None
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
    """What run.json, or else adapter_config.json, says of the base an adapter was trained on; the
    run.json of a checkpoint stands in the folder above.
    """
    run = read_object(folder / RUN) or (
        read_object(folder.parent / RUN) if folder.name.startswith("checkpoint-") else {}
    )
    base = run.get("base")
    if isinstance(base, dict) and "name" in base and "sha256" in base:
        template: Template = "chat" if run.get("template") == "chat" else "plain"
        return Origin(
            str(base["name"]),
            str(base["sha256"]),
            template,
            cpu_dtype(run),
            _text_in(run, "adapter", "sha256") if (folder / RUN).exists() else None,
            _texts_in(run, "data", "paths"),
            _text_in(run, "data", "sha256"),
            _max_length_in(run),
            _fields_in(run),
        )
    config = read_object(folder / ADAPTER_CONFIG)
    return Origin(str(config.get("base_model_name_or_path") or BUILTIN_MODEL))


def cpu_dtype(run: Mapping[str, object]) -> Dtype | None:
    """The number format of a run on a CPU by its run.json; None: it was elsewhere, or not told."""
    if run.get("device") != "cpu":
        return None
    return next((it for it in get_args(Dtype) if it == run.get("dtype")), None)


def _text_in(run: dict[str, object], part: str, key: str) -> str | None:
    inner = run.get(part)
    value = inner.get(key) if isinstance(inner, dict) else None
    return value if isinstance(value, str) else None


def _max_length_in(run: dict[str, object]) -> int | None:
    settings = run.get("settings")
    value = settings.get("max_length") if isinstance(settings, dict) else None
    return value if isinstance(value, int) else None


def _fields_in(run: dict[str, object]) -> FieldSettings:
    wanted = _text_in(run, "settings", "format")
    return FieldSettings(
        format=next((it for it in get_args(Format) if it == wanted), "auto"),
        prompt_field=_text_in(run, "settings", "prompt_field"),
        answer_field=_text_in(run, "settings", "answer_field"),
    )


def _texts_in(run: dict[str, object], part: str, key: str) -> tuple[str, ...]:
    inner = run.get(part)
    value = inner.get(key) if isinstance(inner, dict) else None
    return tuple(map(str, value)) if isinstance(value, list) else ()


def read_object(path: Path) -> dict[str, object]:
    """The object a JSON file holds, empty where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
