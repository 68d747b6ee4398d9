"""Load a base model and its tokenizer: the built-in base, a folder, or a Hub snapshot."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from finetuning_exam.data.encoding.tokens import Tokenizer
from finetuning_exam.errors import ModelError, first_line
from finetuning_exam.model.causal import check_is_causal
from finetuning_exam.model.device import Compute
from finetuning_exam.model.embeddings import check_embeddings, load_checked_tokenizer
from finetuning_exam.model.folder import (
    canonical_name,
    check_model_folder,
    find_model_folder,
)
from finetuning_exam.model.gguf import NOTE, is_gguf
from finetuning_exam.model.tokenizer import context_of, end_tokens
from finetuning_exam.model.weights import uneven_experts, weights_sha256

_LOAD_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    RuntimeError,
    ImportError,
    SafetensorError,
)


@dataclass(frozen=True, slots=True)
class Base:
    """A loaded base model.

    `sha256` covers the weight files that were loaded; `context` is in tokens; `stop_ids` are the
    end tokens of its generation config; `notes` say what in the folder is not used.
    """

    name: str
    folder: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    sha256: str
    n_parameters: int
    context: int
    stop_ids: tuple[int, ...]
    notes: tuple[str, ...] = ()
    source_note: str | None = None
    """How the folder came about, where that matters."""


def load_base(name: str, compute: Compute) -> Base:
    """Load `builtin`, a folder or a Hub name, in evaluation mode on the chosen device.

    Raises:
        ModelError: the model is missing, incomplete, not a causal language model, or needs remote
            code.
    """
    folder = find_model_folder(name)
    files = check_model_folder(folder, name)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    config = _load_config(folder, name)
    tokenizer = cast(PreTrainedTokenizerBase, load_checked_tokenizer(folder, name))
    try:
        model, loading = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=compute.dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # reported below, with both sizes
            output_loading_info=True,
        )
    except _LOAD_ERRORS as error:
        uneven = uneven_experts(files.loaded)
        if uneven:
            raise ModelError(f"{name}: {uneven}.", "Copy the model again.") from error
        raise ModelError(
            f"{name}: cannot be loaded as a causal language model ({_reason(error)}).",
            "Use a folder with config.json, model.safetensors and tokenizer files.",
        ) from error
    _refuse_random_weights(loading, name)
    model.to(compute.device).eval()
    stop_ids = end_tokens(getattr(model.generation_config, "eos_token_id", None))
    # The model's own settings (repetition penalty, beams …) would change greedy answers.
    model.generation_config = GenerationConfig()
    check_embeddings(cast(Tokenizer, tokenizer), model.get_input_embeddings().num_embeddings, name)
    return Base(
        canonical_name(name),
        folder,
        model,
        tokenizer,
        weights_sha256(files.loaded),
        model.num_parameters(),
        context_of(model.config),
        stop_ids,
        tuple(filter(None, (files.note, _unexpected(loading["unexpected_keys"])))),
        NOTE if is_gguf(name) else None,
    )


def _load_config(folder: Path, name: str) -> PreTrainedConfig:
    """Return the config of a causal language model.

    Raises:
        ModelError: the architecture is unknown or of another kind, or the config is damaged.
    """
    kind = check_is_causal(folder, name)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # config classes raise all kinds of errors
        raise ModelError(
            f"{name}: config.json does not describe a {kind} model ({_reason(error)}).",
            "Copy the model again.",
        ) from error
    # Routers' logits are only for a loss that is not ours; computing it fails with a cache.
    for part in (config, config.get_text_config()):
        if getattr(part, "output_router_logits", False):
            part.output_router_logits = False
    return cast(PreTrainedConfig, config)


def _refuse_random_weights(loading: dict[str, Any], name: str) -> None:
    """Refuse a model with weights that Transformers made up, since the files lack them.

    Raises:
        ModelError: a weight is missing or has another shape than config.json says.
    """
    wrong = sorted(loading["mismatched_keys"])
    if wrong:
        key, stored, expected = wrong[0]
        raise ModelError(
            f"{name}: {_counted(wrong)} not of the size that config.json says, such as {key}: "
            f"{_size(stored)} in the file, {_size(expected)} by config.json.",
            "Use the config.json that belongs to these weights.",
        )
    missing = sorted(loading["missing_keys"])
    if missing:
        raise ModelError(
            f"{name}: missing weights ({len(missing)}), such as {', '.join(missing[:3])}.",
            "Copy the model again.",
        )
    if loading["error_msgs"]:
        raise ModelError(
            f"{name}: weights cannot be loaded ({loading['error_msgs'][0].splitlines()[0]}).",
            "Copy the model again.",
        )


def _unexpected(keys: Collection[str]) -> str | None:
    """Return a sentence about tensors that no module of the model takes; None without any."""
    if not keys:
        return None
    return f"{_counted(keys)} not part of the model and not used, such as {min(keys)}"


def _counted(tensors: Collection[object]) -> str:
    return f"{len(tensors):,} tensors are" if len(tensors) > 1 else "1 tensor is"


def _size(shape: Collection[int]) -> str:
    return " × ".join(map(str, shape)) or "a number"


def _reason(error: Exception) -> str:
    """Return the first line of a library's message, or what it lacked."""
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return first_line(error)
