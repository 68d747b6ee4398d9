"""Load a base model and its tokenizer: the built-in base, a folder, or a Hub snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from finetuning_exam.data.encoding.tokens import Tokenizer
from finetuning_exam.errors import ModelError
from finetuning_exam.model.device import Compute
from finetuning_exam.model.embeddings import check_embeddings, load_checked_tokenizer
from finetuning_exam.model.folder import (
    canonical_name,
    check_model_folder,
    find_model_folder,
    weights_sha256,
)
from finetuning_exam.model.tokenizer import context_of, end_tokens

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

    `sha256` covers its weight files; `context` is in tokens; `stop_ids` are the end tokens of its
    generation config.
    """

    name: str
    folder: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    sha256: str
    n_parameters: int
    context: int
    stop_ids: tuple[int, ...]


def load_base(name: str, compute: Compute) -> Base:
    """Load `builtin`, a folder or a Hub name, in evaluation mode on the chosen device.

    Raises:
        ModelError: the model is missing, incomplete, not a causal language model, or needs remote
            code.
    """
    folder = find_model_folder(name)
    check_model_folder(folder, name)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        tokenizer = cast(PreTrainedTokenizerBase, load_checked_tokenizer(folder, name))
        model, notes = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=compute.dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except _LOAD_ERRORS as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ModelError(
            f"{name}: cannot be loaded as a causal language model ({reason}).",
            "Use a folder with config.json, model.safetensors and tokenizer files.",
        ) from error
    missing = sorted(notes["missing_keys"])
    if missing:
        raise ModelError(
            f"{name}: missing weights ({len(missing)}), such as {missing[0]}.",
            "Copy the model again.",
        )
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
        weights_sha256(folder),
        model.num_parameters(),
        context_of(model.config),
        stop_ids,
    )
