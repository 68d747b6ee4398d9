"""A model's tokenizer and what its config files say of texts, without torch: for `fte check`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from finetuning_exam.data.encoding.tokens import Tokenizer
from finetuning_exam.errors import ModelError
from finetuning_exam.model.preflight import code_in_model

if TYPE_CHECKING:
    from transformers import PreTrainedConfig
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

FALLBACK_CONTEXT = 2048
"""Tokens, for a model whose config names no limit."""
_CONTEXT_NAMES = (
    "max_position_embeddings",
    "n_positions",
    "max_sequence_length",
    "max_seq_len",
)
_WHOLE_IN_JSON = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""Tokenizer classes that add nothing of their own to what tokenizer.json says."""


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in a model's folder, as Transformers' AutoTokenizer loads it.

    Where the class says that tokenizer.json is all there is to it, torch is not loaded for that; a
    class of a model family may add an end token, a prefix or a normalizer of its own. A tokenizer
    that brings code is refused.

    Raises:
        ModelError: there is none, or its files are damaged.
    """
    config = _read_object(folder / "tokenizer_config.json")
    code = code_in_model(folder)
    if code:
        raise ModelError(
            f"{folder}: wants to run code of its own ({code}), which is never done.",
            "Use a tokenizer that Transformers has.",
        )
    try:
        is_whole = config.get("tokenizer_class") in _WHOLE_IN_JSON
        if is_whole and (folder / "tokenizer.json").is_file():
            from transformers import PreTrainedTokenizerFast

            loaded = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
        else:
            from transformers import AutoTokenizer

            loaded = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # tokenizers raises bare Exceptions
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ModelError(
            f"{folder}: its tokenizer cannot be loaded ({reason.rstrip('.')}).",
            "Copy the model again.",
        ) from error
    return cast(Tokenizer, loaded)


def context_length(folder: Path) -> int:
    """How many positions the model in a folder has.

    Where config.json does not say, the default of its model family counts, which loads torch.

    Raises:
        ModelError: config.json is damaged or of no known family.
    """
    config = _read_object(folder / "config.json")
    text = config.get("text_config")
    named = _named_context((text if isinstance(text, dict) else config).get)
    if named is not None:
        return named
    try:
        from transformers import AutoConfig

        whole = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever the family's class makes of the file
        raise ModelError(f"{folder}: its config.json cannot be used ({error}).") from error
    return context_of(whole)


def context_of(config: PreTrainedConfig) -> int:
    """How many positions a loaded config names, else `FALLBACK_CONTEXT`."""
    text = config.get_text_config()
    return _named_context(lambda name: getattr(text, name, None)) or FALLBACK_CONTEXT


def _named_context(value_of: Callable[[str], object]) -> int | None:
    """The positions that a config of a text model names, under whichever name."""
    found = (value_of(name) for name in _CONTEXT_NAMES)
    return next((value for value in found if isinstance(value, int)), None)


def base_stop_ids(folder: Path) -> tuple[int, ...]:
    """The end tokens that generation_config.json names, or else config.json; may be none.

    Raises:
        ModelError: one of the files is damaged.
    """
    generation = _read_object(folder / "generation_config.json")
    config = generation or _read_object(folder / "config.json")
    return end_tokens(config.get("eos_token_id"))


def end_tokens(found: object) -> tuple[int, ...]:
    """The ids under `eos_token_id`: one, several or none."""
    values = found if isinstance(found, list | tuple) else (found,)
    return tuple(value for value in values if isinstance(value, int))


def pad_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return an id to fill batches with; the attention mask says what is filling, so any serves."""
    pad: int | None = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id) if pad is None else pad


def _read_object(path: Path) -> dict[str, object]:
    """The object in a JSON file, empty where there is no file.

    Raises:
        ModelError: it cannot be read, or holds no object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read ({error}).", "Copy the model again.") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path}: holds no object.", "Copy the model again.")
    return value
