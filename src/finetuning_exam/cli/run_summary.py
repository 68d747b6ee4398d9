"""Print the summary of a run: its data, its plan, its cost, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from finetuning_exam.cli.console import duration, print_line, print_sources
from finetuning_exam.data.findings import Finding, errors
from finetuning_exam.data.split import Split
from finetuning_exam.report.data_check import (
    exam_warning,
    folds_line,
    folds_warning,
    kinds_lines,
    split_line,
)
from finetuning_exam.report.text import counted, signed, size
from finetuning_exam.run_record import Cost, TrainingResult
from finetuning_exam.training.plan import rows_in_step

if TYPE_CHECKING:
    from finetuning_exam.api.events import DataRead, FoldEnded, RunBegun
    from finetuning_exam.training.cost.memory import MemoryPlan
    from finetuning_exam.training.prepare import Prepared


def print_plan(console: Console, prepared: Prepared) -> None:
    """Print the base model, the adapter, and the steps to train."""
    from finetuning_exam.model.adapter import adapted_modules
    from finetuning_exam.model.device import requested_threads
    from finetuning_exam.model.targets import unadapted_experts

    base, compute, plan = prepared.base, prepared.compute, prepared.plan
    settings = prepared.settings
    rows = rows_in_step(settings, len(prepared.rows.train))
    asked = ""
    if settings.threads != "auto":
        asked = " by --threads"
    elif requested_threads() == compute.threads:
        asked = " by OMP_NUM_THREADS"
    print_line(
        console,
        f"{base.name}: {base.n_parameters / 1e6:.1f} M parameters on {compute.device.type} "
        f"({compute.dtype_name}, {counted(compute.threads, 'thread')}{asked}), "
        f"{prepared.rows.template} template",
    )
    if base.source_note:
        print_line(console, f"{base.name}: {base.source_note}")
    print_line(
        console,
        f"LoRA of rank {settings.lora_r} on "
        f"{counted(adapted_modules(prepared.model), 'module')}, "
        f"{prepared.n_adapter_parameters / 1e6:.2f} M trainable parameters",
    )
    print_line(
        console,
        f"{counted(plan.total_steps, 'step')} of {counted(rows, 'row')} "
        f"({epochs_words(plan.num_train_epochs)}), learning rate {plan.learning_rate:g}",
    )
    if prepared.replay.note:
        weight = f", weight {settings.replay_weight:g}" if prepared.replay.ids else ""
        print_line(console, f"Replay: {prepared.replay.note}{weight}")
    for note in prepared.fast.notes:
        print_line(console, f"Fast path {note}.")
    for note in base.notes:
        print_line(console, f"Warning: {base.name}: {note}.")
    share, experts = unadapted_experts(prepared.model)
    if experts:
        print_line(
            console,
            f"Warning: {share:.0%} of the weights are in experts, which stay as they are. To adapt "
            f"them too: --lora_target_modules all-linear {' '.join(experts)}",
        )


def epochs_words(n: float) -> str:
    """Return `1 epoch` or `2.5 epochs`, with three digits."""
    text = f"{n:.3g}"
    return f"{text} epoch{'' if text == '1' else 's'}"


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


def print_cost(console: Console, predicted: Cost, *, can_stop: bool, n_trainings: int = 1) -> None:
    """Print the predicted cost; `can_stop` says that early stopping may shorten the run.

    In a cross-validation it is that of all `n_trainings` that are left.
    """
    several = f" for {n_trainings} trainings" if n_trainings > 1 else ""
    print_line(
        console,
        f"Estimated{several}: {duration(predicted.train_seconds)} of training, "
        f"{duration(predicted.exam_seconds)} of exam, {size(predicted.peak_bytes)} of memory"
        f"{' (without early stopping)' if can_stop else ''}",
    )


def print_data(console: Console, read: DataRead) -> None:
    """Print which files were read, what was found in them, and how they are split."""
    check, split = read.check, read.split
    print_sources(console, check)
    skipped = len(errors(check.findings))
    if skipped:
        print_line(console, f"Warning: skipped {counted(skipped, 'record')} with errors.")
    print_findings(console, check.findings)
    if read.folds:
        print_line(console, folds_line(read.folds, len(split.exam)))
        warning = folds_warning(read.exam)
    else:
        print_line(console, split_line(split, check.exam))
        warning = exam_warning(read.exam, split, check.exam)
    if not split.validation:
        print_line(console, "No validation rows: the last step is kept.")
    if warning:
        print_line(console, f"Warning: {warning}")
    if split.taught:
        first = ", ".join(example.where for example in split.taught[:3])
        n_taught = counted(len(split.taught), "exam question")
        print_line(
            console,
            f"Warning: left out {n_taught} that the training file also has, such as {first}.",
        )


def print_used(console: Console, read: DataRead, used: Split) -> None:
    """Print the split again if some of its examples could not be used."""
    n_left_out = len(_keys(read.split) - _keys(used))
    if n_left_out:
        again = "" if read.folds else f" {split_line(used, read.check.exam)}"
        print_line(console, f"Left out {counted(n_left_out, 'example')}.{again}")


def _keys(split: Split) -> frozenset[tuple[str, str, str]]:
    """What tells examples apart, also where the exam asks for each answer of a conversation."""
    parts = (*split.train, *split.validation, *split.exam)
    return frozenset((it.where, it.instruction, it.answer) for it in parts)


def print_findings(console: Console, findings: Sequence[Finding]) -> None:
    """Print a line for each kind of finding."""
    for line in kinds_lines(findings):
        print_line(console, f"  {line}")


def print_begun(console: Console, folder: str, begun: RunBegun) -> None:
    """Print what a run resumes from or replaces."""
    if begun.resumed is not None:
        for reason in begun.resumed.passed_over:
            print_line(console, f"Warning: skipped a damaged checkpoint: {reason}.")
        if begun.machine_changes:
            changes = ", ".join(begun.machine_changes)
            print_line(console, f"Warning: the last bits may differ: {changes}.")
        print_line(console, f"Resuming from {begun.resumed.path}")
    if begun.replaced:
        print_line(console, f"{folder}: replacing the earlier run")


def print_fold(console: Console, ended: FoldEnded) -> None:
    """Print the figures of a fold."""
    figures, nll = ended.figures, ended.figures.nll_per_token
    earlier = " (done earlier)" if ended.is_earlier else ""
    print_line(
        console,
        f"Fold {ended.fold.number} of {ended.fold.n_folds}: trained on "
        f"{counted(figures.n_train, 'example')}, examined on {figures.n_exam:,}: NLL per token "
        f"{nll.base:.3f} → {nll.tuned:.3f} ({signed(nll.tuned - nll.base)}){earlier}",
    )


def print_training(console: Console, result: TrainingResult, seconds: float) -> None:
    """Print how the training ended."""
    early = ", stopped early" if result.stopped_early else ""
    kept = f"step {result.best_step} kept" if result.best_step != result.steps else "last step kept"
    print_line(
        console,
        f"{counted(result.steps, 'step')} in {duration(seconds)}{early}, "
        f"{result.tokens_per_second:,.0f} tokens/s, {kept}",
    )
    if result.adapter_scale != 1.0:
        print_line(console, f"Adapter scaled by {result.adapter_scale:g}{_scale_reason(result)}")
    first, best = result.first_validation_loss, result.best_validation_loss
    if first is not None and best is not None and best >= first:
        print_line(
            console, "Warning: no step was better on the validation rows than the untrained model."
        )


def _scale_reason(result: TrainingResult) -> str:
    """Return what a scale that was chosen is better at than the whole adapter."""
    points = {it.scale: it for it in result.frontier}
    if not points:
        return ""
    whole, kept = points[1.0], points[result.adapter_scale]
    return (
        f": validation loss {whole.validation_loss:.3f} → {kept.validation_loss:.3f}, "
        f"loss on general text {whole.general_loss:.3f} → {kept.general_loss:.3f}"
    )
