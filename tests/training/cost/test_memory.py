"""Memory is predicted accurately, and smaller passes are chosen if it is short."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import torch
from peft import PeftModel
from tiny import ARCHITECTURES, BRISK, adapted, encoded_rows
from trainings import workload

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.heap import can_return_freed_memory
from finetuning_exam.model.fast.path import FastPath, choose_fast_path, wanted_pieces
from finetuning_exam.run_record import MicroBatches
from finetuning_exam.settings import TrainSettings
from finetuning_exam.training.cost import memory
from finetuning_exam.training.cost.footprint import (
    checkpointing_on,
    measure_footprint,
    untouched,
)
from finetuning_exam.training.cost.memory import (
    USABLE_SHARE,
    WORST_HEAP_SPREAD,
    MemoryPlan,
    plan_memory,
)
from finetuning_exam.training.cost.workload import size_of
from finetuning_exam.training.plan import MICRO_BATCH_TOKENS

MUCH = 10**15
LENGTHS = (190, 33, 64, 70, 121, 9)


def _fast(architecture: str = "llama", pieces: str = "all", **options: Any) -> FastPath:
    return choose_fast_path(adapted(architecture, **options), 0, wanted_pieces([pieces]))


def _kept(fast: FastPath, rows: Sequence[Encoded]) -> int:
    """Return the bytes that a forward pass actually keeps, without parameters."""
    known = {p.untyped_storage().data_ptr() for p in fast.model.parameters()}
    found: dict[int, int] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        nll = fast.row_nll(rows)
    assert nll.requires_grad
    return sum(size for at, size in found.items() if at not in known)


def _settings(**changes: Any) -> TrainSettings:
    return replace(BRISK, **changes)


def _state(model: PeftModel) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("pieces", ["all", "none"])
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_small_probes_predict_large_batches(architecture: str, pieces: str) -> None:
    """Probes of a few dozen tokens predict what autograd keeps for a large batch to 5%, for every
    architecture, with and without the fast path.
    """
    fast = _fast(architecture, pieces)
    rows = encoded_rows(LENGTHS)
    footprint = measure_footprint(fast, checkpointing=False)
    assert footprint.kept.bytes(size_of(rows, fast.pieces)) == pytest.approx(
        _kept(fast, rows), rel=0.05
    )


@pytest.mark.parametrize("pieces", ["all", "none"])
def test_checkpoints_keep_less(pieces: str) -> None:
    """Memory with gradient checkpointing is predicted as well, and it is far lower."""
    fast = _fast("llama", pieces, num_hidden_layers=6)
    rows = encoded_rows(LENGTHS)
    size = size_of(rows, fast.pieces)
    footprint = measure_footprint(fast, checkpointing=True)
    assert footprint.checkpoints is not None
    with checkpointing_on(fast):
        kept = _kept(fast, rows)
    assert footprint.checkpoints.bytes(size) == pytest.approx(kept, rel=0.05)
    assert kept < 0.5 * footprint.kept.bytes(size)
    assert footprint.training(size) < 0.6 * replace(footprint, checkpoints=None).training(size)
    assert footprint.scoring(size) < footprint.training(size)


def test_only_the_stock_loss_holds_all_logits() -> None:
    """The stock loss holds all logits and their gradient; the fast path holds one block of them."""
    size = size_of(encoded_rows((100, 100)), frozenset())
    stock = measure_footprint(_fast("llama", "none"), checkpointing=False)
    fast = measure_footprint(_fast("llama"), checkpointing=False)
    assert stock.kept.per_logit >= 4 * 512
    of_logits = stock.training(size) - stock.training(replace(size, logits=0))
    assert of_logits > 3 * 4 * 512 * size.logits
    assert fast.bytes_per_logit == 0
    assert fast.fixed - stock.fixed == 256 * 512 * 4


@pytest.mark.parametrize("pieces", ["all", "none"])
def test_the_model_is_left_unchanged(pieces: str) -> None:
    """Measuring leaves no gradients and no trace in the random state (even with dropout), and
    changes neither weights nor mode.
    """
    fast = choose_fast_path(adapted(dropout=0.5), 0, wanted_pieces([pieces]))
    fast.model.eval()
    before, state = torch.get_rng_state(), _state(fast.model)
    measure_footprint(fast, checkpointing=True)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in fast.model.parameters())
    assert all(torch.equal(state[name], it) for name, it in _state(fast.model).items())
    assert not fast.model.training
    assert fast.decoder is None or not fast.decoder.checkpointing
    assert not any(getattr(it, "gradient_checkpointing", False) for it in fast.model.modules())


def test_the_model_is_left_unchanged_if_a_pass_fails() -> None:
    """Mode and random state are restored after an exception too."""
    fast = _fast()
    fast.model.eval()
    before = torch.get_rng_state()
    with suppress(ZeroDivisionError), untouched(fast), checkpointing_on(fast):
        torch.rand(1)
        raise ZeroDivisionError
    assert torch.equal(torch.get_rng_state(), before)
    assert fast.decoder is not None
    assert not fast.decoder.checkpointing
    assert not fast.model.training


# The choice of micro-batches


def _plan(fast: FastPath, free: float, **changes: object) -> MemoryPlan:
    rows = encoded_rows((300,) * 9)
    return plan_memory(workload(fast, _settings(**changes)), rows, rows[:1], round(free))


def test_with_enough_memory_the_defaults_are_used() -> None:
    """Micro-batches have 2,048 tokens, without gradient checkpointing."""
    plan = _plan(_fast(), MUCH)
    assert plan.micro_batches == plan.unconstrained == MicroBatches(2048, checkpointing=False)
    assert plan.fits_in_memory


def test_memory_is_saved_in_a_fixed_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """As memory shrinks, freed memory is returned; then tokens are halved down to the longest row;
    then the same is done with checkpointing; finally the smallest choice is kept, as nothing fits.
    """
    monkeypatch.setattr(memory, "can_return_freed_memory", lambda: True)
    fast = _fast(num_hidden_layers=6)
    seen: list[tuple[MicroBatches, bool, bool]] = []
    for tenths in range(300, 180, -1):  # from 1 GB down to 1 MB
        plan = _plan(fast, 10 ** (tenths / 30 - 1), per_device_train_batch_size=9)
        chosen = plan.micro_batches, plan.returns_freed_memory, plan.fits_in_memory
        if chosen not in seen:
            seen.append(chosen)
    sizes = (2048, 1024, 512)
    unconstrained = (MicroBatches(2048, checkpointing=False), False, True)
    expected = [
        unconstrained,
        *((MicroBatches(size, is_on), True, True) for is_on in (False, True) for size in sizes),
    ]
    # A choice that saves nothing over the previous one never appears.
    assert [it for it in expected if it in seen] == [it for it in seen if it[2]]
    assert seen[0] == expected[0]
    assert (MicroBatches(512, checkpointing=False), True, True) in seen
    assert (MicroBatches(512, checkpointing=True), True, True) in seen
    assert seen[-1] == (MicroBatches(512, checkpointing=True), True, False)
    assert len(seen) > 4


def test_without_glibc_freed_memory_is_not_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a C library that cannot return freed memory, the plan does not rely on it."""
    monkeypatch.setattr(memory, "can_return_freed_memory", lambda: False)
    plan = _plan(_fast(), 10)
    assert not plan.returns_freed_memory
    assert not plan.fits_in_memory


def test_rows_that_are_only_scored_must_fit_too() -> None:
    """Long held-out rows do not fit, even if all training rows are short."""
    fast = _fast(num_hidden_layers=1)
    short, long = encoded_rows((30,) * 4), encoded_rows((2000,) * 16)
    work = workload(fast, _settings())
    need = plan_memory(work, short, (), MUCH).largest_pass(work, [short], ())
    free = round(2.5 * need)
    assert plan_memory(work, short, (), free).fits_in_memory
    assert not plan_memory(work, short, long, free).fits_in_memory


def test_what_fits_is_within_the_usable_share() -> None:
    """A choice fits if the longest rows need at most the usable share of the free memory."""
    fast = _fast()
    plan = _plan(fast, MUCH)
    rows = encoded_rows((300,) * 9)
    need = plan.largest_pass(workload(fast, _settings()), [rows[-4:]], rows[:1])
    for spread, is_returned in ((WORST_HEAP_SPREAD, False), (1, can_return_freed_memory())):
        least = spread * need / USABLE_SHARE
        assert _plan(fast, least + 2).micro_batches.tokens == MICRO_BATCH_TOKENS
        assert _plan(fast, least + 2).returns_freed_memory == is_returned
        less = _plan(fast, least - 2)
        assert (less.micro_batches, less.returns_freed_memory) != (plan.micro_batches, is_returned)


def test_explicit_settings_are_kept() -> None:
    """Explicit values are used whether they fit or not."""
    fast = _fast()
    asked = {"micro_batch_tokens": 700, "gradient_checkpointing": False}
    for free, fits in ((MUCH, True), (10, False)):
        plan = _plan(fast, free, **asked)
        assert plan.micro_batches == plan.unconstrained == MicroBatches(700, checkpointing=False)
        assert plan.fits_in_memory == fits
    plan = _plan(fast, 10, micro_batch_tokens=700)
    assert plan.micro_batches == MicroBatches(700, checkpointing=True)
    plan = _plan(fast, MUCH, gradient_checkpointing=True)
    assert plan.micro_batches == MicroBatches(2048, checkpointing=True)
    assert plan.footprint.checkpoints is not None


def test_a_resumed_run_keeps_its_micro_batches() -> None:
    """The micro-batches of the interrupted run are used, however much memory is free now."""
    earlier = MicroBatches(512, checkpointing=True)
    for free in (MUCH, 10):
        work = workload(_fast(), _settings())
        plan = plan_memory(work, encoded_rows((30,) * 4), (), free, earlier)
        assert plan.micro_batches == plan.unconstrained == earlier
        assert plan.fits_in_memory == (free == MUCH)


def test_without_the_fast_path_only_checkpointing_saves_memory() -> None:
    """A stock batch is not split by tokens, so smaller micro-batches are not tried."""
    fast = _fast("llama", "none")
    assert _plan(fast, MUCH).micro_batches == MicroBatches(2048, checkpointing=False)
    plan = _plan(fast, 10)
    assert plan.micro_batches == MicroBatches(2048, checkpointing=True)
    assert not plan.fits_in_memory


def test_a_model_without_checkpointing_does_not_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` is off if neither the fast path nor the model can recompute activations."""
    fast = _fast("bloom", "none")
    monkeypatch.setattr(type(fast.model.get_base_model()), "supports_gradient_checkpointing", False)
    assert _plan(fast, 10).micro_batches == MicroBatches(2048, checkpointing=False)
