"""Small tokenizers built as those of the well-known model families are, trained in memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

LESSONS = [
    "### Instruction:\nWhat does git stash do?\n\n### Response:\nIt puts the changes aside.",
    "### Instruction:\nWhat does ls do?\n\n### Input:\n-l\n\n### Response:\nIt lists the files.",
    "user: Who are you?\nassistant: A model, trained on 12,345 texts; it can't do more.\n",
    "[INST] Much white space:\n\n\n\nthe end. [/INST] def f(x):\n    return x + 1  # ok",
    "system\nBe brief. <turn> Über die Brücke gehen… 東京は日本の首都です。 🙂",
]
_LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BYTES = [f"<0x{value:02X}>" for value in range(256)]
MISTRAL_CHAT = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}"
    " {{ m.content }}{{ eos_token }}{% else %}[INST] {{ m.content }} [/INST]{% endif %}{% endfor %}"
)
GEMMA_CHAT = (
    "{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + "
    "('model' if m.role == 'assistant' else m.role) + '\n' }}{{ m.content | trim }}"
    "{{ '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3_CHAT = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>"
    "\n\n' + m.content | trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
PHI3_CHAT = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
TURNS_AS_TEXT = (
    "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% if m.role == 'assistant' %}"
    "{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)


def _byte_level(
    split: pre_tokenizers.PreTokenizer, special: list[str], **names: str | None
) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = split
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(LESSONS, trainer)
    return _writes_start(core, names)


def _blanks_as_marks(
    special: list[str | AddedToken], *, puts_blank_first: bool, **names: str | None
) -> PreTrainedTokenizerFast:
    """A SentencePiece BPE with byte fallback, as converted by Transformers."""
    core = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    blank = normalizers.Replace(" ", "▁")
    prepend = [normalizers.Prepend("▁")] if puts_blank_first else []
    core.normalizer = normalizers.Sequence([*prepend, blank])
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=["<unk>", *_BYTES], show_progress=False
    )
    _train_on_words(core, trainer)
    core.add_special_tokens(special)
    return _writes_start(core, names)


def _train_on_words(core: Tokenizer, trainer: trainers.Trainer) -> None:
    """Train as SentencePiece does: a blank only begins a token, and a line feed is a byte."""
    normalizer = core.normalizer
    core.normalizer = normalizers.Sequence([])
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.train_from_iterator([it.replace("\n", " ") for it in LESSONS], trainer)
    core.normalizer, core.pre_tokenizer = normalizer, None


def _unigram() -> PreTrainedTokenizerFast:
    core = Tokenizer(models.Unigram())
    core.normalizer = normalizers.NFKC()
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300,
        special_tokens=["<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    core.train_from_iterator(LESSONS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", unk_token="<unk>")


def _writes_start(core: Tokenizer, names: dict[str, str | None]) -> PreTrainedTokenizerFast:
    start = names.get("bos_token")
    if start is not None:
        core.post_processor = processors.TemplateProcessing(
            single=f"{start} $A", special_tokens=[(start, core.token_to_id(start))]
        )
    return PreTrainedTokenizerFast(tokenizer_object=core, **names)


def _split(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _gpt2() -> PreTrainedTokenizerFast:
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return _byte_level(split, ["<|endoftext|>"], eos_token="<|endoftext|>")


def _gpt2_blank_first() -> PreTrainedTokenizerFast:
    split = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return _byte_level(split, ["<|endoftext|>"], eos_token="<|endoftext|>")


def _llama3() -> PreTrainedTokenizerFast:
    marks = ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
    return _byte_level(
        _split(_LLAMA3_SPLIT), marks, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>"
    )


def _qwen() -> PreTrainedTokenizerFast:
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    split = _split(_LLAMA3_SPLIT.replace("{1,3}", ""))
    return _byte_level(split, marks, eos_token="<|im_end|>")


def _llama2() -> PreTrainedTokenizerFast:
    return _blanks_as_marks(
        ["<s>", "</s>"], puts_blank_first=True, bos_token="<s>", eos_token="</s>"
    )


def _phi3() -> PreTrainedTokenizerFast:
    marks = [AddedToken(it, rstrip=True, special=True) for it in ("<|user|>", "<|end|>")]
    marks += [AddedToken(it, rstrip=True, special=True) for it in ("<|assistant|>", "<|system|>")]
    return _blanks_as_marks(
        ["<s>", "<|endoftext|>", *marks], puts_blank_first=True, eos_token="<|endoftext|>"
    )


def _gemma() -> PreTrainedTokenizerFast:
    return _blanks_as_marks(
        ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"],
        puts_blank_first=False,
        bos_token="<bos>",
        eos_token="<eos>",
    )


def _mistral() -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=["<unk>", *_BYTES], show_progress=False
    )
    _train_on_words(core, trainer)
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    core.add_special_tokens(["<s>", "</s>"])
    return _writes_start(core, {"bos_token": "<s>", "eos_token": "</s>"})


FAMILIES: dict[str, tuple[Callable[[], PreTrainedTokenizerFast], str]] = {
    "GPT-2": (_gpt2, TURNS_AS_TEXT),
    "GPT-2, blank first": (_gpt2_blank_first, TURNS_AS_TEXT),
    "Llama 3": (_llama3, LLAMA3_CHAT),
    "Qwen": (_qwen, CHATML),
    "Llama 2": (_llama2, MISTRAL_CHAT),
    "Mistral": (_mistral, MISTRAL_CHAT),
    "Phi-3": (_phi3, PHI3_CHAT),
    "Gemma": (_gemma, GEMMA_CHAT),
    "T5": (_unigram, TURNS_AS_TEXT),
}


@cache
def family(name: str) -> PreTrainedTokenizerFast:
    """Return a family's tokenizer, with its chat template."""
    make, template = FAMILIES[name]
    tokenizer = make()
    tokenizer.chat_template = template
    return tokenizer
