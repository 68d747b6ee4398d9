"""Find the rules by which llama.cpp must split a text to give a tokenizer's own ids.

llama.cpp has a fixed set of rules, each with a name; a file with the wrong name loads and answers,
only worse. The name is therefore found by behaviour: rules are tried on odd texts in llama.cpp
itself until all ids are the same. Without llama.cpp, only rules that the tokenizer's own settings
identify are written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from finetuning_exam.errors import ModelError
from finetuning_exam.exporting.gguf_files.vocabulary import Vocabulary

Tokenize = Callable[[Vocabulary, Sequence[str]], list[tuple[int, ...]] | None]
"""Tokenize texts in llama.cpp with a vocabulary; None if it refuses the vocabulary."""

NAMES = (
    "gpt-2",
    "smollm",
    "llama-bpe",
    "dbrx",
    "qwen2",
    "stablelm2",
    "gpt-4o",
    "tekken",
    "olmo",
    "falcon",
    "falcon3",
    "starcoder",
    "refact",
    "command-r",
    "mpt",
    "deepseek-llm",
    "deepseek-coder",
    "deepseek-v3",
    "qwen35",
    "granite-docling",
    "exaone",
    "bloom",
    "poro-chat",
    "viking",
    "chameleon",
    "minerva-7b",
    "superbpe",
    "trillion",
    "bailingmoe",
    "llama4",
    "seed-coder",
    "a.x-4.0",
    "gigachat",
    "megrez",
    "kimi-k2",
    "hunyuan",
    "chatglm-bpe",
    "default",
)
"""Names of rules in llama.cpp, the frequent ones first."""


def with_rules(
    vocabulary: Vocabulary,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    tokenize: Tokenize | None,
) -> Vocabulary:
    """Return a byte-level vocabulary with the name of its rules; any other as it is.

    Raises:
        ModelError: no rules of llama.cpp give the tokenizer's ids, or they cannot be tried.
    """
    if vocabulary.model != "gpt2":
        return vocabulary
    likely = likely_name(tokenizer)
    if tokenize is None:
        if likely is None:
            raise ModelError(
                "llama.cpp has many rules for splitting texts, and which of them this tokenizer "
                "needs can only be found by trying them.",
                "Install llama.cpp for Python: pip install xllamacpp.",
            )
        return vocabulary.with_pre(likely)
    expected = [
        tuple(tokenizer.encode(it, add_special_tokens=False, split_special_tokens=True))
        for it in texts
    ]
    for name in _in_order(likely):
        tried = vocabulary.with_pre(name)
        if tokenize(tried, texts) == expected:
            return tried
    raise ModelError(
        "llama.cpp has no rules for splitting texts that give this tokenizer's ids.",
        "Export it with fte export merged.",
    )


def _in_order(likely: str | None) -> Iterable[str]:
    first = [likely] if likely else []
    return (*first, *(it for it in NAMES if it != likely))


def likely_name(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return the name that a byte-level tokenizer's own settings point to, or None."""
    content: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    steps = content["pre_tokenizer"]
    steps = steps.get("pretokenizers", [steps])
    kinds = [it["type"] for it in steps]
    if kinds == ["ByteLevel"] and steps[0]["use_regex"]:
        return None if steps[0]["add_prefix_space"] else "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0]["individual_digits"]:
        return "smollm"
    patterns = [it["pattern"].get("Regex", "") for it in steps if it["type"] == "Split"]
    if len(patterns) != 1 or "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+" not in patterns[0]:
        return None
    if "\\p{N}{1,3}" in patterns[0]:
        return "llama-bpe" if content["model"]["ignore_merges"] else "dbrx"
    return "qwen2"
