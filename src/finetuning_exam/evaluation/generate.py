"""Answers in the model's own words, many prompts in one left-padded batch with a cache."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import GenerationConfig, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Decoding:
    """How answers are drawn. Without `do_sample` it is greedy and the rest has no effect."""

    max_new_tokens: int
    stop_ids: tuple[int, ...]
    pad_id: int
    do_sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    context: int | None = None
    """Positions of the model, which a prompt and its answer never exceed; absent: no limit."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A generated text without its end token, and whether the model ended it by itself."""

    text: str
    stopped: bool


def generate_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[tuple[int, ...]],
    decoding: Decoding,
    batch_size: int,
) -> tuple[Answer, ...]:
    """Answer every prompt (its ids), in the order given; prompts of like length share a batch."""
    assert all(prompts), "a prompt without ids has nothing to answer"
    found: dict[int, Answer] = {}
    torch.manual_seed(decoding.seed)
    for indices in _batches(prompts, decoding, batch_size):
        batch = [prompts[index] for index in indices]
        for index, ids in zip(indices, _generate(model, batch, decoding), strict=True):
            found[index] = _to_answer(tokenizer, ids, decoding.stop_ids)
    return tuple(found[index] for index in range(len(prompts)))


def _batches(
    prompts: Sequence[tuple[int, ...]], decoding: Decoding, batch_size: int
) -> list[list[int]]:
    """Indices of prompts that are answered together, like lengths first.

    A prompt that leaves too little room for `max_new_tokens` is answered alone, so that it cuts
    short no answer but its own.
    """
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    limit = math.inf if decoding.context is None else decoding.context - decoding.max_new_tokens
    roomy = [index for index in order if len(prompts[index]) <= limit]
    batches = [roomy[start : start + batch_size] for start in range(0, len(roomy), batch_size)]
    return batches + [[index] for index in order if len(prompts[index]) > limit]


def _generation_config(decoding: Decoding, width: int) -> GenerationConfig:
    room = decoding.max_new_tokens if decoding.context is None else decoding.context - width
    sampling = (
        {
            "do_sample": True,
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "top_k": 0,
        }
        if decoding.do_sample
        else {"do_sample": False}
    )
    return GenerationConfig(
        max_new_tokens=max(1, min(decoding.max_new_tokens, room)),
        eos_token_id=list(decoding.stop_ids),
        pad_token_id=decoding.pad_id,
        **sampling,
    )


def _generate(
    model: PreTrainedModel,
    prompts: Sequence[tuple[int, ...]],
    decoding: Decoding,
) -> list[list[int]]:
    """New ids for each prompt. Rows are padded on the left and told apart by the mask alone."""
    width = max(len(ids) for ids in prompts)
    device = next(model.parameters()).device
    ids = torch.tensor([[decoding.pad_id] * (width - len(p)) + list(p) for p in prompts])
    attention = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    with torch.inference_mode():
        output = model.generate(
            input_ids=ids.to(device),
            attention_mask=attention.to(device),
            generation_config=_generation_config(decoding, width),
        )
    new: list[list[int]] = output[:, width:].tolist()
    return new


def _to_answer(
    tokenizer: PreTrainedTokenizerBase, ids: list[int], stop_ids: tuple[int, ...]
) -> Answer:
    end = next((index for index, token in enumerate(ids) if token in stop_ids), None)
    text = tokenizer.decode(ids[:end], skip_special_tokens=True)
    return Answer(text.strip(), end is not None)
