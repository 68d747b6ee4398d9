"""Print the summary of a run before its first step: model, steps, time and memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from finetuning_exam.cli.console import duration, print_line
from finetuning_exam.report.text import counted, size

if TYPE_CHECKING:
    from finetuning_exam.training.cost.memory import MemoryPlan
    from finetuning_exam.training.plan import Cost
    from finetuning_exam.training.run import Prepared


def print_plan(console: Console, prepared: Prepared) -> None:
    """Print the base model, the adapter, and the steps to train."""
    from finetuning_exam.model.adapter import adapted_modules

    base, compute, plan = prepared.base, prepared.compute, prepared.plan
    settings = prepared.settings
    rows = settings.per_device_train_batch_size * settings.gradient_accumulation_steps
    print_line(
        console,
        f"{base.name}: {base.n_parameters / 1e6:.1f} M parameters on {compute.device.type} "
        f"({compute.dtype_name}, {counted(compute.threads, 'thread')}), "
        f"{prepared.rows.template} template",
    )
    print_line(
        console,
        f"LoRA of rank {settings.lora_r} on {adapted_modules(prepared.model)} modules, "
        f"{prepared.n_adapter_parameters / 1e6:.2f} M trainable parameters",
    )
    print_line(
        console,
        f"{plan.total_steps} steps of {rows} rows ({plan.num_train_epochs:.3g} epochs), "
        f"learning rate {plan.learning_rate:g}",
    )
    for note in prepared.fast.notes:
        print_line(console, f"Fast path {note}.")


def print_memory(console: Console, memory: MemoryPlan) -> None:
    """Print what was changed to save memory, and warn if the longest rows may not fit anyway."""
    chosen, free = memory.micro_batches, size(memory.free_bytes)
    changes: list[str] = []
    if chosen != memory.unconstrained:
        changes.append(f"micro-batches of at most {counted(chosen.tokens, 'token')}")
        if chosen.checkpointing:
            changes.append("gradient checkpointing")
    if memory.returns_freed_memory:
        changes.append("freed memory is returned to the system at once (slower)")
    if changes:
        print_line(console, f"Limited memory ({free} free): {', '.join(changes)}")
    if not memory.fits_in_memory:
        print_line(
            console,
            f"Warning: the longest rows may need more than the {free} of free memory. "
            "Lower --max_length, --eval_batch_size or --per_device_train_batch_size.",
        )


def print_cost(console: Console, predicted: Cost, *, can_stop: bool) -> None:
    """Print the predicted cost; `can_stop` says that early stopping may shorten the run."""
    print_line(
        console,
        f"Estimated: {duration(predicted.train_seconds)} of training, "
        f"{duration(predicted.exam_seconds)} of exam, {size(predicted.peak_bytes)} of memory"
        f"{' (without early stopping)' if can_stop else ''}",
    )
