# ruff: noqa: TID251 - plain TRL, without any code of this project
"""LoRA with plain TRL, following its README: the baseline for `fte train`.

    uv run python bench/plain_trl.py MODEL rows.jsonl --output_dir out --max_steps 6

Everything is TRL's default (so gradient checkpointing is on) except the given recipe, running on
the CPU, float32 (without --bf16), and logging every step. --record FILE saves the training ids and
labels, and when each step ended.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer


class Stamps(TrainerCallback):
    """The end of each optimizer step, with the loss and the number of tokens that TRL logs."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self._ended = 0.0

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Record the time."""
        self._ended = time.time()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float],
        **_: object,
    ) -> None:
        """Record the figures of a step; the final summary has no `loss`."""
        if "loss" in logs:
            tokens, loss = logs["num_tokens"], logs["loss"]
            self.steps.append({"ended": self._ended, "tokens": tokens, "loss": loss})


def main() -> None:
    """Train, and write the record."""
    parser = argparse.ArgumentParser(description="LoRA with plain TRL on prompt/completion rows.")
    parser.add_argument("model")
    parser.add_argument("rows", help="JSON lines file with prompt and completion")
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--max_steps", type=int, required=True)
    parser.add_argument("--per_device_train_batch_size", type=int, default=1)
    parser.add_argument("--gradient_accumulation_steps", type=int, default=2)
    parser.add_argument("--max_length", type=int, default=1024)
    parser.add_argument("--learning_rate", type=float, default=2e-4)
    parser.add_argument("--lora_r", type=int, default=4)
    parser.add_argument("--lora_alpha", type=int, default=8)
    parser.add_argument("--lora_target_modules", nargs="+", default=["q_proj", "v_proj"])
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--bf16", action="store_true", help="use autocast, TRL's default")
    parser.add_argument(
        "--seed_adapter",
        action="store_true",
        help="draw the adapter right after seeding, before the trainer is created",
    )
    flags = parser.parse_args()

    targets = flags.lora_target_modules
    lora = LoraConfig(
        r=flags.lora_r,
        lora_alpha=flags.lora_alpha,
        lora_dropout=0.0,
        target_modules="all-linear" if targets == ["all-linear"] else targets,
        task_type="CAUSAL_LM",
    )
    model = flags.model
    if flags.seed_adapter:
        base = AutoModelForCausalLM.from_pretrained(flags.model, dtype=torch.float32)
        torch.manual_seed(flags.seed)
        model = get_peft_model(base, lora)
    stamps = Stamps()
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=flags.output_dir,
            per_device_train_batch_size=flags.per_device_train_batch_size,
            gradient_accumulation_steps=flags.gradient_accumulation_steps,
            learning_rate=flags.learning_rate,
            lr_scheduler_type="constant",
            max_steps=flags.max_steps,
            max_length=flags.max_length,
            seed=flags.seed,
            logging_steps=1,
            bf16=flags.bf16,
            use_cpu=True,
            report_to="none",
        ),
        train_dataset=load_dataset("json", data_files=flags.rows, split="train"),
        peft_config=None if flags.seed_adapter else lora,
        callbacks=[stamps],
    )
    trainer.train()
    if flags.record:
        record = {
            "threads": torch.get_num_threads(),
            "ids": list(trainer.train_dataset["input_ids"]),
            "labels": list(trainer.train_dataset["labels"]),
            "steps": stamps.steps,
        }
        flags.record.write_text(json.dumps(record), encoding="utf-8")


if __name__ == "__main__":
    main()
