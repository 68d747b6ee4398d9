"""The part of the trainer that saves and resumes: whole checkpoints, no pickles, bit for bit."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Trainer, TrainerState
from transformers.trainer_callback import ExportableState

from finetuning_exam.durable import Json, read_json, write_folder
from finetuning_exam.errors import StoppedError
from finetuning_exam.model.adapter import adapter_tensors, restore_adapter, save_adapter
from finetuning_exam.model.folder import ADAPTER_WEIGHTS
from finetuning_exam.training.checkpoint.find import (
    BEST_WEIGHTS,
    STATE,
    TENSORS,
    TRAINER_STATE,
    CheckpointRef,
    Retention,
    checkpoint_path,
)
from finetuning_exam.training.checkpoint.state import (
    pack_optimizer,
    pack_random,
    pack_scheduler,
    unpack_optimizer,
    unpack_random,
)
from finetuning_exam.training.interrupt import Interrupts
from finetuning_exam.training.parallel import ALONE, Process
from finetuning_exam.training.progress import Meter, MetricsFile
from finetuning_exam.training.run_folder import METRICS


@dataclass(frozen=True, slots=True)
class CheckpointConfig:
    """Where a training's checkpoints and metrics go, what it resumes from, and who may stop it."""

    folder: Path
    keep: int
    resumed: CheckpointRef | None = None
    interrupts: Interrupts = field(default_factory=Interrupts)
    process: Process = ALONE

    @property
    def metrics(self) -> MetricsFile:
        """The run's metrics.jsonl, a copy of which goes into every checkpoint."""
        return MetricsFile(self.folder / METRICS, self.process)


class ExactCheckpoints(Trainer):  # type: ignore[misc]
    """A trainer whose checkpoints hold all that the next step depends on.

    Transformers' own are pickles, written in place. These are written aside and renamed
    (`write_folder`), with the best step's adapter in each, so that one folder is enough to go on.
    """

    meter: Meter
    checkpoints: CheckpointConfig
    log_window: list[float]
    """Losses of the steps since the last line of the metrics."""

    def set_up_checkpoints(self, checkpoints: CheckpointConfig, meter: Meter) -> None:
        """Set up what `Trainer.__init__` knows nothing of."""
        self.checkpoints = checkpoints
        self.meter = meter
        self.log_window = []
        self.saving_seconds = 0.0
        self._retention = Retention(checkpoints.folder, checkpoints.keep, checkpoints.resumed)
        self._best: dict[str, Tensor] | None = None

    def run(self) -> None:
        """Train from the start or from the checkpoint; afterwards the model is the step kept.

        A training whose last step is already in the checkpoint is not trained any further.
        """
        found = self.checkpoints.resumed
        if found is None:
            self.train()
        elif read_json(found.path / STATE)["is_finished"]:
            self.state = TrainerState.load_from_json(str(found.path / TRAINER_STATE))
            self._load_from_checkpoint(str(found.path))
            self.callback_handler.on_train_begin(self.args, self.state, self.control)
        else:
            self.train(resume_from_checkpoint=str(found.path))
        if self.args.load_best_model_at_end and self._best is not None:
            restore_adapter(self.model, self._best)

    def _determine_best_metric(self, metrics: dict[str, float], trial: None) -> bool:
        is_best = bool(super()._determine_best_metric(metrics=metrics, trial=trial))
        if is_best and self.args.load_best_model_at_end:
            self._best = adapter_tensors(self.model)
        return is_best

    def _save_checkpoint(self, model: torch.nn.Module, trial: None) -> None:
        started = time.perf_counter()
        step = self.state.global_step
        self.checkpoints.process.on_main(lambda: self._write_checkpoint(step))
        seconds = time.perf_counter() - started
        self.saving_seconds += seconds
        self.meter.pause(seconds)
        signal = self.checkpoints.interrupts.received
        if signal is not None:
            raise StoppedError(signal, step, self.state.max_steps)

    def _write_checkpoint(self, step: int) -> None:
        write_folder(checkpoint_path(self.checkpoints.folder, step), self._write_files)
        self._retention.add(step)

    def _write_files(self, folder: Path) -> None:
        save_adapter(self.model, folder)
        if self._best is not None and self.state.best_global_step != self.state.global_step:
            save_file(self._best, folder / BEST_WEIGHTS)
        optimizer, groups = pack_optimizer(self.optimizer)
        generators, numbers = pack_random()
        save_file({**optimizer, **generators}, folder / TENSORS)
        for callback in (*self.callback_handler.callbacks, self.control):
            if isinstance(callback, ExportableState):
                self.state.stateful_callbacks[type(callback).__name__] = callback.state()
        self.state.save_to_json(str(folder / TRAINER_STATE))
        state: dict[str, Json] = {
            "is_finished": self.control.should_training_stop,
            "optimizer": groups,
            "scheduler": pack_scheduler(self.lr_scheduler),
            "random": numbers,
            "log_window": list(self.log_window),
        }
        (folder / STATE).write_text(json.dumps(state, allow_nan=False), encoding="utf-8")
        self.checkpoints.metrics.copy_to(folder / METRICS)

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: torch.nn.Module | None = None
    ) -> None:
        folder = Path(resume_from_checkpoint)
        weights = load_file(folder / ADAPTER_WEIGHTS)
        restore_adapter(self.model, weights)
        state = read_json(folder / TRAINER_STATE)
        if self.args.load_best_model_at_end and state.get("best_global_step") is not None:
            earlier = folder / BEST_WEIGHTS
            self._best = load_file(earlier) if earlier.exists() else weights
        self.checkpoints.metrics.restore(folder / METRICS)
        self.log_window[:] = cast("list[float]", read_json(folder / STATE)["log_window"])

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        state = read_json(Path(checkpoint) / STATE)
        tensors = load_file(Path(checkpoint) / TENSORS)
        unpack_optimizer(self.optimizer, tensors, state["optimizer"])
        self.lr_scheduler.load_state_dict(cast("dict[str, Any]", state["scheduler"]))

    def _load_scaler(self, checkpoint: str | None) -> None:
        """There is none without float16 autocast, and a file of its name would be a pickle."""

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        tensors = load_file(Path(checkpoint) / TENSORS)
        unpack_random(tensors, read_json(Path(checkpoint) / STATE)["random"])
