"""Passes that write tokens without meaning, to be timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from peft import PeftModel

from finetuning_exam.model.generation.batch import Row, RowBatch
from finetuning_exam.model.generation.side_by_side import adapter_on_first_rows, can_mix
from finetuning_exam.model.mode import evaluating

TIMED_PASSES = 1
"""Passes of which the shortest counts, after one that makes the kernels of its shapes."""


@torch.inference_mode()
def pass_seconds(
    model: PeftModel,
    prompt: tuple[int, ...],
    n_rows: int,
    lengths: Sequence[int],
    clock: Callable[[], float],
) -> tuple[float, ...]:
    """Return the seconds of a pass that writes a token in each row, at each of the rising lengths.

    As in an exam, half of the rows are the tuned model's if model and adapter allow it. Rows are
    not written up to their lengths: their cache repeats what it holds.
    """
    mixes = can_mix(model)
    n_tuned = n_rows // 2 if mixes else n_rows
    rows = [Row(prompt, number, number < n_tuned) for number in range(n_rows)]
    found: list[float] = []
    with adapter_on_first_rows(model) if mixes else nullcontext() as tuned, evaluating(model):
        batch = RowBatch(model, rows, 0, lengths[-1] + (2 + TIMED_PASSES) * len(lengths))

        def write() -> float:
            started = clock()
            if tuned is not None:
                tuned.announce(n_tuned, n_rows, batch.length - batch.n_cached)
            chosen = batch.next_logits(n_tuned).argmax(dim=-1)
            chosen.tolist()  # waits for the device
            seconds = clock() - started
            last.append(chosen)
            return seconds

        last: list[torch.Tensor] = []
        write()
        for length in lengths:
            batch.lengthen(max(0, length - batch.length))
            times = []
            for _ in range(1 + TIMED_PASSES):
                batch.append(last[-1])
                times.append(write())
            found.append(min(times[1:]))
    return tuple(found)
