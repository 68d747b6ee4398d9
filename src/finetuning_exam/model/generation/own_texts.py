"""Texts that a base writes by itself: plain ones, and conversations in its chat template."""

from __future__ import annotations

from collections.abc import Sequence

from peft import PeftModel

from finetuning_exam.data.encoding.encoder import Encoder
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.errors import ModelError
from finetuning_exam.model.generation.batch import Row, can_batch, write_answers
from finetuning_exam.model.generation.decoding import Decoding
from finetuning_exam.model.generation.generate import write_alone
from finetuning_exam.model.mode import evaluating, on_side

Ids = tuple[int, ...]
_BATCH = 64
_SEPARATORS = ("<|endoftext|>", "<|end_of_text|>", "<|begin_of_text|>")
"""Tokens that stand between the documents a base was trained on, as several families name them."""
_PLACE = "Place7qZvWx"


def write_own_texts(
    model: PeftModel, encoder: Encoder, n_texts: int, n_tokens: int, seed: int
) -> tuple[Ids, ...]:
    """Return the ids of texts that the base writes, each of at most about `n_tokens` tokens.

    They are drawn at temperature 1, the same for the same seed. Without a chat template each text
    begins with the token that begins a document. With one, every second text is a conversation:
    the base writes the question in the place of the user, then answers it.
    """
    start = (_start_id(encoder),)
    opening = _user_opening(encoder)
    n_talks = n_texts // 2 if opening else 0
    texts = _write(model, [start] * (n_texts - n_talks), n_tokens, seed, encoder.stop_ids)
    found = [text for text in texts if len(text) > 1]
    if opening:
        found += _conversations(model, encoder, [opening] * n_talks, n_tokens, seed)
    return tuple(found)


def _conversations(
    model: PeftModel, encoder: Encoder, openings: Sequence[Ids], n_tokens: int, seed: int
) -> list[Ids]:
    stops = encoder.stop_ids
    questions = _write(model, openings, n_tokens // 2, seed + 1, stops)
    prompts: list[Ids] = []
    for opening, written in zip(openings, questions, strict=True):
        ids = [it for it in written[len(opening) :] if it not in encoder.special_ids]
        text = encoder.tokenizer.decode(ids).strip()
        try:
            prompts += [encoder.prompt_ids(Example(text, "", 0, ""))] if text else []
        except ModelError:  # the template rejects what the base wrote
            continue
    return _write(model, prompts, n_tokens // 2, seed + 2, stops)


def _write(
    model: PeftModel, prompts: Sequence[Ids], n_tokens: int, seed: int, stops: Sequence[int]
) -> list[Ids]:
    """Return each prompt with what the base writes after it, an end token included."""
    decoding = Decoding(n_tokens, tuple(stops), pad_id=0, do_sample=True, seed=seed)
    rows = [Row(prompt, number) for number, prompt in enumerate(prompts)]
    written: list[list[int]] = []
    with on_side(model, "base"), evaluating(model):
        if can_batch(model):
            for start in range(0, len(rows), _BATCH):
                written += write_answers(model, rows[start : start + _BATCH], decoding)
        else:
            written = [write_alone(model, row, decoding) for row in rows]
    return [(*row.prompt, *ids) for row, ids in zip(rows, written, strict=True)]


def _start_id(encoder: Encoder) -> int:
    """Return the token that begins a document: the tokenizer's own, or one between documents."""
    if encoder.start_ids:
        return encoder.start_ids[0]
    added = {token.content: it for it, token in encoder.tokenizer.added_tokens_decoder.items()}
    known = [added[name] for name in _SEPARATORS if name in added]
    bos = encoder.tokenizer.bos_token_id
    return known[0] if known else (encoder.eos_token_id if bos is None else bos)


def _user_opening(encoder: Encoder) -> Ids:
    """Return the ids that a chat template writes before a question; none without a template."""
    if encoder.shape is None:
        return ()
    text = encoder.shape.template.render([Turn("user", _PLACE)], asks=True)
    before = text.partition(_PLACE)[0]
    return tuple(encoder.tokenizer.encode(before, add_special_tokens=False)) if before else ()
