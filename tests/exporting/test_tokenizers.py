"""Specification of tokenizers in GGUF: the rules of splitting are found by what they do."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from families import family

from finetuning_exam.errors import ModelError
from finetuning_exam.exporting.gguf_files.pre_tokenizer import NAMES, likely_name, with_rules
from finetuning_exam.exporting.gguf_files.vocabulary import Kind, Vocabulary, read_vocabulary
from finetuning_exam.exporting.llama_cpp import tokenize_with
from finetuning_exam.exporting.texts import PROBES

SAME = {
    "GPT-2": ("gpt2", "gpt-2"),
    "Llama 3": (
        "gpt2",
        "dbrx",
    ),  # the rules of Llama 3 for a tokenizer that merges whole words, too
    "Qwen": ("gpt2", "qwen2"),
    "Llama 2": ("llama", "default"),
    "Phi-3": ("llama", "default"),
    "Gemma": ("llama", "default"),
}


def _vocabulary(name: str) -> Vocabulary:
    tokenizer = family(name)
    return read_vocabulary(tokenizer, len(tokenizer), name)


@pytest.mark.usefixtures("llama_cpp")
@pytest.mark.parametrize(("name", "expected"), SAME.items(), ids=SAME)
def test_a_tokenizer_gives_the_same_ids_in_llama_cpp(name: str, expected: tuple[str, str]) -> None:
    """Odd Unicode, blanks, numbers and code have the ids of Transformers."""
    tokenizer = family(name)
    found = with_rules(_vocabulary(name), tokenizer, PROBES, tokenize_with)
    assert (found.model, found.pre) == expected
    ids = [
        tuple(tokenizer.encode(it, add_special_tokens=False, split_special_tokens=True))
        for it in PROBES
    ]
    assert tokenize_with(found, PROBES) == ids


@pytest.mark.usefixtures("llama_cpp")
@pytest.mark.parametrize("pre", ["llama-bpe", "qwen2", "smollm"])
def test_other_rules_give_other_ids(pre: str) -> None:
    """The texts tell the rules apart: with those of another family some ids differ."""
    tokenizer = family("GPT-2")
    ids = [tuple(tokenizer.encode(it, add_special_tokens=False)) for it in PROBES]
    assert tokenize_with(_vocabulary("GPT-2").with_pre(pre), PROBES) != ids


def test_rules_are_found_by_behaviour() -> None:
    """The first rules with the tokenizer's own ids are taken, whatever its settings look like."""
    tokenizer = family("GPT-2")
    ids = [tuple(tokenizer.encode(it, add_special_tokens=False)) for it in PROBES]
    tried: list[str] = []

    def tokenize(found: Vocabulary, texts: Sequence[str]) -> list[tuple[int, ...]] | None:
        tried.append(found.pre)
        return ids if found.pre == "tekken" else None

    assert with_rules(_vocabulary("GPT-2"), tokenizer, PROBES, tokenize).pre == "tekken"
    assert tried == [*NAMES[: NAMES.index("tekken")], "tekken"]


def test_rules_that_nothing_gives_are_refused() -> None:
    """A tokenizer that llama.cpp cannot imitate is refused, and never written nearly right."""
    tokenizer = family("GPT-2, blank first")
    vocabulary = _vocabulary("GPT-2, blank first")
    with pytest.raises(ModelError, match="no rules for splitting texts that give this tokenizer's"):
        with_rules(vocabulary, tokenizer, PROBES, lambda found, texts: None)


def test_without_llama_cpp_only_known_settings_are_written() -> None:
    """The tokenizer's own settings name the rules, or the export is refused."""
    assert with_rules(_vocabulary("Qwen"), family("Qwen"), PROBES, None).pre == "qwen2"
    assert likely_name(family("GPT-2, blank first")) is None
    with pytest.raises(ModelError, match="can only be found by trying them"):
        with_rules(_vocabulary("GPT-2, blank first"), family("GPT-2, blank first"), PROBES, None)


def test_a_kind_that_llama_cpp_lacks_is_refused() -> None:
    """A Unigram tokenizer is refused by name."""
    with pytest.raises(ModelError, match="it is a Unigram tokenizer"):
        _vocabulary("T5")


def test_every_row_of_the_embedding_has_a_token() -> None:
    """Ids without a token are unused; special tokens control, bytes are bytes."""
    tokenizer = family("Gemma")
    found = read_vocabulary(tokenizer, len(tokenizer) + 3, "Gemma")
    assert len(found.tokens) == len(found.kinds) == len(found.scores) == len(tokenizer) + 3
    assert found.kinds[-3:] == (Kind.UNUSED,) * 3
    kinds = dict(zip(found.tokens, found.kinds, strict=True))
    assert kinds["<end_of_turn>"] is Kind.CONTROL
    assert kinds["<0x0A>"] is Kind.BYTE
    assert kinds["<unk>"] is Kind.UNKNOWN
