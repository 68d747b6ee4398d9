"""What `fte train` says of a run before its first step: model, steps, time and memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from finetuning_exam.cli.console import duration, print_line
from finetuning_exam.report.text import counted, size

if TYPE_CHECKING:
    from finetuning_exam.run_record import Cost
    from finetuning_exam.training.cost.memory import MemoryPlan
    from finetuning_exam.training.run import Prepared


def print_plan(console: Console, prepared: Prepared) -> None:
    """Say what will be trained, on what, and for how many steps."""
    from finetuning_exam.model.adapter import adapted_modules

    base, compute, plan = prepared.base, prepared.compute, prepared.plan
    settings = prepared.settings
    rows = settings.per_device_train_batch_size * settings.gradient_accumulation_steps
    print_line(
        console,
        f"{base.name}: {base.n_parameters / 1e6:.1f} M parameters on {compute.device.type} "
        f"({compute.dtype_name}, {compute.threads} threads), {prepared.rows.template} template",
    )
    print_line(
        console,
        f"LoRA r {settings.lora_r} on {adapted_modules(prepared.model)} modules, "
        f"{prepared.n_adapter_parameters / 1e6:.2f} M parameters to train",
    )
    print_line(
        console,
        f"{plan.total_steps} steps of {rows} rows ({plan.num_train_epochs:.3g} epochs), "
        f"learning rate {plan.learning_rate:g}",
    )
    for note in prepared.fast.notes:
        print_line(console, f"Fast path {note}.")


def print_memory(console: Console, memory: MemoryPlan) -> None:
    """Say what was changed where memory is short, and whether it is enough then."""
    chosen = memory.micro_batches
    changes: list[str] = []
    if chosen != memory.wanted:
        again = " and gradient checkpointing" if chosen.checkpointing else ""
        changes.append(f"micro-batches of at most {counted(chosen.tokens, 'token')}{again}")
    if memory.returns_freed:
        changes.append("what is freed goes back to the system at once, which takes longer")
    if changes:
        print_line(console, f"{size(memory.free)} of memory are free: {'; '.join(changes)}")
    if not memory.fits:
        print_line(
            console,
            f"Warning: the longest rows may need more memory than the {size(memory.free)} that "
            "are free. Lower --max_length, --eval_batch_size or --per_device_train_batch_size.",
        )


def print_cost(console: Console, predicted: Cost, *, can_stop: bool) -> None:
    """Say what the run will take; `can_stop` is whether it may end before its last step."""
    print_line(
        console,
        f"About {duration(predicted.train_seconds)} of training and "
        f"{duration(predicted.exam_seconds)} of exam"
        f"{' (without early stopping)' if can_stop else ''}, "
        f"{size(predicted.peak_bytes)} of memory",
    )
