"""One training from rows to the step that is kept."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import EarlyStoppingCallback, PrinterCallback, ProgressCallback
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from finetuning_exam.data.encoding.encode import Encoded
from finetuning_exam.model.device import Compute
from finetuning_exam.model.fast.path import FastPath
from finetuning_exam.model.score import score_rows
from finetuning_exam.run_record import TrainingPlan, TrainingResult
from finetuning_exam.settings import TrainSettings
from finetuning_exam.training.checkpoint.save import CheckpointConfig
from finetuning_exam.training.progress import OnProgress
from finetuning_exam.training.reporter import Reporter
from finetuning_exam.training.trl import EncodedRowsTrainer, check_finite, training_arguments


def train_adapter(
    fast: FastPath,
    tokenizer: PreTrainedTokenizerBase,
    train_rows: Sequence[Encoded],
    validation_rows: Sequence[Encoded],
    settings: TrainSettings,
    plan: TrainingPlan,
    compute: Compute,
    keeping: CheckpointConfig,
    on_progress: OnProgress,
    names: Sequence[str] = (),
) -> TrainingResult:
    """Train the adapter in place; afterwards the model holds the step that is kept. `names` are
    those of the training rows, for whoever has to look one up.

    Raises:
        DivergedError: the loss or a gradient is no longer finite.
        StoppedError: a signal ended it after a step, which is saved.
        DiskError, UsageError: a checkpoint could not be written.
    """
    arguments = training_arguments(
        settings,
        plan,
        compute,
        has_validation=bool(validation_rows),
        is_resumed=keeping.resumed is not None,
        splits_by_tokens="rows" in fast.pieces,
    )
    trainer = EncodedRowsTrainer(
        fast, tokenizer, arguments, train_rows, validation_rows, settings, plan, keeping, names
    )
    reporter = Reporter(
        trainer.meter, keeping.metrics, on_progress, trainer.log_window, keeping.interrupts
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(reporter)
    if validation_rows and settings.early_stopping_patience is not None:
        trainer.add_callback(EarlyStoppingCallback(settings.early_stopping_patience))
    trainer.run()
    fast.model.eval()
    # The last step may have broken the adapter, and no loss was taken after it.
    probe = score_rows(fast.model, train_rows[:1], fast.row_nll, batch_size=1)[0]
    check_finite(probe.nll_per_token, "loss of the trained adapter")
    state = trainer.state
    best = state.best_global_step if arguments.load_best_model_at_end else None
    return TrainingResult(
        steps=state.global_step,
        best_step=best or state.global_step,
        first_validation_loss=reporter.first_validation_loss,
        best_validation_loss=state.best_metric if best else reporter.validation_loss,
        tokens=state.num_input_tokens_seen,
        seconds=trainer.meter.seconds,
        saving_seconds=trainer.saving_seconds,
        tokens_per_second=trainer.meter.tokens_per_second,
        stopped_early=state.global_step < plan.total_steps,
    )
