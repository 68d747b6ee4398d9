"""The LoRA adapter: create, save and load it, with every tensor accounted for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file

from finetuning_exam.durable import MANIFEST, manifest_faults
from finetuning_exam.errors import AdapterError, UsageError
from finetuning_exam.model.adapter_fit import misfit, name_fault, size_fault
from finetuning_exam.model.folder import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    Origin,
    adapter_origin,
    check_adapter_folder,
    public_name,
)
from finetuning_exam.model.load import Base
from finetuning_exam.model.targets import (
    ALL_LINEAR,
    find_targets,
    linear_modules,
    target_names,
)
from finetuning_exam.model.weights import NotWhole, Shapes, tensor_shapes

T = TypeVar("T")


def lora_config(r: int, alpha: int, dropout: float, targets: Sequence[str]) -> LoraConfig:
    """Return the PEFT config of an adapter on the named modules.

    `all-linear` stands for all linear modules except the output head.
    """
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
    """Add a fresh adapter to the base: A matrices drawn from `seed`, B matrices zero.

    Raises:
        UsageError: the base has no module with one of the requested names, or cannot have an
            adapter there.
    """
    torch.manual_seed(seed)
    config.fan_in_fan_out = linear_kinds(base) == {"Conv1D"}  # GPT-2 stores its weights transposed
    wanted = config.target_modules
    names = [wanted] if isinstance(wanted, str) else sorted(wanted or ())
    targets, unknown = find_targets(base.model, names)
    if unknown:
        raise UsageError(
            f"--lora_target_modules: {base.name} has no module {', '.join(unknown)}.",
            f"Available modules: {', '.join(target_names(base.model))}.",
        )
    modules = targets.modules
    config.target_modules = modules if isinstance(modules, str) else set(modules)
    if targets.parameters:
        if config.lora_dropout:
            raise UsageError(
                f"--lora_dropout {config.lora_dropout:g}: experts cannot be adapted with dropout.",
                "Give --lora_dropout 0, or only --lora_target_modules outside of the experts.",
            )
        config.target_parameters = targets.parameters
    base.model.name_or_path = public_name(base.name)  # PEFT records it in adapter_config.json
    try:
        return get_peft_model(base.model, config)
    except ValueError as error:
        raise UsageError(
            f"--lora_target_modules: {str(error).splitlines()[0]}",
            f"Available modules: {', '.join(target_names(base.model))}.",
        ) from error


def linear_kinds(base: Base) -> set[str]:
    """Return the classes of the modules that can be adapted: Linear, or Conv1D as in GPT-2."""
    return set(linear_modules(base.model).values())


def adapted_modules(model: PeftModel) -> int:
    """Count the modules that have an adapter."""
    return sum(name.endswith("lora_A.default") for name, _ in model.named_modules())


def save_adapter(model: PeftModel, folder: Path) -> None:
    """Write the adapter's weights and config in PEFT's own format."""
    model.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty card; report/card.py writes ours


def adapter_tensors(model: PeftModel) -> dict[str, torch.Tensor]:
    """Return a CPU copy of the adapter's weights, by the names PEFT stores them under."""
    found = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: value.detach().cpu().clone() for name, value in found.items()}


def restore_adapter(model: PeftModel, tensors: dict[str, torch.Tensor]) -> None:
    """Load weights into a model's adapter, in place.

    Raises:
        AdapterError: names or shapes do not match the adapter one to one.
    """
    own = get_peft_model_state_dict(model, save_embedding_layers=False)
    fault = size_fault(
        {name: tuple(it.shape) for name, it in tensors.items()},
        {name: tuple(it.shape) for name, it in own.items()},
    )
    if fault:
        raise AdapterError(
            f"{fault}.",
            "Use the same base, --lora_r and --lora_target_modules as the run that wrote them.",
        )
    set_peft_model_state_dict(model, tensors)


def scale_adapter(model: PeftModel, scale: float) -> None:
    """Multiply what the adapter adds to its base, in its weights, so that every runtime does."""
    with torch.no_grad():
        for weight in _outer_weights(model):
            weight.mul_(scale)


@contextmanager
def scaled_adapter(model: PeftModel, scale: float) -> Iterator[None]:
    """Scale the adapter while this is open; afterwards its weights are the same bytes."""
    weights = _outer_weights(model)
    before = [weight.detach().clone() for weight in weights]
    scale_adapter(model, scale)
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, value in zip(weights, before, strict=True):
                weight.copy_(value)


def _outer_weights(model: PeftModel) -> list[torch.Tensor]:
    """Return the B matrices, which the adapter's output is proportional to."""
    return [weight for name, weight in model.named_parameters() if ".lora_B." in name]


def load_adapter(base: Base, folder: Path) -> PeftModel:
    """Load an adapter folder onto the base; the model is in evaluation mode.

    Raises:
        UsageError: the folder contains no adapter.
        AdapterError: the adapter is damaged, was trained on a different base, or its tensors do not
            match one to one.
    """
    check_adapter_folder(folder)
    origin = adapter_origin(folder)
    check_manifest(folder, origin)
    _check_base(base, folder, origin)
    stored = _stored_shapes(folder)
    try:
        with warnings.catch_warnings():
            # PEFT only warns about missing tensors; below they are an error.
            warnings.filterwarnings("ignore", "Found missing adapter keys", UserWarning)
            model = PeftModel.from_pretrained(base.model, str(folder), is_trainable=False)
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise misfit(base, folder, stored, error) from error
    expected = get_peft_model_state_dict(model, save_embedding_layers=False)
    fault = name_fault(stored, {name: tuple(it.shape) for name, it in expected.items()})
    if fault:
        raise AdapterError(f"{folder}: {fault}.", "Copy the folder again, or retrain.")
    _refuse_not_finite(expected, folder)
    model.eval()
    return model


def _check_base(base: Base, folder: Path, origin: Origin) -> None:
    """Refuse a base other than the one in run.json; without run.json only shapes are checked."""
    if origin.base_sha256 not in (None, base.sha256):
        raise AdapterError(
            f"{folder}: the adapter was trained on {origin.base_name} "
            f"(sha256 {str(origin.base_sha256)[:12]}), not on {base.name} "
            f"(sha256 {base.sha256[:12]}).",
            "Use --model to name the base it was trained on.",
        )


def check_manifest(folder: Path, origin: Origin) -> None:
    """Check that the adapter's files are the bytes the run wrote.

    Adapters of other tools have no manifest and are not checked.

    Raises:
        AdapterError: a file is damaged, or the manifest of a finished run is missing.
    """
    if not origin.adapter_sha256 and not (folder / MANIFEST).exists():
        return
    faults = manifest_faults(folder, (ADAPTER_CONFIG, ADAPTER_WEIGHTS))
    if faults:
        raise AdapterError(
            f"{folder}: the adapter is damaged ({', '.join(faults)}).",
            "Copy the whole folder again, or retrain.",
        )


def start_from(model: PeftModel, base: Base, folder: Path) -> None:
    """Initialize a fresh adapter with the weights of another run or of a checkpoint.

    Raises:
        UsageError: the folder contains no adapter.
        AdapterError: the adapter is damaged, or has a different base, rank or set of modules.
    """
    check_adapter_folder(folder)
    origin = adapter_origin(folder)
    check_manifest(folder, origin)
    _check_base(base, folder, origin)
    _stored_shapes(folder)  # a damaged file is named in our own words
    tensors = load_file(folder / ADAPTER_WEIGHTS)
    _refuse_not_finite(tensors, folder)
    try:
        restore_adapter(model, tensors)
    except AdapterError as error:
        raise AdapterError(f"{folder}: {error.what}", error.hint) from error


def _refuse_not_finite(tensors: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Refuse weights that are NaN or infinite, with which every answer is meaningless.

    Raises:
        AdapterError: there are such weights.
    """
    wrong = sorted(name for name, it in tensors.items() if not bool(it.isfinite().all()))
    if wrong:
        raise AdapterError(
            f"{folder}: the adapter's training has diverged: {len(wrong):,} of {len(tensors):,} "
            f"tensors hold NaN or infinity, such as {wrong[0]}.",
            "Train again with a lower --learning_rate.",
        )


def base_and_tuned(model: PeftModel, measure: Callable[[], T]) -> tuple[T, T]:
    """Run the same measurement on the base (adapter disabled) and on the tuned model."""
    tuned = measure()
    with model.disable_adapter():
        return measure(), tuned


def _stored_shapes(folder: Path) -> Shapes:
    path = folder / ADAPTER_WEIGHTS
    try:
        return tensor_shapes(path)
    except NotWhole as error:
        raise AdapterError(f"{path}: {error}.", "Copy the file again, or retrain.") from None
    except OSError as error:
        raise AdapterError(f"{path}: cannot be read ({error.strerror}).") from error
