"""The trainer's events as metrics.jsonl rows and as `Progress` for whoever watches."""

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
        """Start the meter, and tell where the run begins; a resumed one goes on in its metrics."""
        self._first_step = state.global_step
        earlier = self._metrics.rows() if state.global_step else ()
        losses = [row[VALIDATION_LOSS] for row in earlier if VALIDATION_LOSS in row]
        if losses:
            self.first_validation_loss, self.validation_loss = losses[0], losses[-1]
        self._meter.start()
        self._tell(state)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Tell of a step; the last one is always logged and validated, and a signal ends the
        training after a step by a checkpoint.
        """
        self._last_loss = self._meter.take_loss()
        self._log_window.append(self._last_loss)
        if self._interrupts.received is not None:
            control.should_save = True
        if state.global_step >= state.max_steps:
            control.should_log = True
            control.should_evaluate = args.eval_strategy != "no"  # the last step may be the best
        self._tell(state)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: object,
    ) -> None:
        """Write a row of metrics.jsonl for a training or a validation log."""
        logs = logs or {}
        at: dict[str, float | int] = {"step": state.global_step, "epoch": state.epoch or 0.0}
        if VALIDATION_LOSS in logs:
            self.validation_loss = logs[VALIDATION_LOSS]
            if self.first_validation_loss is None:
                self.first_validation_loss = self.validation_loss
            self._metrics.append({**at, VALIDATION_LOSS: self.validation_loss})
            self._tell(state)
        elif "loss" in logs:
            named: dict[str, float | int] = {
                key: logs[key] for key in ("learning_rate", "grad_norm") if key in logs
            }
            # The trainer's own mean forgets, in a resume, the steps before the checkpoint.
            loss = math.fsum(self._log_window) / len(self._log_window)
            self._log_window.clear()
            tokens = state.num_input_tokens_seen
            speed = round(self._meter.tokens_per_second, 1)
            self._metrics.append(
                {**at, "loss": loss, **named, "tokens": tokens, "tokens_per_second": speed}
            )

    def _tell(self, state: TrainerState) -> None:
        meter = self._meter
        done = state.global_step - self._first_step
        left = meter.seconds / done * (state.max_steps - state.global_step) if done else math.nan
        self._on_progress(
            Progress(
                state.global_step,
                state.max_steps,
                state.epoch or 0.0,
                self._last_loss,
                self.validation_loss,
                meter.tokens_per_second,
                left,
            )
        )
