"""Narrow down why an exported model gives other likelihoods."""

from __future__ import annotations

from collections.abc import Sequence

from peft import PeftModel

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.encoding.labels import IGNORED
from finetuning_exam.exporting.measure import token_nlls
from finetuning_exam.exporting.runtime import Runtime

_PROBES = 6


def where_it_differs(
    model: PeftModel, runtime: Runtime, rows: Sequence[Encoded], limit: float
) -> str:
    """Return the end of a sentence that says which part of the model must differ.

    A token that follows only one other has nothing to attend to but itself, at position 0: there,
    neither rotary positions nor the heads' queries and keys have an effect.
    """
    pairs = [
        Encoded(row.ids[at : at + 2], (IGNORED, row.ids[at + 1]), 1, 0)
        for row in rows[:_PROBES]
        for at in range(0, min(4, len(row.ids) - 1))
    ]
    before, after = token_nlls(model, pairs), runtime.score(pairs)
    changes = [abs(new[0] - old[0]) for old, new in zip(before, after, strict=True)]
    if max(changes) <= 4 * limit:
        return (
            ", and only where a token has others before it: its positions (RoPE), or its queries "
            "and keys, differ"
        )
    return ", already after a single token: weights of embeddings, norms, values or layers differ"
