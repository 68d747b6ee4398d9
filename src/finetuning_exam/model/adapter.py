"""The LoRA adapter: made, counted, saved and loaded with nothing left unmatched."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from finetuning_exam.durable import MANIFEST, manifest_faults
from finetuning_exam.errors import AdapterError, UsageError
from finetuning_exam.model.folder import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    Origin,
    adapter_origin,
    check_adapter_folder,
)
from finetuning_exam.model.load import Base
from finetuning_exam.settings import BUILTIN_MODEL

ALL_LINEAR = "all-linear"
T = TypeVar("T")


def lora_config(r: int, alpha: int, dropout: float, targets: Sequence[str]) -> LoraConfig:
    """The PEFT config of an adapter on the named modules (`all-linear`: all but the head)."""
    modules = ALL_LINEAR if tuple(targets) == (ALL_LINEAR,) else list(targets)
    return LoraConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=modules,
        bias="none",
        task_type=TaskType.CAUSAL_LM,
    )


def add_adapter(base: Base, config: LoraConfig, seed: int) -> PeftModel:
    """The base with a fresh adapter, whose A matrices are drawn from `seed` and B are zero.

    Raises:
        UsageError: no module has a name that was asked for.
    """
    torch.manual_seed(seed)
    config.fan_in_fan_out = linear_kinds(base) == {"Conv1D"}  # GPT-2 stores its weights transposed
    wanted = config.target_modules
    if isinstance(wanted, (set, list)):
        names = [f".{name}" for name, _ in _linear_modules(base)]
        unknown = sorted(it for it in wanted if not any(n.endswith(f".{it}") for n in names))
        if unknown:
            raise UsageError(
                f"--lora_target_modules: {base.name} has no module {', '.join(unknown)}.",
                f"It has: {', '.join(linear_names(base))}.",
            )
    if base.name != BUILTIN_MODEL:  # the built-in base has no name that PEFT could find
        base.model.name_or_path = base.name
    try:
        return get_peft_model(base.model, config)
    except ValueError as error:
        raise UsageError(
            f"--lora_target_modules: {str(error).splitlines()[0]}",
            f"Modules of {base.name}: {', '.join(linear_names(base))}.",
        ) from error


def linear_kinds(base: Base) -> set[str]:
    """The classes of the modules an adapter can sit on: Linear, or Conv1D as in GPT-2."""
    return {kind for _, kind in _linear_modules(base)}


def linear_names(base: Base) -> tuple[str, ...]:
    """The last names of the modules an adapter can sit on, the output head left out."""
    return tuple(sorted({name.rsplit(".", 1)[-1] for name, _ in _linear_modules(base)}))


def _linear_modules(base: Base) -> list[tuple[str, str]]:
    """Name and class of every linear module but the output head."""
    head = base.model.get_output_embeddings()
    found = [(name, it) for name, it in base.model.named_modules() if it is not head]
    kinds = ((name, type(it).__name__) for name, it in found)
    return [(name, kind) for name, kind in kinds if kind in ("Linear", "Conv1D")]


def adapted_modules(model: PeftModel) -> int:
    """How many modules carry an adapter."""
    return sum(name.endswith("lora_A.default") for name, _ in model.named_modules())


def save_adapter(model: PeftModel, folder: Path) -> None:
    """Write the adapter's weights and config in PEFT's own format."""
    model.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty card; ours is written later


def adapter_tensors(model: PeftModel) -> dict[str, torch.Tensor]:
    """A copy of the adapter's weights on the CPU, by the names PEFT stores them under."""
    found = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: value.detach().cpu().clone() for name, value in found.items()}


def restore_adapter(model: PeftModel, tensors: dict[str, torch.Tensor]) -> None:
    """Put weights into a model's adapter, in place.

    Raises:
        AdapterError: they are not those of the adapter, one to one.
    """
    own = get_peft_model_state_dict(model, save_embedding_layers=False)
    odd = sorted(
        name
        for name in own.keys() | tensors.keys()
        if name not in own or name not in tensors or own[name].shape != tensors[name].shape
    )
    if odd:
        raise AdapterError(
            f"{len(odd)} tensors do not fit the adapter, such as {odd[0]}.",
            "It is of another base, rank or choice of modules.",
        )
    set_peft_model_state_dict(model, tensors)


def load_adapter(base: Base, folder: Path) -> PeftModel:
    """The base with the adapter of a folder, in evaluation mode.

    Raises:
        UsageError: the folder holds no adapter.
        AdapterError: it is damaged, made for another base, or its tensors do not match one to one.
    """
    check_adapter_folder(folder)
    origin = adapter_origin(folder)
    check_sealed(folder, origin)
    _check_base(base, folder, origin)
    stored = _stored_keys(folder)
    try:
        with warnings.catch_warnings():
            # PEFT warns of missing tensors and goes on; below they are an error.
            warnings.filterwarnings("ignore", "Found missing adapter keys", UserWarning)
            model = PeftModel.from_pretrained(base.model, str(folder), is_trainable=False)
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise AdapterError(
            f"{folder}: the adapter does not fit {base.name} ({reason}).",
            "Name the base it was trained on with --model.",
        ) from error
    expected = set(get_peft_model_state_dict(model, save_embedding_layers=False))
    if stored != expected:
        odd = sorted(stored ^ expected)
        raise AdapterError(
            f"{folder}: {len(expected - stored)} tensors of the adapter are missing and "
            f"{len(stored - expected)} are unknown, such as {odd[0]}.",
            "Train it again, or copy the folder again.",
        )
    model.eval()
    return model


def _check_base(base: Base, folder: Path, origin: Origin) -> None:
    """Refuse a base that is not the one run.json names; without run.json only shapes tell."""
    if origin.base_sha256 not in (None, base.sha256):
        raise AdapterError(
            f"{folder}: the adapter was trained on {origin.base_name} "
            f"(sha256 {str(origin.base_sha256)[:12]}), not on {base.name} "
            f"(sha256 {base.sha256[:12]}).",
            "Name the base it was trained on with --model.",
        )


def check_sealed(folder: Path, origin: Origin) -> None:
    """Refuse files that are not the bytes the run wrote; another tool's adapter has no manifest.

    Raises:
        AdapterError: a file is damaged, or the manifest of a finished run is missing.
    """
    if not origin.adapter_sha256 and not (folder / MANIFEST).exists():
        return
    faults = manifest_faults(folder, (ADAPTER_CONFIG, ADAPTER_WEIGHTS))
    if faults:
        raise AdapterError(
            f"{folder}: the adapter is damaged ({', '.join(faults)}).",
            "Train it again, or copy the whole folder again.",
        )


def start_from(model: PeftModel, base: Base, folder: Path) -> None:
    """Give a fresh adapter the weights of another run's, or of a checkpoint's.

    Raises:
        UsageError: the folder holds no adapter.
        AdapterError: it is damaged, or of another base, rank or choice of modules.
    """
    check_adapter_folder(folder)
    origin = adapter_origin(folder)
    check_sealed(folder, origin)
    _check_base(base, folder, origin)
    try:
        restore_adapter(model, load_file(folder / ADAPTER_WEIGHTS))
    except SafetensorError as error:
        raise AdapterError(f"{folder / ADAPTER_WEIGHTS}: is damaged ({error}).") from error
    except AdapterError as error:
        raise AdapterError(f"{folder}: {error.what}", error.hint) from error


def base_and_tuned(model: PeftModel, measure: Callable[[], T]) -> tuple[T, T]:
    """The same measurement of the base (the adapter off) and of the tuned model."""
    tuned = measure()
    with model.disable_adapter():
        return measure(), tuned


def _stored_keys(folder: Path) -> set[str]:
    try:
        with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as file:
            return set(file.keys())
    except (SafetensorError, OSError) as error:
        raise AdapterError(
            f"{folder / ADAPTER_WEIGHTS}: is damaged ({error}).",
            "Train it again, or copy it again.",
        ) from error
