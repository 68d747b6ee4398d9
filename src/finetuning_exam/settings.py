"""Every setting, stated once. Flags, YAML keys, help texts and run.json derive from these classes.

The text under a field is its help. Nothing here imports torch, so `--help` is instant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Annotated, Literal, TypeVar

import tyro
from annotated_types import Ge, Interval

Device = Literal["auto", "cpu", "cuda", "mps"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Template = Literal["auto", "plain", "chat"]
Scheduler = Literal["linear", "cosine", "constant", "constant_with_warmup"]
Auto = Literal["auto"]
Format = Literal[
    "auto", "instruction", "prompt_completion", "question_answer", "messages", "sharegpt", "text"
]
Tracker = Literal["tensorboard", "wandb", "mlflow", "trackio"]
FastPiece = Literal["rows", "attention", "lora", "elementwise", "loss"]

ModelName = Annotated[str, tyro.conf.arg(aliases=["--model"])]
OriginalModelName = Annotated[str | None, tyro.conf.arg(aliases=["--model"])]
AdapterPath = Annotated[str, tyro.conf.arg(aliases=["--adapter"])]
Count = Annotated[int, Ge(1)]
CountOrZero = Annotated[int, Ge(0)]
Positive = Annotated[float, Interval(gt=0, lt=math.inf)]
Share = Annotated[float, Interval(ge=0, lt=1)]

BUILTIN_MODEL = "builtin"
SHORT_NAMES = {"model": "model_name_or_path", "adapter": "adapter_name_or_path"}
"""Short forms of flags and YAML keys."""


Group = Literal[
    "Data", "Prompts", "Model", "LoRA", "Training", "Generation", "Exam", "Run", "Output"
]
"""Groups of flags, in the order `--help` shows them."""
T = TypeVar("T")


def setting(default: T, group: Group, *, changes_training: bool = True) -> T:
    """Declare a setting with its default and its group in `--help`.

    A resumed run may change a setting only where `changes_training` is false.
    """
    metadata = {"group": group, "changes_training": changes_training}
    return field(default=default, metadata=metadata)


def free_to_change() -> frozenset[str]:
    """Return the names of the training settings that a resumed run may change."""
    return frozenset(it.name for it in fields(TrainSettings) if not it.metadata["changes_training"])


@dataclass(frozen=True, kw_only=True)
class CommonSettings:
    """What every command has."""

    template: Template = setting("auto", "Model")
    """Text around a record; auto takes the tokenizer's chat template if it has one."""
    seed: Annotated[int, Interval(ge=0, lt=2**32)] = setting(42, "Run")
    """Seed of everything that is drawn: split, order, adapter, samples, intervals."""
    config: str | None = setting(None, "Run", changes_training=False)
    """YAML file of settings; the command line wins."""


@dataclass(frozen=True, kw_only=True)
class RunSettings(CommonSettings):
    """Where a command computes."""

    device: Device = setting("auto", "Model")
    """Where to compute; auto takes CUDA or MPS when they work, else the CPU."""
    dtype: Dtype = setting("auto", "Model")
    """Number format of the base; auto: bfloat16 on CUDA that has it and on a CPU that is faster
    with it, by a short trial, else float32."""


@dataclass(frozen=True, kw_only=True)
class FieldSettings:
    """How records are read."""

    format: Format = setting("auto", "Data", changes_training=False)
    """Form of the records; auto: found from the records, and said."""
    prompt_field: str | None = setting(None, "Data", changes_training=False)
    """Field with the instruction; absent: found from the records."""
    answer_field: str | None = setting(None, "Data", changes_training=False)
    """Field with the answer; absent: found from the records."""


@dataclass(frozen=True, kw_only=True)
class ExamSettings:
    """How the exam is taken."""

    max_new_tokens: Count | None = setting(None, "Exam", changes_training=False)
    """Longest answer to generate; absent: the exam's longest reference and a quarter more."""
    answered_examples: CountOrZero = setting(200, "Exam", changes_training=False)
    """How many examples are also answered and put as multiple choice; the rest are only scored."""
    eval_batch_size: Count = setting(16, "Exam", changes_training=False)
    """Rows per forward pass when scoring and generating; it changes no result."""
    general_file: str | None = setting(None, "Exam", changes_training=False)
    """Text by which forgetting is measured, never trained on; absent: a sample of the tool's."""


@dataclass(frozen=True, kw_only=True)
class DataSettings(FieldSettings):
    """Which rows a run reads, and how many of them a step takes."""

    data: tyro.conf.Positional[tuple[str, ...]] = setting(
        ("train.jsonl",), "Data", changes_training=False
    )
    """Training files: JSON lines, a JSON array, CSV, TSV or Parquet; or hub:owner/name:split."""
    model_name_or_path: ModelName = setting(BUILTIN_MODEL, "Model")
    """Base model: builtin, a folder, or a name on the Hugging Face hub."""
    eval_file: str | None = setting(None, "Data", changes_training=False)
    """Exam file; absent: exam.jsonl beside train.jsonl, else a part of the training file."""
    eval_fraction: Annotated[float, Interval(ge=0, le=0.4)] = setting(0.1, "Data")
    """Share of the training rows held out for validation, and again for an exam without a file."""
    max_length: Count = setting(1024, "Data")
    """Longest row in tokens; a longer one loses the middle of its prompt, never of its answer."""
    completion_only_loss: bool = setting(True, "Training")
    """Train on the answer only, not on the prompt."""
    per_device_train_batch_size: Count = setting(16, "Training")
    """Rows per forward and backward pass."""
    gradient_accumulation_steps: Count = setting(1, "Training")
    """Passes per optimizer step."""


@dataclass(frozen=True, kw_only=True)
class CheckSettings(CommonSettings, DataSettings):
    """Read data the way training will, and report every fault with its file and line."""

    show: CountOrZero = setting(0, "Output")
    """Print this many records as the model will see them."""
    json: bool = setting(False, "Output")
    """Print everything as JSON, for programs."""
    fix: str | None = setting(None, "Output")
    """Write a copy without broken records and exact duplicates here (JSON lines)."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings(RunSettings, DataSettings, ExamSettings):
    """Fine-tune a model on a file of instructions with LoRA, then examine it against its base."""

    output_dir: str = setting("output", "Run", changes_training=False)
    """Folder for the adapter, the exam, the report and the checkpoints."""
    skip_bad_rows: bool = setting(False, "Data", changes_training=False)
    """Leave out records with errors and go on; without it they end the run before it starts."""
    lora_r: Count = setting(16, "LoRA")
    """Rank of the adapter."""
    lora_alpha: Count = setting(32, "LoRA")
    """Scale of the adapter; the update is multiplied by alpha / r."""
    lora_dropout: Share = setting(0.0, "LoRA")
    """Dropout before the adapter during training."""
    lora_target_modules: tuple[str, ...] = setting(("all-linear",), "LoRA")
    """Modules that get an adapter: all-linear, or names such as q_proj v_proj."""
    num_train_epochs: Positive | Auto = setting("auto", "Training")
    """Passes over the training rows; auto by model size, printed when the run starts."""
    max_steps: Count | None = setting(None, "Training")
    """Optimizer steps; when given it overrides the epochs."""
    learning_rate: Positive | Auto = setting("auto", "Training")
    """Peak learning rate; auto by model size, printed when the run starts."""
    lr_scheduler_type: Scheduler = setting("cosine", "Training")
    """How the learning rate falls."""
    warmup_ratio: Share = setting(0.03, "Training")
    """Share of the steps during which the learning rate rises."""
    weight_decay: Annotated[float, Interval(ge=0, lt=math.inf)] = setting(0.0, "Training")
    """Weight decay of AdamW."""
    max_grad_norm: Positive = setting(1.0, "Training")
    """Gradients are scaled down to this norm."""
    gradient_checkpointing: bool | Auto = setting("auto", "Training")
    """Recompute activations in the backward pass: slower; auto: only where memory is short."""
    fast_path: tuple[FastPiece | Literal["all", "none"], ...] = setting(("all",), "Training")
    """Faster computations with the same results: all, none, or some of their names."""
    micro_batch_tokens: Count | Auto = setting("auto", "Training")
    """Most tokens computed at once with the fast path's rows; auto: 2048, less where memory is
    short; it changes no result."""
    save_steps: Count | Auto = setting("auto", "Run")
    """Steps between validations, each with a checkpoint; auto: up to ten times in a run."""
    save_total_limit: Annotated[int, Ge(2)] = setting(2, "Run", changes_training=False)
    """Checkpoints kept, two at least, so that one is left if the newest is damaged."""
    logging_steps: Count = setting(5, "Run", changes_training=False)
    """Steps between two lines of metrics.jsonl."""
    load_best_model_at_end: bool = setting(True, "Training")
    """Keep the step with the lowest validation loss, not the last."""
    early_stopping_patience: Count | None = setting(3, "Training")
    """Stop after this many validations without a better one; None: never."""
    report_to: tuple[Tracker, ...] = setting((), "Run", changes_training=False)
    """Trackers that get the metrics too; each must be installed."""
    resume_from_checkpoint: str | None = setting(None, "Run", changes_training=False)
    """Go on from a checkpoint: latest, or its folder."""
    fork: str | None = setting(None, "Run")
    """Start a new run from the weights of this checkpoint or adapter folder."""
    overwrite_output_dir: bool = setting(False, "Run", changes_training=False)
    """Start again where an unfinished run lies, and remove that one."""
    fail_if_worse: bool = setting(False, "Exam", changes_training=False)
    """Exit with 7 when the exam finds the tuned model worse."""


@dataclass(frozen=True, kw_only=True)
class ExamCommandSettings(RunSettings, FieldSettings, ExamSettings):
    """Examine an adapter against its base on held-out examples."""

    data: tyro.conf.Positional[str] = setting("exam.jsonl", "Data", changes_training=False)
    """Exam file, of any form that fte check reads."""
    adapter_name_or_path: AdapterPath = setting("output", "Model")
    """Folder of the adapter."""
    model_name_or_path: OriginalModelName = setting(None, "Model")
    """Base model; absent: the one the adapter was trained on."""
    output_file: str | None = setting(None, "Output")
    """Where to write exam.json; absent: nowhere."""
    fail_if_worse: bool = setting(False, "Exam", changes_training=False)
    """Exit with 7 when the exam finds the tuned model worse."""


@dataclass(frozen=True, kw_only=True)
class CompareSettings(RunSettings, FieldSettings):
    """Show the answers of base and tuned model side by side."""

    prompt: tyro.conf.Positional[tuple[str, ...]] = setting((), "Prompts")
    """Questions to ask; without any and without --prompts they are asked for."""
    prompts: str | None = setting(None, "Prompts")
    """File of questions, of any form that fte check reads; where it has references, answers are
    scored by them."""
    html: str | None = setting(None, "Output")
    """Write the comparison to this file too, as a page of its own."""
    adapter_name_or_path: AdapterPath = setting("output", "Model")
    """Folder of the adapter."""
    model_name_or_path: OriginalModelName = setting(None, "Model")
    """Base model; absent: the one the adapter was trained on."""
    max_new_tokens: Count = setting(80, "Generation", changes_training=False)
    """Longest answer to generate."""
    do_sample: bool = setting(False, "Generation")
    """Draw answers at random instead of taking the likeliest token."""
    temperature: Positive = setting(1.0, "Generation")
    """Spread of the draw; needs --do_sample True."""
    top_p: Annotated[float, Interval(gt=0, le=1)] = setting(1.0, "Generation")
    """Draw from the likeliest tokens that hold this share; needs --do_sample True."""
    eval_batch_size: Count = setting(16, "Generation", changes_training=False)
    """Prompts per forward pass; it changes no greedy answer."""
