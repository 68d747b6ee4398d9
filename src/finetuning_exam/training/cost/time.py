"""Predict the duration of a training by timing a few passes before its first step."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import TypeVar

import torch
from peft import PeftModel

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.model.fast.path import FastPath
from finetuning_exam.model.score import score_rows
from finetuning_exam.run_record import TrainingPlan
from finetuning_exam.training.cost.footprint import checkpointing_on, untouched
from finetuning_exam.training.cost.workload import Workload, computed_tokens

TIMING_S = 2.0
"""Seconds that timing may take in any run."""
TIMING_SHARE = 0.05
"""Share of a run's duration that timing may take, if that is longer than `TIMING_S`."""
WARM_UP_TOKENS = 64
MAX_SAMPLES = 5
STEP_OVERHEAD_S = 0.006
"""Overhead of the trainer per step, measured on the built-in base (docs/experiments.md)."""

Clock = Callable[[], float]
Row = TypeVar("Row")


def seconds_per_token(
    compute: Callable[[tuple[Row, ...]], None],
    tokens_of: Callable[[tuple[Row, ...]], int],
    cut: Callable[[tuple[Row, ...], int], tuple[Row, ...]],
    samples: Sequence[tuple[Row, ...]],
    total_tokens: int,
    clock: Clock = time.perf_counter,
) -> float:
    """Return the median time per token over a few samples, after a short warm-up.

    `tokens_of` counts the tokens computed for some rows; `cut` reduces rows to a number of tokens.
    If a whole sample takes too long compared to all `total_tokens`, only a part of it is timed.
    If a sample is no smaller than the whole work, the warm-up's time is used.
    """

    def timed(rows: tuple[Row, ...]) -> float:
        return _seconds(partial(compute, rows), clock)

    warm_up = cut(samples[0], WARM_UP_TOKENS)
    rough = timed(warm_up) / tokens_of(warm_up)
    allowed = max(TIMING_S, TIMING_SHARE * rough * total_tokens)
    spent = 0.0
    rates: list[float] = []
    for sample in samples[:MAX_SAMPLES]:
        rows = cut(sample, max(WARM_UP_TOKENS, int((allowed - spent) / rough)))
        is_part = tokens_of(rows) < tokens_of(sample)
        if tokens_of(rows) >= total_tokens or (rates and is_part):
            break
        elapsed = timed(rows)
        spent += elapsed
        rates.append(elapsed / tokens_of(rows))
    return statistics.median(rates or [rough])


def cut_rows(
    rows: tuple[Row, ...],
    budget: int,
    *,
    length: Callable[[Row], int],
    tail: Callable[[Row, int], Row],
) -> tuple[Row, ...]:
    """Return the first rows, up to `budget` tokens in all, or else the end of the first row."""
    kept: list[Row] = []
    for row in rows:
        if sum(map(length, kept)) + length(row) > budget:
            break
        kept.append(row)
    return tuple(kept) or (tail(rows[0], budget),)


def total_length(rows: Sequence[Encoded]) -> int:
    """Return the number of tokens in sequences, without padding."""
    return sum(len(row.ids) for row in rows)


def training_seconds(
    workload: Workload[Row],
    plan: TrainingPlan,
    batches: Sequence[tuple[Row, ...]],
    clock: Clock = time.perf_counter,
) -> float:
    """Return the seconds of training on these optimizer batches, without validation."""
    if not batches:
        return 0.0
    objective, fast = workload.objective, workload.fast
    parts = [it for batch in batches for it in workload.passes(batch, plan.micro_batches)]
    total_tokens = sum(map(workload.tokens, parts))
    first = parts[: MAX_SAMPLES * -(-len(parts) // len(batches))]

    def train_on(rows: tuple[Row, ...]) -> None:
        torch.autograd.backward(objective.losses(fast, rows).sum())
        if next(fast.model.parameters()).is_cuda:
            torch.cuda.synchronize()

    is_checkpointing = plan.micro_batches.checkpointing
    with untouched(fast), checkpointing_on(fast) if is_checkpointing else nullcontext():
        rate = seconds_per_token(
            train_on,
            workload.tokens,
            partial(cut_rows, length=workload.length, tail=objective.tail),
            first[:: -(-len(first) // MAX_SAMPLES)],
            total_tokens,
            clock,
        )
    per_step = _optimizer_seconds(fast.model, clock) + STEP_OVERHEAD_S
    return rate * total_tokens + per_step * len(batches)


def scoring_seconds_per_token(
    fast: FastPath,
    rows: Sequence[Encoded],
    batch_size: int,
    total_tokens: int,
    clock: Clock = time.perf_counter,
) -> float:
    """Return the seconds per token of scoring such rows, where `total_tokens` are to be scored."""
    ordered = sorted(rows, key=lambda row: len(row.ids))
    middle = max(0, len(ordered) // 2 - batch_size)
    sample = tuple(ordered[middle : middle + batch_size])

    def score(rows: tuple[Encoded, ...]) -> None:
        score_rows(fast.model, rows, fast.row_nll, batch_size)

    return seconds_per_token(
        score,
        partial(computed_tokens, pieces=fast.pieces),
        partial(cut_rows, length=lambda row: len(row.ids), tail=Encoded.last),
        [sample] * 2,
        total_tokens,
        clock,
    )


def n_validations(plan: TrainingPlan, done_steps: int) -> int:
    """Return how often the validation rows are scored after `done_steps`.

    They are scored at each save and at the last step; a new run also scores them before its first.
    """
    steps = range(done_steps + 1, plan.total_steps + 1)
    at_saves = sum(step % plan.save_steps == 0 or step == plan.total_steps for step in steps)
    return at_saves + (done_steps == 0)


def _optimizer_seconds(model: PeftModel, clock: Clock) -> float:
    """Return the seconds of an AdamW step, taken on copies of the trained parameters."""
    copies = [p.detach().clone().requires_grad_() for p in model.parameters() if p.requires_grad]
    for copy in copies:
        copy.grad = torch.zeros_like(copy)
    optimizer = torch.optim.AdamW(copies)

    def step() -> None:
        torch.nn.utils.clip_grad_norm_(copies, 1.0)
        optimizer.step()

    return min(_seconds(step, clock) for _ in range(3))


def _seconds(compute: Callable[[], object], clock: Clock) -> float:
    started = clock()
    compute()
    return clock() - started
