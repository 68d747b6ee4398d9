"""Generate answers to many prompts in one left-padded batch with a cache, by the base and the tuned
model side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation.streamers import BaseStreamer
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from finetuning_exam.model.adapter import base_and_tuned
from finetuning_exam.model.generation.batch import Row, can_batch, write_answers
from finetuning_exam.model.generation.decoding import Decoding, choose_tokens, random_numbers
from finetuning_exam.model.generation.side_by_side import (
    RowsNotApart,
    adapter_on_first_rows,
    can_mix,
)
from finetuning_exam.model.mode import evaluating

MAX_POSITIONS = 16_384
"""Most positions of a batch (rows times length with the answer), which bound its cache."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A generated text without its end token, and whether the model ended it itself.

    An answer that `repeats` itself did not stop; it was ended where that was certain.
    """

    text: str
    stopped: bool
    repeats: bool = False


def answer_both(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[tuple[int, ...]],
    decoding: Decoding,
    batch_size: int,
) -> tuple[tuple[Answer, ...], tuple[Answer, ...]]:
    """Return the answers of base and of tuned model to every prompt (its ids), in the order given.

    Both write in the same forward passes, of at most `batch_size` prompts, if model and adapter
    allow it, else one after the other. No answer depends on the other prompts beyond rounding.
    """
    assert all(prompts), "a prompt without ids has nothing to answer"
    if can_batch(model) and can_mix(model):
        with suppress(RowsNotApart), evaluating(model):
            written = _write_both(model, prompts, decoding, batch_size)
            base = tuple(to_answer(tokenizer, ids, decoding) for ids, _ in written)
            return base, tuple(to_answer(tokenizer, ids, decoding) for _, ids in written)
    return base_and_tuned(
        model, lambda: generate_answers(model, tokenizer, prompts, decoding, batch_size)
    )


def generate_answers(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[tuple[int, ...]],
    decoding: Decoding,
    batch_size: int,
) -> tuple[Answer, ...]:
    """Return the model's answers, as it is, to every prompt (its ids), in the order given."""
    assert all(prompts), "a prompt without ids has nothing to answer"
    rows = [Row(prompt, number) for number, prompt in enumerate(prompts)]
    written: dict[int, list[int]] = {}
    with evaluating(model):
        if can_batch(model):
            for indices in batches([len(it) for it in prompts], decoding, batch_size):
                ids = write_answers(model, [rows[index] for index in indices], decoding)
                written.update(zip(indices, ids, strict=True))
        else:
            written = {row.question: write_alone(model, row, decoding) for row in rows}
    return tuple(to_answer(tokenizer, written[number], decoding) for number in range(len(prompts)))


def _write_both(
    model: PeftModel, prompts: Sequence[tuple[int, ...]], decoding: Decoding, batch_size: int
) -> list[tuple[list[int], list[int]]]:
    """Return the new ids of base and tuned model for each prompt.

    Raises:
        RowsNotApart: a module of the model cannot tell rows apart.
    """
    written: dict[int, tuple[list[int], list[int]]] = {}
    with adapter_on_first_rows(model) as tuned_rows:
        for indices in batches([len(it) for it in prompts], decoding, batch_size, n_sides=2):
            rows = [
                Row(prompts[index], index, is_tuned)
                for is_tuned in (True, False)
                for index in indices
            ]
            ids = write_answers(model, rows, decoding, tuned_rows)
            tuned, base = ids[: len(indices)], ids[len(indices) :]
            written.update(zip(indices, zip(base, tuned, strict=True), strict=True))
    return [written[index] for index in range(len(prompts))]


def batches(
    lengths: Sequence[int], decoding: Decoding, batch_size: int, n_sides: int = 1
) -> list[list[int]]:
    """Return the indices of prompts that are answered together, by length.

    A prompt that leaves too little room for `max_new_tokens` shares its batch only with prompts of
    the same length, so that no other answer is cut short. A batch of more than one prompt has at
    most `MAX_POSITIONS` positions.
    """
    found: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        length = lengths[index]
        room = decoding.room(length)
        last = found[-1] if found else []
        n_positions = (len(last) + 1) * n_sides * (length + room)
        is_cut = room < decoding.max_new_tokens
        if (
            not last
            or len(last) == batch_size
            or n_positions > MAX_POSITIONS
            or (is_cut and lengths[last[-1]] != length)
        ):
            found.append([index])
        else:
            last.append(index)
    return found


class _Choice(LogitsProcessor):  # type: ignore[misc]
    """Masks every token of a row but the one that is chosen for it."""

    def __init__(self, row: Row, decoding: Decoding) -> None:
        self._start = len(row.prompt)
        self._decoding = decoding
        n_new = decoding.room(len(row.prompt))
        self._numbers = random_numbers(decoding.seed, [row.question], n_new)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        place = input_ids.shape[1] - self._start
        numbers = self._numbers[:, place].to(scores.device)
        chosen = choose_tokens(scores.float(), numbers, self._decoding)
        return torch.full_like(scores, -torch.inf).scatter(1, chosen[:, None], 0.0)


class _Loop(StoppingCriteria):  # type: ignore[misc]
    """Ends a row that repeats itself, if `decoding` says so."""

    def __init__(self, start: int, decoding: Decoding) -> None:
        self._n_seen = start
        self._watch = decoding.new_watch()

    def __call__(self, input_ids: Tensor, scores: object, **kwargs: object) -> Tensor:
        new = input_ids[0, self._n_seen :].tolist()
        self._n_seen = input_ids.shape[1]
        loops = self._watch is not None and any(map(self._watch.add, new))
        return torch.full((1,), loops, device=input_ids.device)


def write_alone(
    model: PreTrainedModel | PeftModel,
    row: Row,
    decoding: Decoding,
    streamer: BaseStreamer | None = None,
) -> list[int]:
    """Return the new ids of a single row, by the model's own `generate`."""
    ids = torch.tensor([row.prompt], device=next(model.parameters()).device)
    with torch.inference_mode():
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            generation_config=GenerationConfig(
                max_new_tokens=decoding.room(len(row.prompt)),
                eos_token_id=list(decoding.stop_ids),
                pad_token_id=decoding.pad_id,
                do_sample=False,
            ),
            logits_processor=LogitsProcessorList([_Choice(row, decoding)]),
            stopping_criteria=StoppingCriteriaList([_Loop(len(row.prompt), decoding)]),
            streamer=streamer,
        )
    new: list[int] = output[0, len(row.prompt) :].tolist()
    return new


def to_answer(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], decoding: Decoding) -> Answer:
    """Return the text of an answer's ids, and whether the model ended it itself."""
    stopped = bool(ids) and ids[-1] in decoding.stop_ids
    text = tokenizer.decode(ids[:-1] if stopped else ids, skip_special_tokens=True)
    if decoding.stop_text:
        text, found, _ = text.partition(decoding.stop_text)
        stopped = stopped or bool(found)
    watch = None if stopped else decoding.new_watch()
    repeats = watch is not None and any(map(watch.add, ids))
    return Answer(text.strip(), stopped, repeats)
