"""Small real tokenizers, made in memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

END, START, PAD, TURN, TURN_END = "<|end|>", "<|start|>", "<|pad|>", "<|im_start|>", "<|im_end|>"
LESSONS = [
    "### Instruction:\nWhat does git stash do?\n\n### Response:\nIt puts the changes aside.",
    "### Instruction:\nWhat does ls do?\n\n### Input:\n-l\n\n### Response:\nIt lists the files.",
    "Much white space:\n\n\n\nthe end.",
]

MakeTokenizer = Callable[..., PreTrainedTokenizerFast]


@pytest.fixture(scope="session")
def make_tokenizer() -> MakeTokenizer:
    """Return a factory of byte-level BPE tokenizers with the given special tokens. With
    `writes_start` the post-processor puts the beginning-of-text token before every text.
    """

    def make(
        *,
        end: str | None = END,
        pad: str | None = None,
        start: str | None = None,
        writes_start: bool = False,
        chat_template: str | None = None,
        names_turns: bool = True,
    ) -> PreTrainedTokenizerFast:
        core = Tokenizer(models.BPE())
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=420,
            special_tokens=[END, START, PAD, TURN, TURN_END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        core.train_from_iterator(LESSONS, trainer)
        if writes_start and start is not None:
            core.post_processor = processors.TemplateProcessing(
                single=f"{start} $A", special_tokens=[(start, core.token_to_id(start))]
            )
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=core,
            bos_token=start,
            eos_token=end,
            pad_token=pad,
            additional_special_tokens=[TURN, TURN_END] if names_turns else [],
        )
        tokenizer.chat_template = chat_template
        return tokenizer

    return make
