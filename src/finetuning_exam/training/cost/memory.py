"""Predict a run's memory from its model's footprint, and choose passes that fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TypeVar

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.heap import can_return_freed_memory
from finetuning_exam.run_record import MicroBatches
from finetuning_exam.training.cost.footprint import Footprint, measure_footprint
from finetuning_exam.training.cost.workload import Workload, longest_rows, size_of
from finetuning_exam.training.plan import MICRO_BATCH_TOKENS

USABLE_SHARE = 0.9
"""Share of the free memory that a run may plan to use."""
HEAP_SPREAD, WORST_HEAP_SPREAD = 1.25, 2.3
"""Size of a CPU heap that keeps freed blocks, relative to its peak of live memory, since blocks of
one batch do not fit the next: typical and worst case (docs/experiments.md)."""

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How passes are computed, and whether they fit into the `free_bytes` of memory.

    `unconstrained` is the choice without a memory limit. `returns_freed_memory` means that the
    process must return freed memory to the system instead of keeping it in its heap.
    """

    unconstrained: MicroBatches
    micro_batches: MicroBatches
    footprint: Footprint
    free_bytes: int
    returns_freed_memory: bool
    fits_in_memory: bool

    @property
    def typical_spread(self) -> float:
        """Memory of the process relative to its largest pass, typically."""
        return HEAP_SPREAD if self._retains_freed_memory else 1.0

    @property
    def worst_spread(self) -> float:
        """Memory of the process relative to its largest pass, in the worst case."""
        return WORST_HEAP_SPREAD if self._retains_freed_memory else 1.0

    @property
    def _retains_freed_memory(self) -> bool:
        return self.footprint.is_cpu and not self.returns_freed_memory

    def largest_pass(
        self,
        workload: Workload[Row],
        batches: Sequence[Sequence[Row]],
        scored: Sequence[Encoded],
    ) -> float:
        """Return the bytes of the largest pass over these batches, or scoring these rows."""
        training = [
            self.footprint.training(workload.size(part))
            for batch in batches
            for part in workload.passes(batch, self.micro_batches)
        ]
        longest = longest_rows(scored, workload.settings.eval_batch_size)
        pieces = workload.fast.pieces
        scoring = self.footprint.scoring(size_of(longest, pieces)) if longest else 0.0
        return max([scoring, *training])


def plan_memory(
    workload: Workload[Row],
    rows: Sequence[Row],
    scored: Sequence[Encoded],
    free_bytes: int,
    pinned: MicroBatches | None = None,
) -> MemoryPlan:
    """Resolve `auto` so that the longest rows fit into `free_bytes`.

    If they do not fit, these are tried in order: return freed memory to the system; halve the
    tokens, but not below the longest row; do both with gradient checkpointing. If nothing fits,
    the last and smallest choice is taken. A resumed run keeps its `pinned` micro-batches;
    returning freed memory changes no result.
    """
    fast = workload.fast
    batch = workload.longest_batch(rows)
    footprint: Footprint | None = None
    candidates = list(_candidates(workload, workload.length(batch[-1]), pinned))
    best, _ = candidates[0]
    for micro, is_returned in candidates:
        if footprint is None or micro.checkpointing != bool(footprint.checkpoints):
            footprint = measure_footprint(
                fast,
                checkpointing=micro.checkpointing,
                has_replay=bool(workload.objective.extra_rows(0)),
            )
        plan = MemoryPlan(best, micro, footprint, free_bytes, is_returned, fits_in_memory=True)
        needed = plan.worst_spread * plan.largest_pass(workload, [batch], scored)
        if needed <= USABLE_SHARE * free_bytes:
            return plan
    return replace(plan, fits_in_memory=False)


def _candidates(
    workload: Workload[Row], longest: int, pinned: MicroBatches | None
) -> Iterator[tuple[MicroBatches, bool]]:
    """Yield the possible choices, best first, each with whether it returns freed memory."""
    best, *others = _micro_batches(workload, longest, pinned)
    can_return = workload.fast.model.device.type == "cpu" and can_return_freed_memory()
    yield best, False
    if can_return:
        yield best, True
    yield from ((it, can_return) for it in others)


def _micro_batches(
    workload: Workload[Row], longest: int, pinned: MicroBatches | None
) -> list[MicroBatches]:
    if pinned:
        return [pinned]
    settings, fast = workload.settings, workload.fast
    base = fast.model.get_base_model()
    can_checkpoint = fast.decoder is not None or bool(base.supports_gradient_checkpointing)
    checkpointing = [settings.gradient_checkpointing is True]
    if settings.gradient_checkpointing == "auto" and can_checkpoint:
        checkpointing = [False, True]
    sizes = [MICRO_BATCH_TOKENS]
    if settings.micro_batch_tokens != "auto":
        sizes = [settings.micro_batch_tokens]
    elif "rows" in fast.pieces:
        while sizes[-1] // 2 >= longest:
            sizes.append(sizes[-1] // 2)
    return [MicroBatches(tokens, is_on) for is_on, tokens in product(checkpointing, sizes)]
