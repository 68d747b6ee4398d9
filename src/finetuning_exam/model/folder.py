"""Model and adapter folders, checked without torch so that mistakes are reported at once."""

from __future__ import annotations

import errno
import json
import os
import re
from dataclasses import dataclass, field
from datetime import datetime
from importlib.resources import files
from pathlib import Path

from finetuning_exam import run_file
from finetuning_exam.answer_limit import AnswerLimit
from finetuning_exam.durable import Json, read_json, read_object
from finetuning_exam.errors import AdapterError, ModelError, UsageError
from finetuning_exam.model.gguf import gguf_in, is_gguf, unpacked
from finetuning_exam.model.preflight import code_in_adapter, code_in_model, reason_of
from finetuning_exam.model.weights import WeightFiles, weight_files
from finetuning_exam.settings import BUILTIN_MODEL, Dtype, FieldSettings, Template

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
BUILTIN_PLACE = "finetuning_exam/model/builtin"
"""What an adapter_config.json calls the built-in base: its folder within any installation."""
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True, slots=True)
class Origin:
    """The run an adapter comes from, as far as its folder records it."""

    base_name: str
    base_sha256: str | None = None
    template: Template | None = None
    template_date: datetime | None = None
    """The date that the chat template wrote in training; None where it writes none."""
    thinking: bool = False
    """Whether its answers begin with a thought."""
    folds_system: bool = False
    """Whether system texts were put before the first question."""
    cpu_dtype: Dtype | None = None
    """Number format of the training, if it ran on a CPU."""
    adapter_sha256: str | None = None
    data_paths: tuple[str, ...] = ()
    data_sha256: str | None = None
    max_length: int | None = None
    """`--max_length` of the training, in tokens."""
    fields: FieldSettings = field(default_factory=FieldSettings)
    """Settings with which the training files were read."""
    answers: AnswerLimit | None = None
    """The most examples that the run's exam answered."""


def find_model_folder(name: str) -> Path:
    """Return the folder of a model name; a name that looks like a path is never sought on the Hub.

    A GGUF file is unpacked on the first call (see `gguf.unpacked`).

    Raises:
        ModelError: the folder does not exist, the download failed, or a GGUF file cannot be used.
        DiskError: there is no room to unpack a GGUF file.
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
    if is_file and is_gguf(name):
        return unpacked(path, name)
    if is_file:
        raise _is_a_file(name)
    if is_gguf(name):
        raise ModelError(f"{name}: no such GGUF file.", "Check the path.")
    if looks_like_path(name):
        raise ModelError(
            f"{name}: no such model folder.", "Check the path, or use --model builtin."
        )
    return _from_hub(name)


def looks_like_path(name: str) -> bool:
    """Return True if a name starts like a path, or cannot be a Hub name."""
    return name.startswith((".", "/", "~")) or _HUB_NAME.fullmatch(name) is None


def check_model_folder(folder: Path, name: str) -> WeightFiles:
    """Check a model folder before anything is loaded from it; return its weight files.

    Raises:
        ModelError: config.json is missing or broken, the folder brings code (see `preflight`), or
            the weights are incomplete (see `weight_files`).
    """
    _refuse_adapter(folder, name)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{name}: no config.json in this folder.",
            gguf_in(folder) or "Use a folder that contains a Transformers model.",
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{name}: config.json cannot be read ({reason_of(error)}).", "Copy the model again."
        ) from error
    if not isinstance(config, dict):
        raise ModelError(f"{name}: config.json is not an object.", "Copy the model again.")
    code = code_in_model(folder)
    if code:
        raise ModelError(
            f"{name}: needs to run its own code ({code}), which is never allowed.",
            "Use a model whose architecture is part of Transformers.",
        )
    return weight_files(folder, name)


def _refuse_adapter(folder: Path, name: str) -> None:
    """Refuse an adapter given as a model: Transformers would load the base that it names.

    Raises:
        ModelError: the folder holds an adapter.
    """
    if not (folder / ADAPTER_CONFIG).exists():
        return
    if (folder / "config.json").exists():
        raise ModelError(
            f"{name}: holds an adapter ({ADAPTER_CONFIG}) beside the model, so it is not clear "
            "which is meant.",
            "Move the adapter to a folder of its own.",
        )
    raise ModelError(
        f"{name}: an adapter, not a model.",
        "Give its base as --model; --fork trains an adapter further, --adapter examines it.",
    )


def _is_a_file(name: str) -> ModelError:
    return ModelError(f"{name}: a file, not a model folder.", "Use the folder that contains it.")


def check_local_model(name: str) -> None:
    """Check a local model folder early; a Hub name is only checked when it is loaded.

    Raises:
        ModelError: the folder is missing or cannot be used.
    """
    if name == BUILTIN_MODEL or looks_like_path(name) or is_gguf(name) or os.path.exists(name):
        check_model_folder(find_model_folder(name), name)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    patterns = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except Exception as error:  # the network may fail in any way
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise _not_from_hub(name, error) from error


def _not_from_hub(name: str, error: Exception) -> ModelError:
    """Return the error for a Hub name that was neither downloaded nor found in the cache."""
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    missing = f"{name}: not a local folder"
    if isinstance(error, GatedRepoError):
        return ModelError(
            f"{missing}, and the Hub gives this model only to those who accepted its terms.",
            "Accept them on its page, log in with hf auth login, or give the folder of a copy.",
        )
    if isinstance(error, RepositoryNotFoundError):
        return ModelError(
            f"{missing}, and the Hub has no public model of this name.",
            "Check the name, log in if the model is private, or give the folder of a model.",
        )
    why = (
        "this machine is offline (HF_HUB_OFFLINE is set)"
        if constants.HF_HUB_OFFLINE
        else f"the Hub did not answer ({type(error).__name__})"
    )
    return ModelError(
        f"{missing}, and not in the cache of the Hub; {why}.",
        "Give the path of a folder with the model, such as ./models/name, or --model builtin.",
    )


def canonical_name(name: str) -> str:
    """Return a name that finds the model again: the absolute path of a local model."""
    path = Path(name).expanduser()
    return str(path.resolve()) if name != BUILTIN_MODEL and path.exists() else name


def public_name(name: str) -> str:
    """Return a name of a base that reveals nothing of this machine, for files that are shared.

    A folder within the current one is named relative to it, as PEFT resolves it; of any other, the
    last component is left. Both start with `./`, so that no library takes them for a Hub name.
    """
    if name == BUILTIN_MODEL:
        return BUILTIN_PLACE
    path = Path(name)
    if not path.is_absolute():
        return name
    here = Path.cwd()
    return f"./{path.relative_to(here) if path.is_relative_to(here) else path.name}"


def check_adapter_folder(folder: Path) -> None:
    """Check early that a folder contains an adapter.

    Raises:
        UsageError: the folder, its weights or its config is missing.
        AdapterError: the config is damaged, or would make a library import code.
    """
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (folder / name).is_file():
            raise UsageError(
                f"{folder}: no {name} in this folder.",
                "Train first (fte train), or use --adapter to name the adapter's folder.",
            )
    try:
        read_json(folder / ADAPTER_CONFIG)
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterError(
            f"{folder / ADAPTER_CONFIG}: cannot be read ({reason_of(error)}).",
            "Copy the folder again, or retrain.",
        ) from error
    code = code_in_adapter(folder / ADAPTER_CONFIG)
    if code:
        raise AdapterError(
            f"{folder}: needs to run its own code ({code}), which is never allowed.",
            "Use an adapter without custom code.",
        )


def _base_of(named: Json, adapter: Path) -> str:
    """Return the base that an adapter_config.json names, sought from here or from its folder."""
    if not isinstance(named, str) or named in ("", BUILTIN_PLACE):
        return BUILTIN_MODEL
    beside = adapter / named
    is_beside = named.startswith(".") and not Path(named).exists() and beside.is_dir()
    return str(beside) if is_beside else named


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
        return Origin(_base_of(config.get("base_model_name_or_path"), folder))
    inputs = run.inputs
    return Origin(
        base_name=run.inputs.base.name,
        base_sha256=run.inputs.base.sha256,
        template="chat" if inputs.template == "chat" else "plain",
        template_date=inputs.date,
        thinking=inputs.thinking,
        folds_system=inputs.folds_system,
        cpu_dtype=inputs.cpu_dtype,
        adapter_sha256=own.adapter_sha256 if own else None,
        data_paths=run.data_paths,
        data_sha256=inputs.data.sha256 if inputs.data else None,
        max_length=inputs.max_length,
        fields=inputs.fields,
        answers=inputs.plan.answers if inputs.plan else None,
    )
