"""Measure a model's passes on a few tokens, and extrapolate the memory of larger ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.encoding.labels import IGNORED
from finetuning_exam.model.fast.linear_kl import kl_block_bytes
from finetuning_exam.model.fast.linear_loss import block_bytes
from finetuning_exam.model.fast.path import FastPath
from finetuning_exam.training.cost.workload import Size, size_of

ALLOCATOR_SLACK = 1.1
"""Memory the allocator holds per byte in use, measured on the shapes in docs/experiments.md."""
_KERNEL_BYTES = 160 * 2**20
"""Memory of oneDNN's kernel cache, which bfloat16 on a CPU fills (cli/startup.py limits it)."""
_ADAPTER_COPIES = 4
"""Gradients, AdamW's two moments, and its temporaries."""
_LOGIT_COPIES = 2
"""Logit-sized tensors that the stock loss needs in addition to those it keeps."""
_PROBE_LENGTHS = (12, 40)


@dataclass(frozen=True, slots=True)
class Activations:
    """Bytes that a forward pass keeps for its backward pass, by the count they grow with."""

    per_token: float
    per_pair: float
    per_logit: float

    def bytes(self, size: Size) -> float:
        """Return all bytes that a pass of this size keeps."""
        return (
            self.per_token * size.tokens + self.per_pair * size.pairs + self.per_logit * size.logits
        )


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory of a model's passes, extrapolated from a few tokens.

    `kept` is what a pass keeps without gradient checkpointing, `checkpoints` what it keeps with
    it. `fixed` is held in every training pass: gradients, AdamW's moments and temporaries, and the
    block of logits.
    """

    kept: Activations
    checkpoints: Activations | None
    n_layers: int
    bytes_per_logit: int
    fixed: int
    is_cpu: bool

    @property
    def slack(self) -> float:
        """Memory held per byte in use; CUDA's allocator reports what it holds."""
        return ALLOCATOR_SLACK if self.is_cpu else 1.0

    def training(self, size: Size) -> float:
        """Return the peak bytes of a forward and a backward pass."""
        kept = self.kept.bytes(size)
        per_layer = kept / self.n_layers  # gradients in transit, or recomputed activations
        if self.checkpoints:
            kept = self.checkpoints.bytes(size) + per_layer
        return self.slack * (kept + per_layer + self.bytes_per_logit * size.logits) + self.fixed

    def scoring(self, size: Size) -> float:
        """Return the peak bytes of a forward pass without gradients."""
        per_layer = self.kept.bytes(size) / self.n_layers
        return self.slack * (2 * per_layer + self.bytes_per_logit * size.logits)


def measure_footprint(
    fast: FastPath, *, checkpointing: bool, has_replay: bool = False
) -> Footprint:
    """Measure what autograd keeps for a few tokens. The model is left unchanged."""
    model = fast.model
    config = model.get_base_model().config.get_text_config(decoder=True)
    vocabulary: int = model.get_input_embeddings().num_embeddings
    has_block, is_cpu = "loss" in fast.pieces, model.device.type == "cpu"
    n_trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    with untouched(fast):
        # Warm up: allocations made only once are not measured.
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
        + (block_bytes(model.get_output_embeddings().weight) if has_block else 0)
        + (kl_block_bytes(model.get_output_embeddings().weight) if has_replay else 0),
        is_cpu,
    )


def measure_activations(fast: FastPath) -> Activations:
    """Measure what autograd keeps in three small passes, and solve for tokens, pairs and logits."""
    short, long = _PROBE_LENGTHS
    probes = [_probe(short, 1), _probe(long, 1), _probe(short, short - 1)]
    sizes = [size_of(rows, fast.pieces) for rows in probes]
    kept = [float(_kept_bytes(fast, rows)) for rows in probes]
    per_logit = (kept[2] - kept[0]) / (sizes[2].logits - sizes[0].logits)
    rest = [it - per_logit * size.logits for it, size in zip(kept[:2], sizes, strict=False)]
    # Two equations: rest = per_token · tokens + per_pair · pairs
    (t0, p0), (t1, p1) = ((size.tokens, size.pairs) for size in sizes[:2])
    per_pair = max(0.0, (rest[1] * t0 - rest[0] * t1) / (p1 * t0 - p0 * t1))
    return Activations((rest[1] - per_pair * p1) / t1, per_pair, max(0.0, per_logit))


def _probe(length: int, n_supervised: int) -> tuple[Encoded, ...]:
    """Return two rows, one of them a token shorter, so that padding is measured too."""
    rows = []
    for n in (length, length - 1):
        ids = tuple(range(2, 2 + n))
        first = n - n_supervised + (n < length and n_supervised > 1)
        rows.append(Encoded(ids, (IGNORED,) * first + ids[first:], first, 0))
    return tuple(rows)


def _kept_bytes(fast: FastPath, rows: Sequence[Encoded]) -> int:
    """Return the bytes of the distinct tensors that a forward pass keeps, without parameters."""
    parameters = {p.untyped_storage().data_ptr() for p in fast.model.parameters()}
    kept: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        nll = fast.row_nll(rows).sum()
    del nll
    return sum(kept.values())


@contextmanager
def untouched(fast: FastPath) -> Iterator[None]:
    """Run training passes, then clear gradients and restore the mode and the random state."""
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
    """Enable gradient checkpointing temporarily, in the way that training does."""
    if fast.decoder:
        before = fast.decoder.checkpointing
        fast.decoder.checkpointing = True
        try:
            yield
        finally:
            fast.decoder.checkpointing = before
        return
    model: Any = fast.model.get_base_model()
    # Newer versions of Transformers warn about the old name.
    name = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    getattr(model, f"{name}_checkpointing_enable")({"use_reentrant": False})
    try:
        yield
    finally:
        getattr(model, f"{name}_checkpointing_disable")()
