"""Encode texts as ids, in batches, with the part of a Transformers tokenizer used here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, cast

from finetuning_exam.data.encoding.chat_template import ChatTokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

_PROBE = " What, ls -l?\n\n### Response:\nÄ 12  files…"


class AddedToken(Protocol):
    """A token that a tokenizer has in addition to its vocabulary."""

    content: str
    special: bool


class Tokenizer(ChatTokenizer, Protocol):
    """The part of a Transformers tokenizer that is used here."""

    bos_token_id: int | None
    eos_token_id: int | None
    added_tokens_decoder: Mapping[int, AddedToken]

    def encode(
        self, text: str, *, add_special_tokens: bool, split_special_tokens: bool = False
    ) -> list[int]:
        """Return the ids of a text."""
        ...

    def get_vocab(self) -> Mapping[str, int]:
        """Return the id of every token, added ones included."""
        ...

    def decode(self, token_ids: list[int]) -> str:
        """Return the text of ids, special tokens included."""
        ...


def fast_backend(tokenizer: Tokenizer) -> Backend | None:
    """Return the tokenizer's Rust backend, if it gives the same ids as the tokenizer."""
    if not getattr(tokenizer, "is_fast", False):
        return None
    backend = cast("Backend | None", getattr(tokenizer, "backend_tokenizer", None))
    if backend is None:
        return None
    same = all(
        _encode_batch(backend, [_PROBE], split_special_tokens=split)[0]
        == tokenizer.encode(_PROBE, add_special_tokens=False, split_special_tokens=split)
        for split in (True, False)
    )
    return backend if same else None


def encode_texts(
    tokenizer: Tokenizer,
    backend: Backend | None,
    texts: Sequence[str],
    *,
    split_special_tokens: bool,
) -> list[list[int]]:
    """Return the ids of each text; the same with a backend as without, one by one.

    With `split_special_tokens` the text of a special token is ordinary text.
    """
    if backend is not None:
        return _encode_batch(backend, texts, split_special_tokens=split_special_tokens)
    return [
        tokenizer.encode(text, add_special_tokens=False, split_special_tokens=split_special_tokens)
        for text in texts
    ]


def _encode_batch(
    backend: Backend, texts: Sequence[str], *, split_special_tokens: bool
) -> list[list[int]]:
    # Transformers sets these three before each of its own calls, so nothing leaks.
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = split_special_tokens
    encodings = backend.encode_batch_fast(list(texts), add_special_tokens=False)
    return [encoding.ids for encoding in encodings]
