"""How much memory a training will take, found on the model itself, and how to make it fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, TypeVar

import torch
from torch import Tensor

from finetuning_exam.data.encoding.encode import IGNORED, Encoded
from finetuning_exam.heap import can_return_freed_memory
from finetuning_exam.model.fast.linear_loss import block_bytes
from finetuning_exam.model.fast.path import FastPath
from finetuning_exam.run_record import MicroBatches
from finetuning_exam.training.cost.workload import Size, Workload, longest_rows, size_of
from finetuning_exam.training.plan import MICRO_BATCH_TOKENS

USABLE = 0.9
"""Share of the free memory that a training may be expected to take."""
SLACK = 1.1
"""What the allocator holds over what is used, measured on the shapes of docs/experiments.md."""
HEAP_SPREAD, WORST_HEAP_SPREAD = 1.25, 2.3
"""On a CPU a heap that keeps what is freed grows past what lives in it at once, since freed blocks
of one batch's sizes do not fit the next one's: usually, and at worst (docs/experiments.md).
"""
_KERNEL_BYTES = 160 * 2**20
"""What the kernels that oneDNN keeps (as many as cli/environment.py says) come to hold; with them
bfloat16 is multiplied on a CPU.
"""
_ADAPTER_COPIES = 4
"""Gradients, AdamW's two moments, and its temporaries."""
_LOGIT_COPIES = 2
"""Tensors of the size of the logits that the stock loss needs beside what it keeps."""
_PROBE_LENGTHS = (12, 40)

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Activations:
    """Bytes that a forward pass keeps for its backward pass, by what they grow with."""

    per_token: float
    per_pair: float
    per_logit: float

    def bytes(self, size: Size) -> float:
        """All that is kept of a pass."""
        return (
            self.per_token * size.tokens + self.per_pair * size.pairs + self.per_logit * size.logits
        )


@dataclass(frozen=True, slots=True)
class Footprint:
    """The memory that the passes of one model take, from a few tokens computed on it.

    `kept` is without checkpointing; `checkpoints`, where it is used, is with it. `fixed` is held
    in any pass of a training: gradients, AdamW's moments and temporaries, the block of logits.
    """

    kept: Activations
    checkpoints: Activations | None
    n_layers: int
    bytes_per_logit: int
    fixed: int
    is_cpu: bool

    @property
    def slack(self) -> float:
        """What an allocator holds over what is used; CUDA's own one tells what it holds."""
        return SLACK if self.is_cpu else 1.0

    def training(self, size: Size) -> float:
        """The most bytes that a forward and a backward pass take."""
        kept = self.kept.bytes(size)
        a_layer = kept / self.n_layers  # gradients on the way, or what is computed again
        if self.checkpoints:
            kept = self.checkpoints.bytes(size) + a_layer
        return self.slack * (kept + a_layer + self.bytes_per_logit * size.logits) + self.fixed

    def scoring(self, size: Size) -> float:
        """The most bytes that a forward pass alone takes."""
        a_layer = self.kept.bytes(size) / self.n_layers
        return self.slack * (2 * a_layer + self.bytes_per_logit * size.logits)


def measure_footprint(fast: FastPath, *, checkpointing: bool) -> Footprint:
    """Compute a few tokens and see what autograd keeps. The model is left as it was."""
    model = fast.model
    config = model.get_base_model().config.get_text_config(decoder=True)
    vocabulary: int = model.get_input_embeddings().num_embeddings
    has_block, is_cpu = "loss" in fast.pieces, model.device.type == "cpu"
    n_trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    with untouched(fast):
        # What is made once is not measured.
        torch.autograd.backward(fast.row_nll(_probe(8, 1)).sum())
        kept = measure_activations(fast)
        checkpoints = None
        if checkpointing:
            with checkpointing_on(fast):
                checkpoints = measure_activations(fast)
    return Footprint(
        kept,
        checkpoints,
        config.num_hidden_layers,
        0 if has_block else _LOGIT_COPIES * 4 * vocabulary,
        _ADAPTER_COPIES * 4 * n_trained
        + (_KERNEL_BYTES if is_cpu and model.dtype == torch.bfloat16 else 0)
        + (block_bytes(model.get_output_embeddings().weight) if has_block else 0),
        is_cpu,
    )


def measure_activations(fast: FastPath) -> Activations:
    """What autograd keeps of three little passes, solved for tokens, pairs and logits."""
    short, long = _PROBE_LENGTHS
    probes = [_probe(short, 1), _probe(long, 1), _probe(short, short - 1)]
    sizes = [size_of(rows, fast.pieces) for rows in probes]
    kept = [float(_kept_bytes(fast, rows)) for rows in probes]
    per_logit = (kept[2] - kept[0]) / (sizes[2].logits - sizes[0].logits)
    rest = [it - per_logit * size.logits for it, size in zip(kept[:2], sizes, strict=False)]
    # rest = per_token · tokens + per_pair · pairs, twice
    (t0, p0), (t1, p1) = ((size.tokens, size.pairs) for size in sizes[:2])
    per_pair = max(0.0, (rest[1] * t0 - rest[0] * t1) / (p1 * t0 - p0 * t1))
    return Activations((rest[1] - per_pair * p1) / t1, per_pair, max(0.0, per_logit))


def _probe(length: int, n_supervised: int) -> tuple[Encoded, ...]:
    """Two rows, of which one is shorter by a token, so that filling is there too."""
    found = []
    for n in (length, length - 1):
        ids = tuple(range(2, 2 + n))
        first = n - n_supervised + (n < length and n_supervised > 1)
        found.append(Encoded(ids, (IGNORED,) * first + ids[first:], first, 0))
    return tuple(found)


def _kept_bytes(fast: FastPath, rows: Sequence[Encoded]) -> int:
    """Bytes of the distinct tensors, parameters left out, that a forward pass keeps."""
    parameters = {p.untyped_storage().data_ptr() for p in fast.model.parameters()}
    found: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in parameters:
            found[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        nll = fast.row_nll(rows).sum()
    del nll
    return sum(found.values())


@contextmanager
def untouched(fast: FastPath) -> Iterator[None]:
    """Training passes may run while this is open; gradients, mode and random state come back."""
    model = fast.model
    was_training = model.training
    devices = [torch.cuda.current_device()] if next(model.parameters()).is_cuda else []
    try:
        with torch.random.fork_rng(devices):
            model.train()
            yield
    finally:
        model.train(was_training)
        model.zero_grad(set_to_none=True)


@contextmanager
def checkpointing_on(fast: FastPath) -> Iterator[None]:
    """Checkpointing is on while this is open, the way it is on in a training."""
    if fast.decoder:
        before = fast.decoder.checkpointing
        fast.decoder.checkpointing = True
        try:
            yield
        finally:
            fast.decoder.checkpointing = before
        return
    model: Any = fast.model.get_base_model()
    # Transformers gave it a new name and warns of the old one.
    name = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    getattr(model, f"{name}_checkpointing_enable")({"use_reentrant": False})
    try:
        yield
    finally:
        getattr(model, f"{name}_checkpointing_disable")()


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How passes are computed, what they take, and whether that fits into the `free` bytes.

    `wanted` is what would be chosen with memory enough. `returns_freed`: memory is so short that
    what is freed must go back to the system.
    """

    wanted: MicroBatches
    micro_batches: MicroBatches
    footprint: Footprint
    free: int
    returns_freed: bool
    fits: bool

    @property
    def spreads(self) -> tuple[float, float]:
        """What the process takes over what its largest pass does: usually, and at worst."""
        keeps_freed = self.footprint.is_cpu and not self.returns_freed
        return (HEAP_SPREAD, WORST_HEAP_SPREAD) if keeps_freed else (1.0, 1.0)

    def largest_pass(
        self,
        workload: Workload[Row],
        batches: Sequence[Sequence[Row]],
        scored: Sequence[Encoded],
    ) -> float:
        """Return the bytes of the largest pass, of those that train on these optimizer batches
        and of those that score.
        """
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
    free: int,
    pinned: MicroBatches | None = None,
) -> MemoryPlan:
    """Resolve `auto` so that the longest rows fit into the `free` bytes.

    Where they do not fit, freed memory goes back to the system; then tokens are halved, but not
    below the longest row; then the same with checkpointing. Where nothing fits it is the smallest.
    A resumed run keeps its `pinned` micro-batches; what becomes of freed memory changes no number.
    """
    fast = workload.fast
    batch = workload.longest_batch(rows)
    footprint: Footprint | None = None
    candidates = list(_candidates(workload, workload.length(batch[-1]), pinned))
    for micro, returns_freed in candidates:
        if footprint is None or micro.checkpointing != bool(footprint.checkpoints):
            footprint = measure_footprint(fast, checkpointing=micro.checkpointing)
        plan = MemoryPlan(candidates[0][0], micro, footprint, free, returns_freed, fits=True)
        _, worst = plan.spreads
        if worst * plan.largest_pass(workload, [batch], scored) <= USABLE * free:
            return plan
    return replace(plan, fits=False)


def _candidates(
    workload: Workload[Row], longest: int, pinned: MicroBatches | None
) -> Iterator[tuple[MicroBatches, bool]]:
    """Yield what may be chosen, best first, and whether freed memory goes back with it."""
    wanted, *others = _micro_batches(workload, longest, pinned)
    returns_freed = workload.fast.model.device.type == "cpu" and can_return_freed_memory()
    yield wanted, False
    if returns_freed:
        yield wanted, True
    yield from ((it, returns_freed) for it in others)


def _micro_batches(
    workload: Workload[Row], longest: int, pinned: MicroBatches | None
) -> list[MicroBatches]:
    if pinned:
        return [pinned]
    settings, fast = workload.settings, workload.fast
    choices = [settings.gradient_checkpointing is True]
    if settings.gradient_checkpointing == "auto" and _can_checkpoint(fast):
        choices = [False, True]
    sizes = [MICRO_BATCH_TOKENS]
    if settings.micro_batch_tokens != "auto":
        sizes = [settings.micro_batch_tokens]
    elif "rows" in fast.pieces:
        while sizes[-1] // 2 >= longest:
            sizes.append(sizes[-1] // 2)
    return [MicroBatches(tokens, again) for again, tokens in product(choices, sizes)]


def _can_checkpoint(fast: FastPath) -> bool:
    return fast.decoder is not None or bool(
        fast.model.get_base_model().supports_gradient_checkpointing
    )
