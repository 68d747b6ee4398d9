"""TRL's SFTTrainer on an objective's rows: the only file that uses TRL."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from datasets import Dataset
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import TrainerControl
from trl import SFTConfig, SFTTrainer

from finetuning_exam.data.encoding.labels import IGNORED
from finetuning_exam.errors import DivergedError
from finetuning_exam.model.device import Compute
from finetuning_exam.objectives.base import mean_loss, n_tokens, sequences_of
from finetuning_exam.run_record import TrainingPlan
from finetuning_exam.settings import TrainSettings
from finetuning_exam.training.batches import split_into_passes
from finetuning_exam.training.checkpoint.save import CheckpointingTrainer
from finetuning_exam.training.job import TrainingJob
from finetuning_exam.training.progress import Meter
from finetuning_exam.training.reporter import VALIDATION_LOSS

N_NAMED = 8
"""Rows listed in the error message of a failing step, at most."""
Row = TypeVar("Row")
Inputs = Tensor | tuple[Row, ...]
"""What the collator passes to the trainer."""


def training_arguments(
    settings: TrainSettings,
    plan: TrainingPlan,
    compute: Compute,
    *,
    has_validation: bool,
    is_resumed: bool = False,
    splits_by_tokens: bool = False,
) -> SFTConfig:
    """Convert our settings to TRL's, and set every TRL default that would do harm explicitly.

    If micro-batches are split by tokens, the trainer receives whole optimizer batches.
    """
    rows, passes = settings.per_device_train_batch_size, settings.gradient_accumulation_steps
    arguments = SFTConfig(
        output_dir=settings.output_dir,
        per_device_train_batch_size=rows * passes if splits_by_tokens else rows,
        gradient_accumulation_steps=1 if splits_by_tokens else passes,
        learning_rate=plan.learning_rate,
        num_train_epochs=plan.num_train_epochs,
        max_steps=plan.total_steps,
        lr_scheduler_type=settings.lr_scheduler_type,
        warmup_steps=plan.warmup_steps,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim="adamw_torch",
        seed=settings.seed,
        data_seed=settings.seed,
        logging_steps=settings.logging_steps,
        logging_nan_inf_filter=False,  # on, a diverged run would end with "loss 0.0"
        save_strategy="steps",
        save_steps=plan.save_steps,
        save_total_limit=settings.save_total_limit,
        eval_strategy="steps" if has_validation else "no",
        eval_steps=plan.save_steps,
        eval_on_start=has_validation and not is_resumed,
        restore_callback_states_from_checkpoint=is_resumed,  # the patience of early stopping
        include_num_input_tokens_seen="non_padding",
        load_best_model_at_end=settings.load_best_model_at_end and has_validation,
        metric_for_best_model=VALIDATION_LOSS if has_validation else None,
        greater_is_better=False,
        gradient_checkpointing=plan.micro_batches.checkpointing,
        bf16=False,  # the number format is the base's own; no autocast on top
        fp16=False,
        use_cpu=compute.device.type == "cpu",
        dataloader_pin_memory=compute.device.type == "cuda",
        max_length=None,  # rows come encoded and measured; nothing may cut them again
        packing=False,
        completion_only_loss=settings.completion_only_loss,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        report_to=list(settings.report_to) or "none",
        disable_tqdm=True,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several would be taken at once, with other batches
    return arguments


class ObjectiveTrainer(CheckpointingTrainer, SFTTrainer, Generic[Row]):
    """SFTTrainer that takes its rows, loss and validation from an objective.

    The loss of an optimizer step is the sum of its rows' losses over all micro-batches, divided
    by the sum of their weights (`num_items_in_batch`).
    """

    def __init__(self, job: TrainingJob[Row]) -> None:
        self.set_up_checkpoints(job.checkpoints, Meter())
        self._job = job
        self._step_rows: tuple[Row, ...] = ()
        super().__init__(
            model=job.fast.model,
            args=training_arguments(
                job.settings,
                job.plan,
                job.compute,
                has_validation=bool(job.validation_rows),
                is_resumed=job.checkpoints.resumed is not None,
                splits_by_tokens="rows" in job.fast.pieces,
            ),
            train_dataset=_dataset(job, job.train_rows),
            eval_dataset=_dataset(job, job.validation_rows) if job.validation_rows else None,
            processing_class=job.tokenizer,
            data_collator=self._collate,
        )
        self.model_accepts_loss_kwargs = True  # our loss divides by num_items_in_batch itself
        # TRL asks experts' routers for a loss of their own, which fails where a model answers.
        text_config = job.fast.model.get_base_model().config.get_text_config()
        if hasattr(text_config, "output_router_logits"):
            text_config.output_router_logits = False

    def _send_telemetry(self) -> None:
        """Send nothing: TRL would report each trainer to the Hub unless a variable is set."""

    def create_scheduler(
        self, num_training_steps: int, optimizer: Optimizer | None = None
    ) -> LRScheduler:
        """Return Transformers' scheduler, with a warm-up whose first step is not of rate 0."""
        is_new = self.lr_scheduler is None
        scheduler: LRScheduler = super().create_scheduler(num_training_steps, optimizer)
        if isinstance(scheduler, LambdaLR) and is_new:
            scheduler = without_zero_step(scheduler, self._job.plan.warmup_steps)
            self.lr_scheduler: LRScheduler | None = scheduler
        return scheduler

    def training_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Inputs[Row]],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Run the forward and backward passes of a batch, each over rows of similar length."""
        job, rows = self._job, inputs["rows"]
        assert isinstance(rows, tuple)
        if not self._step_rows:  # the first passes of this step
            rows += job.objective.extra_rows(self.state.global_step)
        self._step_rows += rows
        if num_items_in_batch is None:
            num_items_in_batch = sum(map(job.objective.weight, rows))
        losses = [
            super(ObjectiveTrainer, self).training_step(
                model, {"rows": part}, num_items_in_batch=num_items_in_batch
            )
            for part in split_into_passes(
                job.objective, rows, job.settings, job.plan.micro_batches, job.fast.pieces
            )
        ]
        return torch.stack(losses).sum()

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Inputs[Row]],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Return the rows' summed loss divided by the weight of the whole optimizer batch.

        Raises:
            DivergedError: the loss is not finite.
        """
        objective, rows = self._job.objective, inputs["rows"]
        assert isinstance(rows, tuple)
        if num_items_in_batch is None:
            num_items_in_batch = sum(map(objective.weight, rows))
        losses = objective.losses(self._job.fast, rows)
        loss = objective.step_loss(losses, rows, int(num_items_in_batch))
        if not math.isfinite(float(loss.total.detach())):
            pairs = zip(rows, losses.tolist(), strict=True)
            non_finite = [row for row, row_loss in pairs if not math.isfinite(row_loss)]
            name = f"training loss at step {self.state.global_step + 1}"
            check_finite(math.nan, name, self._names_of(non_finite or rows))
        self.meter.add(n_tokens(objective, rows), float(loss.reported.detach()))
        return loss.total

    def evaluate(
        self,
        eval_dataset: Dataset | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Compute and log the objective's loss over all validation rows."""
        started = time.perf_counter()
        job = self._job
        loss = mean_loss(job.objective, job.fast, job.validation_rows, job.settings.eval_batch_size)
        check_finite(loss, f"validation loss after step {self.state.global_step}")
        metrics = {VALIDATION_LOSS: loss}
        self.meter.pause(time.perf_counter() - started)
        self.log(metrics)
        self.control: TrainerControl = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Tensor | None = None) -> float:
        """Return the gradient norm, checked before the optimizer takes its step.

        Raises:
            DivergedError: it is not finite.
        """
        norm = float(super()._get_grad_norm(model, grad_norm=grad_norm))
        name = f"gradient norm at step {self.state.global_step + 1}"
        check_finite(norm, name, self._names_of(self._step_rows))
        self._step_rows = ()
        return norm

    def _names_of(self, rows: Sequence[Row]) -> str:
        """List the known origins of rows in file order, as a sentence for an error message."""
        wanted = {id(row) for row in rows}
        known = zip(self._job.train_rows, self._job.row_names, strict=False)
        found = [name for row, name in known if id(row) in wanted]
        more = f" and {len(found) - N_NAMED:,} more" if len(found) > N_NAMED else ""
        return f" Rows in this step: {', '.join(found[:N_NAMED])}{more}." if found else ""

    def _collate(self, features: list[dict[str, int]]) -> dict[str, Inputs[Row]]:
        """Return the rows themselves, and the tensors that Transformers counts.

        `attention_mask` has a one per token, and `labels` a label per unit of weight. The first
        label is ignored, as nothing predicts the first token.
        """
        objective = self._job.objective
        rows = tuple(self._job.train_rows[feature["row"]] for feature in features)
        ids = torch.tensor([x for it in sequences_of(objective, rows) for x in it.ids])
        return {
            "rows": rows,
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "labels": torch.tensor([IGNORED] + [0] * sum(map(objective.weight, rows))),
        }


def check_finite(value: float, name: str, rows: str = "") -> None:
    """Raise DivergedError, including the description of the rows, if a value is not finite."""
    if not math.isfinite(value):
        raise DivergedError(
            f"The {name} is {value}.{rows}", "Lower --learning_rate, or check the data."
        )


def without_zero_step(stock: LambdaLR, warmup_steps: int) -> LambdaLR:
    """Return a schedule whose warm-up rises from a first share of the peak rate, never from 0.

    Transformers' step k of a warm-up of n steps has k / n of the peak rate, so its first step
    changes nothing; here it has (k + 1) / (n + 1). From step n on, the rates are the same.
    """

    def raised(stock_rate: Callable[[int], float]) -> Callable[[int], float]:
        return lambda step: (
            (step + 1) / (warmup_steps + 1) if step < warmup_steps else stock_rate(step)
        )

    return LambdaLR(stock.optimizer, [raised(it) for it in stock.lr_lambdas])


def _dataset(job: TrainingJob[Row], rows: Sequence[Row]) -> Dataset:
    """Return a dataset of row numbers, with the ids that TRL expects next to them."""
    first = [job.objective.sequences(row)[0] for row in rows]
    return Dataset.from_dict(
        {"input_ids": [list(it.ids) for it in first], "row": list(range(len(rows)))}
    )
