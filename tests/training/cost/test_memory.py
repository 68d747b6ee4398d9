"""Specification of the memory estimate, and of what is chosen where memory is short."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from tiny import ARCHITECTURES, BRISK, adapted, encoded_rows
from trainings import workload

from finetuning_exam.data.encoding.encode import Encoded
from finetuning_exam.heap import can_return_freed_memory
from finetuning_exam.model.fast.path import FastPath, choose_fast_path, wanted_pieces
from finetuning_exam.run_record import MicroBatches
from finetuning_exam.settings import TrainSettings
from finetuning_exam.training.cost import memory
from finetuning_exam.training.cost.memory import (
    USABLE,
    WORST_HEAP_SPREAD,
    MemoryPlan,
    checkpointing_on,
    measure_footprint,
    plan_memory,
    untouched,
)
from finetuning_exam.training.cost.workload import size_of
from finetuning_exam.training.plan import MICRO_BATCH_TOKENS

MUCH = 10**15
LENGTHS = (190, 33, 64, 70, 121, 9)


def _fast(architecture: str = "llama", pieces: str = "all", **options: object) -> FastPath:
    return choose_fast_path(adapted(architecture, **options), 0, wanted_pieces([pieces]))


def _kept(fast: FastPath, rows: Sequence[Encoded]) -> int:
    """Bytes that a forward pass really keeps, parameters left out."""
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


def _settings(**changes: object) -> TrainSettings:
    return replace(BRISK, **changes)


def _state(model: PeftModel) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("pieces", ["all", "none"])
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_a_few_tokens_tell_what_many_keep(architecture: str, pieces: str) -> None:
    """What autograd keeps of a large batch is known to 5% from probes of some tens of tokens, in
    every architecture, with the fast path and without.
    """
    fast = _fast(architecture, pieces)
    rows = encoded_rows(LENGTHS)
    footprint = measure_footprint(fast, checkpointing=False)
    assert footprint.kept.bytes(size_of(rows, fast.pieces)) == pytest.approx(
        _kept(fast, rows), rel=0.05
    )


@pytest.mark.parametrize("pieces", ["all", "none"])
def test_checkpoints_keep_less(pieces: str) -> None:
    """With checkpointing what is kept is known as well, and it is far less."""
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


def test_logits_are_held_where_the_loss_needs_them_all() -> None:
    """The stock loss holds logits and their gradient; the fast path's only a block of them."""
    size = size_of(encoded_rows((100, 100)), frozenset())
    stock = measure_footprint(_fast("llama", "none"), checkpointing=False)
    fast = measure_footprint(_fast("llama"), checkpointing=False)
    assert stock.kept.per_logit >= 4 * 512
    of_logits = stock.training(size) - stock.training(replace(size, logits=0))
    assert of_logits > 3 * 4 * 512 * size.logits
    assert fast.bytes_per_logit == 0
    assert fast.fixed - stock.fixed == 256 * 512 * 4


@pytest.mark.parametrize("pieces", ["all", "none"])
def test_the_model_is_left_as_it_was(pieces: str) -> None:
    """Estimating leaves no gradient, draws no random number (adapters with dropout would), and
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


def test_the_model_is_left_as_it_was_when_a_pass_fails() -> None:
    """A failure in between gives mode and random state back too."""
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


# What is chosen


def _plan(fast: FastPath, free: float, **changes: object) -> MemoryPlan:
    rows = encoded_rows((300,) * 9)
    return plan_memory(workload(fast, _settings(**changes)), rows, rows[:1], round(free))


def test_with_memory_enough_nothing_is_changed() -> None:
    """Micro-batches are of 2,048 tokens and nothing is computed again."""
    plan = _plan(_fast(), MUCH)
    assert plan.micro_batches == plan.wanted == MicroBatches(2048, checkpointing=False)
    assert plan.fits


def test_what_departs_first_is_the_kept_heap_then_the_size_then_checkpointing_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With ever less memory freed memory goes back; then the tokens are halved down to the longest
    row; then the same with checkpointing; then it does not fit, and the smallest stays.
    """
    monkeypatch.setattr(memory, "can_return_freed_memory", lambda: True)
    fast = _fast(num_hidden_layers=6)
    seen: list[tuple[MicroBatches, bool, bool]] = []
    for tenths in range(300, 180, -1):  # from 1 GB down to 1 MB
        plan = _plan(fast, 10 ** (tenths / 30 - 1), per_device_train_batch_size=9)
        chosen = plan.micro_batches, plan.returns_freed, plan.fits
        if chosen not in seen:
            seen.append(chosen)
    sizes = (2048, 1024, 512)
    wanted = (MicroBatches(2048, checkpointing=False), False, True)
    expected = [
        wanted,
        *((MicroBatches(size, again), True, True) for again in (False, True) for size in sizes),
    ]
    # A step that another one saves nothing over is passed by.
    assert [it for it in expected if it in seen] == [it for it in seen if it[2]]
    assert seen[0] == expected[0]
    assert (MicroBatches(512, checkpointing=False), True, True) in seen
    assert (MicroBatches(512, checkpointing=True), True, True) in seen
    assert seen[-1] == (MicroBatches(512, checkpointing=True), True, False)
    assert len(seen) > 4


def test_where_freed_memory_cannot_go_back_it_is_not_counted_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Other C libraries than glibc keep what they keep."""
    monkeypatch.setattr(memory, "can_return_freed_memory", lambda: False)
    plan = _plan(_fast(), 10)
    assert not plan.returns_freed
    assert not plan.fits


def test_rows_that_are_only_scored_have_to_fit_too() -> None:
    """Long held-out rows are told of, though no training row is long."""
    fast = _fast(num_hidden_layers=1)
    short, long = encoded_rows((30,) * 4), encoded_rows((2000,) * 16)
    work = workload(fast, _settings())
    need = plan_memory(work, short, (), MUCH).largest_pass(work, [short], ())
    free = round(2.5 * need)
    assert plan_memory(work, short, (), free).fits
    assert not plan_memory(work, short, long, free).fits


def test_what_fits_is_within_the_usable_share() -> None:
    """A choice fits when the longest rows take at most the usable share of what is free."""
    fast = _fast()
    plan = _plan(fast, MUCH)
    rows = encoded_rows((300,) * 9)
    need = plan.largest_pass(workload(fast, _settings()), [rows[-4:]], rows[:1])
    for spread, returns_freed in ((WORST_HEAP_SPREAD, False), (1, can_return_freed_memory())):
        least = spread * need / USABLE
        assert _plan(fast, least + 2).micro_batches.tokens == MICRO_BATCH_TOKENS
        assert _plan(fast, least + 2).returns_freed == returns_freed
        less = _plan(fast, least - 2)
        assert (less.micro_batches, less.returns_freed) != (plan.micro_batches, returns_freed)


def test_what_was_asked_for_stands() -> None:
    """Numbers that are given are taken, whether they fit or not."""
    fast = _fast()
    asked = {"micro_batch_tokens": 700, "gradient_checkpointing": False}
    for free, fits in ((MUCH, True), (10, False)):
        plan = _plan(fast, free, **asked)
        assert plan.micro_batches == plan.wanted == MicroBatches(700, checkpointing=False)
        assert plan.fits == fits
    plan = _plan(fast, 10, micro_batch_tokens=700)
    assert plan.micro_batches == MicroBatches(700, checkpointing=True)
    plan = _plan(fast, MUCH, gradient_checkpointing=True)
    assert plan.micro_batches == MicroBatches(2048, checkpointing=True)
    assert plan.footprint.checkpoints is not None


def test_a_resumed_run_keeps_what_it_had() -> None:
    """The earlier part's micro-batches are taken, however much memory is free now."""
    earlier = MicroBatches(512, checkpointing=True)
    for free in (MUCH, 10):
        work = workload(_fast(), _settings())
        plan = plan_memory(work, encoded_rows((30,) * 4), (), free, earlier)
        assert plan.micro_batches == plan.wanted == earlier
        assert plan.fits == (free == MUCH)


def test_without_the_fast_path_s_rows_only_checkpointing_helps() -> None:
    """A stock batch is not split by tokens, so fewer of them are not tried."""
    fast = _fast("llama", "none")
    assert _plan(fast, MUCH).micro_batches == MicroBatches(2048, checkpointing=False)
    plan = _plan(fast, 10)
    assert plan.micro_batches == MicroBatches(2048, checkpointing=True)
    assert not plan.fits


def test_a_model_that_cannot_checkpoint_is_not_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither the fast path nor the model can compute activations again, auto is off."""
    fast = _fast("bloom", "none")
    monkeypatch.setattr(type(fast.model.get_base_model()), "supports_gradient_checkpointing", False)
    assert _plan(fast, 10).micro_batches == MicroBatches(2048, checkpointing=False)
