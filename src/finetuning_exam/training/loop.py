"""One training from rows to the step that is kept."""

from __future__ import annotations

from typing import TypeVar

from transformers import EarlyStoppingCallback, PrinterCallback, ProgressCallback

from finetuning_exam.objectives.base import mean_loss
from finetuning_exam.run_record import TrainingResult
from finetuning_exam.training.job import TrainingJob
from finetuning_exam.training.progress import OnProgress
from finetuning_exam.training.reporter import Reporter
from finetuning_exam.training.trl import ObjectiveTrainer, check_finite

Row = TypeVar("Row")


def train_adapter(job: TrainingJob[Row], on_progress: OnProgress) -> TrainingResult:
    """Train the adapter in place; afterwards the model holds the step that is kept.

    Raises:
        DivergedError: the loss or a gradient is no longer finite.
        StoppedError: a signal ended it after a step, which is saved.
        DiskError, UsageError: a checkpoint could not be written.
    """
    checkpoints = job.checkpoints
    trainer = ObjectiveTrainer(job)
    reporter = Reporter(
        trainer.meter, checkpoints.metrics, on_progress, trainer.log_window, checkpoints.interrupts
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(reporter)
    patience = job.settings.early_stopping_patience
    if job.validation_rows and patience is not None:
        trainer.add_callback(EarlyStoppingCallback(patience))
    trainer.run()
    job.fast.model.eval()
    # The last step may have broken the adapter, and no loss was taken after it.
    probe = mean_loss(job.objective, job.fast, job.train_rows[:1], batch_size=1)
    check_finite(probe, "loss of the trained adapter")
    return _result(trainer, reporter)


def _result(trainer: ObjectiveTrainer[Row], reporter: Reporter) -> TrainingResult:
    state = trainer.state
    best = state.best_global_step if trainer.args.load_best_model_at_end else None
    return TrainingResult(
        steps=state.global_step,
        best_step=best or state.global_step,
        first_validation_loss=reporter.first_validation_loss,
        best_validation_loss=state.best_metric if best else reporter.validation_loss,
        tokens=state.num_input_tokens_seen,
        seconds=trainer.meter.seconds,
        saving_seconds=trainer.saving_seconds,
        tokens_per_second=trainer.meter.tokens_per_second,
        stopped_early=state.global_step < trainer.args.max_steps,
    )
