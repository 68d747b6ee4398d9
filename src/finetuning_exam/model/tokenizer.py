"""A model's tokenizer, context length and end tokens, read without torch for `fte check`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from finetuning_exam.data.encoding.tokens import Tokenizer
from finetuning_exam.errors import ModelError
from finetuning_exam.model.preflight import code_in_model, reason_of

if TYPE_CHECKING:
    from transformers import PreTrainedConfig
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

FALLBACK_CONTEXT = 2048
"""Context in tokens of a model whose config has no limit."""
_CONTEXT_NAMES = (
    "max_position_embeddings",
    "n_positions",
    "max_sequence_length",
    "max_seq_len",
)
_TOKENIZER_FILES = (
    "tokenizer.json",
    "*.model",
    "vocab.*",
    "merges.txt",
    "*.tiktoken",
    "tekken.json",
)
_DEFINED_BY_JSON = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""Tokenizer classes that are completely defined by tokenizer.json."""


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load a model folder's tokenizer exactly as Transformers' AutoTokenizer does.

    A class that is completely defined by tokenizer.json is loaded without torch; classes of model
    families may add an end token, a prefix or a normalizer.

    Raises:
        ModelError: the tokenizer is missing, damaged, or needs to run its own code.
    """
    config = _read_object(folder / "tokenizer_config.json")
    code = code_in_model(folder)
    if code:
        raise ModelError(
            f"{folder}: needs to run its own code ({code}), which is never allowed.",
            "Use a tokenizer class that is part of Transformers.",
        )
    try:
        is_plain = config.get("tokenizer_class") in _DEFINED_BY_JSON
        if is_plain and (folder / "tokenizer.json").is_file():
            from transformers import PreTrainedTokenizerFast

            loaded = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
        else:
            from transformers import AutoTokenizer

            loaded = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # tokenizers raises bare Exceptions
        _refuse_damaged(folder)
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ModelError(
            f"{folder}: the tokenizer cannot be loaded ({reason.rstrip('.')}).",
            "Copy the model again.",
        ) from error
    loaded.chat_template = _one_template(loaded.chat_template, folder)
    return cast(Tokenizer, loaded)


def _one_template(found: str | dict[str, str] | None, folder: Path) -> str | None:
    """Return the chat template for conversations; a tokenizer may have several with names.

    Some folders keep it in chat_template.json, which Transformers reads for processors only.

    Raises:
        ModelError: it has several, none of which is the default.
    """
    if isinstance(found, dict):
        named = found.get("default") or (next(iter(found.values())) if len(found) == 1 else None)
        if named is None and found:
            raise ModelError(
                f"{folder}: the tokenizer has several chat templates ({', '.join(sorted(found))}), "
                "none of which is named default.",
                'Rename the one to use to "default" in tokenizer_config.json.',
            )
        return named
    if found is None:
        written = _read_object(folder / "chat_template.json").get("chat_template")
        return written if isinstance(written, str) else None
    return found


def _refuse_damaged(folder: Path) -> None:
    """Name a tokenizer's file that is missing or damaged, after a library has failed to load it.

    Raises:
        ModelError: there is no tokenizer in the folder, or its tokenizer.json is not valid JSON.
    """
    _read_object(folder / "tokenizer.json")
    if not any(path for form in _TOKENIZER_FILES for path in folder.glob(form)):
        raise ModelError(
            f"{folder}: no tokenizer in this folder (no tokenizer.json).",
            "Copy the tokenizer's files from where the model is from.",
        )


def context_length(folder: Path) -> int:
    """Return the number of positions of the model in a folder.

    If config.json does not give it, use the default of the model family, which loads torch.

    Raises:
        ModelError: config.json is damaged, or its model family is unknown.
    """
    config = _read_object(folder / "config.json")
    text = config.get("text_config")
    named = _named_context((text if isinstance(text, dict) else config).get)
    if named is not None:
        return named
    try:
        from transformers import AutoConfig

        whole = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # config classes raise all kinds of errors
        raise ModelError(
            f"{folder}: config.json cannot be used ({error}).", "Copy the model again."
        ) from error
    return context_of(whole)


def context_of(config: PreTrainedConfig) -> int:
    """Return the number of positions in a loaded config, or `FALLBACK_CONTEXT`."""
    text = config.get_text_config()
    return _named_context(lambda name: getattr(text, name, None)) or FALLBACK_CONTEXT


def _named_context(value_of: Callable[[str], object]) -> int | None:
    """Look up the number of positions under any of the names that configs use."""
    found = (value_of(name) for name in _CONTEXT_NAMES)
    return next((value for value in found if isinstance(value, int)), None)


def base_stop_ids(folder: Path) -> tuple[int, ...]:
    """Return the end tokens in generation_config.json or else config.json; may be empty.

    Raises:
        ModelError: one of the files is damaged.
    """
    generation = _read_object(folder / "generation_config.json")
    config = generation or _read_object(folder / "config.json")
    return end_tokens(config.get("eos_token_id"))


def end_tokens(found: object) -> tuple[int, ...]:
    """Return the ids in the value of `eos_token_id`, which may be one id, a list or None."""
    values = found if isinstance(found, list | tuple) else (found,)
    return tuple(value for value in values if isinstance(value, int))


def pad_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return an id to pad batches with; any will do, because the attention mask marks padding."""
    pad: int | None = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id) if pad is None else pad


def _read_object(path: Path) -> dict[str, object]:
    """Read the object in a JSON file; empty if the file does not exist.

    Raises:
        ModelError: the file cannot be read, or is not an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path}: cannot be read ({reason_of(error)}).", "Copy the model again."
        ) from error
    if not isinstance(value, dict):
        raise ModelError(f"{path}: not a JSON object.", "Copy the model again.")
    return value
