"""A tokenizer as GGUF has it: tokens, their kinds, merges or scores, and the rules of splitting."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from finetuning_exam.errors import ModelError

_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
BLANK = "\N{LOWER ONE EIGHTH BLOCK}"
"""What SentencePiece writes for a blank."""


class Kind(IntEnum):
    """The kinds of tokens, by the numbers that GGUF files have for them."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens of a model and how llama.cpp finds them in a text.

    `model` is gpt2 (byte-level BPE, by merges) or llama (SentencePiece, by scores); `pre` names the
    rules that split a text before merges, of which llama.cpp has a fixed set.
    """

    model: str
    tokens: tuple[str, ...]
    kinds: tuple[Kind, ...]
    merges: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    pre: str = "default"
    puts_blank_first: bool = False

    def with_pre(self, pre: str) -> Vocabulary:
        """Return the same tokens with other rules of splitting."""
        return replace(self, pre=pre)


def read_vocabulary(tokenizer: PreTrainedTokenizerBase, size: int, name: str) -> Vocabulary:
    """Return a tokenizer's vocabulary of `size` tokens, one for each row of the embedding.

    Raises:
        ModelError: it is of a kind that llama.cpp does not have.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise _refused(name, "it has no tokenizer.json")
    content: dict[str, Any] = json.loads(backend.to_str())
    model = content["model"]
    if model["type"] != "BPE":
        raise _refused(name, f"it is a {model['type']} tokenizer")
    tokens, kinds = _tokens(content, size)
    merges = [it.split(" ", 1) if isinstance(it, str) else it for it in model["merges"]]
    if "ByteLevel" in json.dumps(content["pre_tokenizer"]):
        if content["normalizer"] is not None and _changes_text(content["normalizer"]):
            raise _refused(name, "it normalizes texts before it splits them")
        pairs = tuple(" ".join(it) for it in merges)
        return Vocabulary("gpt2", tokens, kinds, merges=pairs)
    if not model["byte_fallback"]:
        raise _refused(name, "it is neither byte-level nor falls back to bytes")
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges):
        ranks.setdefault(left + right, rank)
    scores = tuple(-float(ranks.get(token, 0)) for token in tokens)
    return Vocabulary(
        "llama", tokens, kinds, scores=scores, puts_blank_first=_puts_blank_first(content)
    )


def _tokens(content: Mapping[str, Any], size: int) -> tuple[tuple[str, ...], tuple[Kind, ...]]:
    """Return the texts and kinds of all ids; an id without a token is unused."""
    tokens = [f"[PAD{index}]" for index in range(size)]
    kinds = [Kind.UNUSED] * size
    unknown = content["model"].get("unk_token")
    falls_back = bool(content["model"].get("byte_fallback"))
    for text, index in content["model"]["vocab"].items():
        if index >= size:
            continue
        tokens[index] = text
        kinds[index] = Kind.NORMAL
        if text == unknown:
            kinds[index] = Kind.UNKNOWN
        elif falls_back and _BYTE.fullmatch(text):
            kinds[index] = Kind.BYTE
    for added in content["added_tokens"]:
        index = added["id"]
        if index < size and kinds[index] not in (Kind.UNKNOWN, Kind.BYTE):
            tokens[index] = added["content"]
            kinds[index] = Kind.CONTROL if added["special"] else Kind.USER_DEFINED
    return tuple(tokens), tuple(kinds)


def _puts_blank_first(content: Mapping[str, Any]) -> bool:
    """Return whether a text is read as if a blank stood before it."""
    text = json.dumps([content["normalizer"], content["pre_tokenizer"]], ensure_ascii=False)
    return (
        '"Prepend"' in text
        or '"prepend_scheme": "always"' in text
        or ('"prepend_scheme": "first"' in text)
    )


def _changes_text(normalizer: Mapping[str, Any]) -> bool:
    """Return whether a normalizer of a byte-level tokenizer does anything that matters."""
    parts = normalizer.get("normalizers", [normalizer])
    return bool(parts)


def _refused(name: str, why: str) -> ModelError:
    return ModelError(
        f"{name}: llama.cpp has no tokenizer of this kind ({why}).",
        "Export it with fte export merged.",
    )
