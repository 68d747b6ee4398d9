"""Report the trainer's events to metrics.jsonl and to a progress callback."""

from __future__ import annotations

import math

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from finetuning_exam.training.interrupt import Interrupts
from finetuning_exam.training.progress import Meter, MetricsFile, OnProgress, Progress

VALIDATION_LOSS = "eval_loss"


class Reporter(TrainerCallback):
    """Turns the trainer's events into metrics.jsonl rows and `Progress`."""

    def __init__(
        self,
        meter: Meter,
        metrics: MetricsFile,
        on_progress: OnProgress,
        log_window: list[float],
        interrupts: Interrupts,
    ) -> None:
        self._meter = meter
        self._metrics = metrics
        self._log_window = log_window
        self._interrupts = interrupts
        self._on_progress = on_progress
        self._first_step = 0
        self._last_loss: float | None = None
        self.first_validation_loss: float | None = None
        self.validation_loss: float | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Start the meter and report the first step; a resumed run continues its metrics."""
        self._first_step = state.global_step
        earlier = self._metrics.rows() if state.global_step else ()
        losses = [row[VALIDATION_LOSS] for row in earlier if VALIDATION_LOSS in row]
        if losses:
            self.first_validation_loss, self.validation_loss = losses[0], losses[-1]
        self._meter.start()
        self._report(state)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Report a step, log and validate the last one, and save a checkpoint after a signal."""
        self._last_loss = self._meter.take_loss()
        self._log_window.append(self._last_loss)
        if self._interrupts.received is not None:
            control.should_save = True
        if state.global_step >= state.max_steps:
            control.should_log = True
            control.should_evaluate = args.eval_strategy != "no"  # the last step may be the best
        self._report(state)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: object,
    ) -> None:
        """Append a row to metrics.jsonl for a training or validation log."""
        logs = logs or {}
        row: dict[str, float | int] = {"step": state.global_step, "epoch": state.epoch or 0.0}
        if VALIDATION_LOSS in logs:
            self.validation_loss = logs[VALIDATION_LOSS]
            if self.first_validation_loss is None:
                self.first_validation_loss = self.validation_loss
            self._metrics.append({**row, VALIDATION_LOSS: self.validation_loss})
            self._report(state)
        elif "loss" in logs:
            # After a resume, the trainer's own mean would omit the steps before the checkpoint.
            row["loss"] = math.fsum(self._log_window) / len(self._log_window)
            self._log_window.clear()
            row |= {key: logs[key] for key in ("learning_rate", "grad_norm") if key in logs}
            row["tokens"] = state.num_input_tokens_seen
            row["tokens_per_second"] = round(self._meter.tokens_per_second, 1)
            self._metrics.append(row)

    def _report(self, state: TrainerState) -> None:
        meter = self._meter
        done, remaining = state.global_step - self._first_step, state.max_steps - state.global_step
        seconds_left = meter.seconds / done * remaining if done else math.nan
        self._on_progress(
            Progress(
                state.global_step,
                state.max_steps,
                state.epoch or 0.0,
                self._last_loss,
                self.validation_loss,
                meter.tokens_per_second,
                seconds_left,
            )
        )
