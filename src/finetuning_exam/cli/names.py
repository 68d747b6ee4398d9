"""Hints for an unknown flag or YAML key: its name in this project, or the nearest name."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

_NAMES_HERE = {
    "model": ("base_model", "model_name", "model_path"),
    "adapter": ("adapter_path", "lora_path", "lora_model_dir", "lora_weights"),
    "data": ("dataset", "datasets", "dataset_name", "dataset_path", "train_file", "train_data"),
    "prompt": ("question", "questions"),
    "eval_file": ("eval_dataset", "exam_file", "test_file"),
    "eval_fraction": ("val_size", "val_set_size", "validation_split"),
    "max_length": ("cutoff_len", "max_seq_len", "max_seq_length", "sequence_len"),
    "max_new_tokens": ("max_tokens",),
    "output_dir": ("out", "out_dir", "output", "output_path", "save_dir"),
    "learning_rate": ("lr",),
    "lr_scheduler_type": ("lr_scheduler", "scheduler"),
    "num_train_epochs": ("epochs", "n_epochs", "num_epochs"),
    "per_device_train_batch_size": ("batch_size", "micro_batch_size", "train_batch_size"),
    "gradient_accumulation_steps": ("grad_acc_steps", "grad_accum", "grad_accum_steps"),
    "eval_batch_size": ("per_device_eval_batch_size",),
    "lora_r": ("lora_rank", "r", "rank"),
    "lora_target_modules": ("lora_target", "target_modules"),
    "save_steps": ("eval_steps",),
    "early_stopping_patience": ("patience",),
    "resume_from_checkpoint": ("resume",),
    "dtype": ("precision", "torch_dtype"),
    "device": ("device_map",),
}
"""Names that users of TRL, LlamaFactory, Axolotl, Unsloth or mlx-lm know, by the names here."""

_NAMES_ELSEWHERE = {elsewhere: here for here, names in _NAMES_HERE.items() for elsewhere in names}

_ALWAYS_LORA = "Training always uses a LoRA adapter."
_NO_QUANTIZATION = "The base model is not quantized; --dtype bfloat16 halves its memory."
_FACTS = {
    "bf16": "Use --dtype bfloat16.",
    "fp16": "Use --dtype float16.",
    "finetuning_type": _ALWAYS_LORA,
    "use_lora": _ALWAYS_LORA,
    "use_peft": _ALWAYS_LORA,
    "load_in_4bit": _NO_QUANTIZATION,
    "load_in_8bit": _NO_QUANTIZATION,
    "quantization_bit": _NO_QUANTIZATION,
    "optim": "The optimizer is AdamW.",
    "trust_remote_code": "Models that bring their own code are refused.",
    "warmup_steps": "Use --warmup_ratio, a share of the steps.",
}
"""What to say where no setting here does the same."""


def name_elsewhere(name: str) -> str:
    """Return the name here of a setting that another tool calls `name`, or `name` itself."""
    return _NAMES_ELSEWHERE.get(name, name)


def answer_for(name: str, known: Collection[str], mark: str = "") -> str:
    """Return what a name of another tool is called here, or why there is no such setting.

    `known` are the names that would be right; `mark` stands before each (`--` for flags). A name
    that is not in the tables has no answer: an empty text.
    """
    here = name_elsewhere(name)
    if here != name and here in known:
        return f"Here it is called {mark}{here}."
    return _FACTS.get(name, "")


def guess_for(name: str, known: Collection[str], mark: str = "") -> str:
    """Return a question with the nearest known name, or an empty text."""
    found = get_close_matches(name, known, n=1)
    return f"Did you mean {mark}{found[0]}?" if found else ""
