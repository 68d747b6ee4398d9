"""Prepare replay: texts that the base writes or files hold, and the base's side of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from finetuning_exam.data.encoding.encoder import Encoded, Encoder
from finetuning_exam.data.encoding.labels import IGNORED
from finetuning_exam.data.reading.read import read_sound_records
from finetuning_exam.data.records import Example
from finetuning_exam.data.split import normalized
from finetuning_exam.errors import DataError
from finetuning_exam.machine import machine_facts
from finetuning_exam.model.fast.path import FastPath
from finetuning_exam.model.generation.own_texts import write_own_texts
from finetuning_exam.model.mode import evaluating, on_side
from finetuning_exam.model.replay_row import ReplayRow
from finetuning_exam.objectives.replay import TEXT_TOKENS, Replay
from finetuning_exam.settings import FieldSettings, TrainSettings
from finetuning_exam.training.replay_cache import texts_from_cache

MAX_TEXTS = 256
"""Texts that the base writes, at most (docs/experiments.md)."""
LEAST_QUESTION = 16
"""The fewest characters of an exam question that is looked for inside a text."""
_BATCH = 16

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReplayTexts:
    """The texts of a run's replay, as ids, and what its user should know about them."""

    ids: tuple[Ids, ...] = ()
    note: str = ""


def replay_texts(
    settings: TrainSettings,
    fast: FastPath,
    encoder: Encoder,
    base_sha256: str,
    n_steps: int,
    exam: Sequence[Example],
) -> ReplayTexts:
    """Return the texts that the settings ask for.

    The base writes as many as the steps need, up to `MAX_TEXTS`, unless it has for an earlier run.
    Records of files that contain a question of the exam are left out, since the exam must stay
    unseen.

    Raises:
        UsageError, DataError: a file cannot be used, or nothing of it is left.
    """
    if settings.replay == ("none",) or not settings.replay_weight:
        return ReplayTexts()
    if not fast.has_shared_head:
        return ReplayTexts(note="off: this model's logits are not those of a plain output head")
    if settings.replay == ("auto",):
        n_texts = min(-(-n_steps * settings.replay_tokens // TEXT_TOKENS), MAX_TEXTS)
        made_from = (
            base_sha256,
            (n_texts, TEXT_TOKENS, settings.seed),
            (encoder.prompt_ids(Example("?", "", 0, "")), encoder.stop_ids),
            (str(fast.model.dtype), fast.model.device.type),
            machine_facts(torch.get_num_threads()),
        )
        written, is_old = texts_from_cache(
            made_from,
            lambda: write_own_texts(fast.model, encoder, n_texts, TEXT_TOKENS, settings.seed),
        )
        when = " for an earlier run" if is_old else ""
        return ReplayTexts(written, f"{_texts(len(written))} written by the base{when}")
    examples = read_sound_records(settings.replay, FieldSettings()).examples
    unseen = tuple(it for it in examples if not _asks_one_of(it, _questions(exam)))
    rows = [encoder.encode(it).ids[:TEXT_TOKENS] for it in unseen]
    found = tuple(ids for ids in rows if len(ids) > 1)
    note = f"{_texts(len(found))} from {', '.join(settings.replay)}"
    if len(unseen) < len(examples):
        note += f" ({len(examples) - len(unseen):,} with an exam question left out)"
    if not found:
        raise DataError([f"--replay: no text can be used: {note}."], "Give other texts.")
    return ReplayTexts(found, note)


def _texts(n: int) -> str:
    return f"{n:,} text{'' if n == 1 else 's'}"


def _questions(exam: Sequence[Example]) -> frozenset[str]:
    texts = (it.answer if it.is_plain_text else it.instruction for it in exam)
    return frozenset(text for it in texts if len(text := normalized(it)) >= LEAST_QUESTION)


def _asks_one_of(example: Example, questions: frozenset[str]) -> bool:
    """Return whether a text contains one of these questions, whatever its case and white space."""
    turns = [turn.text for turn in example.earlier]
    text = normalized("\n".join([*turns, example.instruction, example.input, example.answer]))
    return any(question in text for question in questions)


def make_replay(settings: TrainSettings, fast: FastPath, texts: Sequence[Ids]) -> Replay:
    """Return replay of texts, with what the base predicts in each."""
    rows: list[ReplayRow] = []
    encoded = [Encoded(ids, (IGNORED, *ids[1:]), 0, 0) for ids in texts]
    with on_side(fast.model, "base"), evaluating(fast.model), torch.no_grad():
        for start in range(0, len(encoded), _BATCH):
            part = encoded[start : start + _BATCH]
            for row, base in zip(part, fast.hidden_states(part), strict=True):
                rows.append(ReplayRow(row.ids, row.labels, 0, 0, base=base))
    return Replay(tuple(rows), settings.replay_weight, settings.replay_tokens, settings.seed)
