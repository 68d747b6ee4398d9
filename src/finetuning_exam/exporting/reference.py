"""The trained model's own greedy answers, as ids."""

from __future__ import annotations

from collections.abc import Sequence

from finetuning_exam.exporting.runtime import Written
from finetuning_exam.model.generation.batch import Row, can_batch, write_answers
from finetuning_exam.model.generation.generate import batches, write_alone
from finetuning_exam.model.mode import evaluating
from finetuning_exam.model.session import Session

_BATCH = 16


def greedy_ids(
    session: Session, prompts: Sequence[tuple[int, ...]], max_new_tokens: int
) -> list[Written]:
    """Return the ids of the tuned model's answers, each without the token that ended it."""
    decoding = session.decoding(max_new_tokens)
    rows = [Row(prompt, number) for number, prompt in enumerate(prompts)]
    written: dict[int, list[int]] = {}
    with evaluating(session.model):
        if can_batch(session.model):
            for indices in batches([len(it) for it in prompts], decoding, _BATCH):
                ids = write_answers(session.model, [rows[index] for index in indices], decoding)
                written.update(zip(indices, ids, strict=True))
        else:
            written = {it.question: write_alone(session.model, it, decoding) for it in rows}
    return [_split(written[number], decoding.stop_ids) for number in range(len(prompts))]


def _split(ids: Sequence[int], stop_ids: Sequence[int]) -> Written:
    is_ended = bool(ids) and ids[-1] in stop_ids
    return tuple(ids[:-1] if is_ended else ids), is_ended
