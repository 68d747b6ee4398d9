"""Check that every token of a tokenizer has an embedding, without loading the model."""

from __future__ import annotations

from pathlib import Path

from finetuning_exam.data.encoding.tokens import Tokenizer
from finetuning_exam.durable import read_object
from finetuning_exam.errors import ModelError


def load_checked_tokenizer(folder: Path, name: str) -> Tokenizer:
    """Load the tokenizer of a model folder; every id of it has an embedding.

    Raises:
        ModelError: the tokenizer cannot be loaded, or has tokens that the model lacks.
    """
    from finetuning_exam.model.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(folder)
    rows = n_embeddings(folder)
    if rows is not None:
        check_embeddings(tokenizer, rows, name)
    return tokenizer


def n_embeddings(folder: Path) -> int | None:
    """Return the number of embeddings that config.json asks for, or its family's default.

    None if config.json cannot be used, which is reported when the model is loaded. A default is
    looked up with torch.
    """
    config = read_object(folder / "config.json")
    text = config.get("text_config")
    found = (text if isinstance(text, dict) else config).get("vocab_size")
    if isinstance(found, int):
        return found
    try:
        from transformers import AutoConfig

        whole = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception:  # config classes raise all kinds of errors
        return None
    default = getattr(whole.get_text_config(), "vocab_size", None)
    return default if isinstance(default, int) else None


def check_embeddings(tokenizer: Tokenizer, rows: int, name: str) -> None:
    """Check that no id of a tokenizer is beyond the embeddings of the model.

    Raises:
        ModelError: some tokens have no embedding; the message names the first.
    """
    beyond = {token: number for token, number in tokenizer.get_vocab().items() if number >= rows}
    if not beyond:
        return
    first = min(beyond, key=lambda token: beyond[token])
    n = len(beyond)
    what = "a token" if n == 1 else f"{n:,} tokens"
    raise ModelError(
        f"{name}: the tokenizer has {what} without an embedding, such as {first!r} (id "
        f"{beyond[first]:,}): the model has {rows:,} embeddings.",
        "Use the tokenizer that belongs to this model, or a model whose embeddings were resized.",
    )
