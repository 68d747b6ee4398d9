"""TRL's SFTTrainer on rows that are already encoded: the only file that knows TRL."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
from datasets import Dataset
from torch import Tensor
from transformers import (
    TrainerControl,
)
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from finetuning_exam.data.encoding.encode import IGNORED, Encoded
from finetuning_exam.errors import DivergedError
from finetuning_exam.model.device import Compute
from finetuning_exam.model.fast.packing import split_by_tokens
from finetuning_exam.model.fast.path import FastPath
from finetuning_exam.model.score import score_rows
from finetuning_exam.run_record import TrainingPlan
from finetuning_exam.settings import TrainSettings
from finetuning_exam.training.checkpoint.save import CheckpointConfig, ExactCheckpoints
from finetuning_exam.training.progress import Meter
from finetuning_exam.training.reporter import VALIDATION_LOSS

N_NAMED = 8
"""Rows that are named where something is wrong with a step."""
Inputs = Tensor | tuple[Encoded, ...]
"""What the collator hands to the trainer."""


def training_arguments(
    settings: TrainSettings,
    plan: TrainingPlan,
    compute: Compute,
    *,
    has_validation: bool,
    is_resumed: bool = False,
    splits_by_tokens: bool = False,
) -> SFTConfig:
    """Our settings as TRL's, with every default of theirs that would bite set by name.

    Where micro-batches are made by their tokens, the trainer is given an optimizer batch at once.
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


class EncodedRowsTrainer(ExactCheckpoints, SFTTrainer):
    """SFTTrainer whose loss and validation are ours: the same likelihood as the exam's.

    The loss of an optimizer step is the summed NLL of all its supervised tokens divided by their
    number, over all micro-batches, as `num_items_in_batch` has it.
    """

    def __init__(
        self,
        fast: FastPath,
        tokenizer: PreTrainedTokenizerBase,
        arguments: SFTConfig,
        train_rows: Sequence[Encoded],
        validation_rows: Sequence[Encoded],
        settings: TrainSettings,
        plan: TrainingPlan,
        keeping: CheckpointConfig,
        names: Sequence[str] = (),
    ) -> None:
        self.set_up_checkpoints(keeping, Meter())
        self._rows = tuple(train_rows)
        self._names = tuple(names)
        self._step_rows: tuple[Encoded, ...] = ()
        self._micro_batch_tokens = plan.micro_batches.tokens
        self._fast = fast
        self._validation_rows = tuple(validation_rows)
        self._settings = settings
        super().__init__(
            model=fast.model,
            args=arguments,
            train_dataset=_dataset(train_rows),
            eval_dataset=_dataset(validation_rows) if validation_rows else None,
            processing_class=tokenizer,
            data_collator=self._collate,
        )
        self.model_accepts_loss_kwargs = True  # our loss divides by num_items_in_batch itself

    def training_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Inputs],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Forward and backward pass; an optimizer batch in micro-batches of like length."""
        rows = inputs["rows"]
        assert isinstance(rows, tuple)
        self._step_rows += rows
        if "rows" in self._fast.pieces:
            parts = split_by_tokens(rows, self._micro_batch_tokens)
        else:
            parts = [rows]
        if num_items_in_batch is None:
            num_items_in_batch = sum(row.n_supervised for row in rows)
        losses = [
            super(EncodedRowsTrainer, self).training_step(
                model, {"rows": part}, num_items_in_batch=num_items_in_batch
            )
            for part in parts
        ]
        return torch.stack(losses).sum()

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Inputs],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """NLL of a micro-batch over the number of supervised tokens in the whole optimizer batch.

        Raises:
            DivergedError: the loss is not finite.
        """
        rows = inputs["rows"]
        assert isinstance(rows, tuple)
        if num_items_in_batch is None:
            num_items_in_batch = sum(row.n_supervised for row in rows)
        nll = self._fast.row_nll(rows)
        loss = nll.sum() / num_items_in_batch
        value = float(loss.detach())
        if not math.isfinite(value):
            odd = [row for row, x in zip(rows, nll.tolist(), strict=True) if not math.isfinite(x)]
            name = f"training loss at step {self.state.global_step + 1}"
            check_finite(value, name, self._named(odd or rows))
        self.meter.add(sum(len(row.ids) for row in rows), value)
        return loss

    def evaluate(
        self,
        eval_dataset: Dataset | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Validation loss by the exam's own scorer: nats per supervised token over all rows."""
        started = time.perf_counter()
        scores = score_rows(
            self.model, self._validation_rows, self._fast.row_nll, self._settings.eval_batch_size
        )
        nll = math.fsum(score.nll for score in scores)
        metrics = {VALIDATION_LOSS: nll / sum(score.n_tokens for score in scores)}
        name = f"validation loss after step {self.state.global_step}"
        check_finite(metrics[VALIDATION_LOSS], name)
        self.meter.pause(time.perf_counter() - started)
        self.log(metrics)
        self.control: TrainerControl = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Tensor | None = None) -> float:
        """The norm of the gradients, looked at before the optimizer takes its step.

        Raises:
            DivergedError: it is not finite.
        """
        norm = float(super()._get_grad_norm(model, grad_norm=grad_norm))
        name = f"norm of the gradients at step {self.state.global_step + 1}"
        check_finite(norm, name, self._named(self._step_rows))
        self._step_rows = ()
        return norm

    def _named(self, rows: Sequence[Encoded]) -> str:
        """Where rows come from, in the order of the file, as far as that is known."""
        wanted = {id(row) for row in rows}
        known = zip(self._rows, self._names, strict=False)
        found = [name for row, name in known if id(row) in wanted]
        more = f" and {len(found) - N_NAMED:,} more" if len(found) > N_NAMED else ""
        return f" Its rows: {', '.join(found[:N_NAMED])}{more}." if found else ""

    def _collate(self, features: list[dict[str, int]]) -> dict[str, Inputs]:
        """The rows themselves; the tensors beside them are what Transformers counts tokens by."""
        rows = tuple(self._rows[feature["row"]] for feature in features)
        ids = torch.tensor([token for row in rows for token in row.ids])
        return {
            "rows": rows,
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            # The first token of a row is predicted by nothing.
            "labels": torch.tensor([x for row in rows for x in (IGNORED, *row.labels[1:])]),
        }


def check_finite(value: float, name: str, rows: str = "") -> None:
    """Raise DivergedError, with what is known of the rows, for a figure that is not finite."""
    if not math.isfinite(value):
        raise DivergedError(
            f"The {name} is {value}.{rows}", "Lower --learning_rate, or look for broken rows."
        )


def _dataset(rows: Sequence[Encoded]) -> Dataset:
    """The rows by their number; their ids are there since TRL looks at them."""
    return Dataset.from_dict(
        {"input_ids": [list(row.ids) for row in rows], "row": list(range(len(rows)))}
    )
