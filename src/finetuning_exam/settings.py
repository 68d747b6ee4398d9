"""Every setting, stated once. Flags, YAML keys, help texts and run.json derive from these classes.

The text under a field is its help. Nothing here imports torch, so `--help` is instant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

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


@dataclass(frozen=True, kw_only=True)
class CommonSettings:
    """What every command has."""

    template: Template = "auto"
    """Text around a record; auto takes the tokenizer's chat template if it has one."""
    seed: Annotated[int, Interval(ge=0, lt=2**32)] = 42
    """Seed of everything that is drawn: split, order, adapter, samples, intervals."""
    config: str | None = None
    """YAML file of settings; the command line wins."""


@dataclass(frozen=True, kw_only=True)
class RunSettings(CommonSettings):
    """Where a command computes."""

    device: Device = "auto"
    """Where to compute; auto takes CUDA or MPS when they work, else the CPU."""
    dtype: Dtype = "auto"
    """Number format of the base; auto: bfloat16 on CUDA that has it and on a CPU that is faster
    with it, by a short trial, else float32."""


@dataclass(frozen=True, kw_only=True)
class FieldSettings:
    """How records are read."""

    format: Format = "auto"
    """Form of the records; auto: found from the records, and said."""
    prompt_field: str | None = None
    """Field with the instruction; absent: found from the records."""
    answer_field: str | None = None
    """Field with the answer; absent: found from the records."""


@dataclass(frozen=True, kw_only=True)
class ExamSettings:
    """How the exam is taken."""

    max_new_tokens: Count | None = None
    """Longest answer to generate; absent: the exam's longest reference and a quarter more."""
    answered_examples: CountOrZero = 200
    """How many examples are also answered and put as multiple choice; the rest are only scored."""
    eval_batch_size: Count = 16
    """Rows per forward pass when scoring and generating; it changes no result."""
    general_file: str | None = None
    """Text by which forgetting is measured, never trained on; absent: a sample of the tool's."""


@dataclass(frozen=True, kw_only=True)
class DataSettings(FieldSettings):
    """Which rows a run reads, and how many of them a step takes."""

    data: tyro.conf.Positional[tuple[str, ...]] = ("train.jsonl",)
    """Training files: JSON lines, a JSON array, CSV, TSV or Parquet; or hub:owner/name:split."""
    model_name_or_path: ModelName = BUILTIN_MODEL
    """Base model: builtin, a folder, or a name on the Hugging Face hub."""
    eval_file: str | None = None
    """Exam file; absent: exam.jsonl beside train.jsonl, else a part of the training file."""
    eval_fraction: Annotated[float, Interval(ge=0, le=0.4)] = 0.1
    """Share of the training rows held out for validation, and again for an exam without a file."""
    max_length: Count = 1024
    """Longest row in tokens; a longer one loses the middle of its prompt, never of its answer."""
    completion_only_loss: bool = True
    """Train on the answer only, not on the prompt."""
    per_device_train_batch_size: Count = 16
    """Rows per forward and backward pass."""
    gradient_accumulation_steps: Count = 1
    """Passes per optimizer step."""


@dataclass(frozen=True, kw_only=True)
class CheckSettings(CommonSettings, DataSettings):
    """Read data the way training will, and report every fault with its file and line."""

    show: CountOrZero = 0
    """Print this many records as the model will see them."""
    json: bool = False
    """Print everything as JSON, for programs."""
    fix: str | None = None
    """Write a copy without broken records and exact duplicates here (JSON lines)."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings(RunSettings, DataSettings, ExamSettings):
    """Fine-tune a model on a file of instructions with LoRA, then examine it against its base."""

    output_dir: str = "output"
    """Folder for the adapter, the exam, the report and the checkpoints."""
    skip_bad_rows: bool = False
    """Leave out records with errors and go on; without it they end the run before it starts."""
    lora_r: Count = 16
    """Rank of the adapter."""
    lora_alpha: Count = 32
    """Scale of the adapter; the update is multiplied by alpha / r."""
    lora_dropout: Share = 0.0
    """Dropout before the adapter during training."""
    lora_target_modules: tuple[str, ...] = ("all-linear",)
    """Modules that get an adapter: all-linear, or names such as q_proj v_proj."""
    num_train_epochs: Positive | Auto = "auto"
    """Passes over the training rows; auto by model size, printed when the run starts."""
    max_steps: Count | None = None
    """Optimizer steps; when given it overrides the epochs."""
    learning_rate: Positive | Auto = "auto"
    """Peak learning rate; auto by model size, printed when the run starts."""
    lr_scheduler_type: Scheduler = "cosine"
    """How the learning rate falls."""
    warmup_ratio: Share = 0.03
    """Share of the steps during which the learning rate rises."""
    weight_decay: Annotated[float, Interval(ge=0, lt=math.inf)] = 0.0
    """Weight decay of AdamW."""
    max_grad_norm: Positive = 1.0
    """Gradients are scaled down to this norm."""
    gradient_checkpointing: bool | Auto = "auto"
    """Recompute activations in the backward pass: slower; auto: only where memory is short."""
    fast_path: tuple[FastPiece | Literal["all", "none"], ...] = ("all",)
    """Faster computations with the same results: all, none, or some of their names."""
    micro_batch_tokens: Count | Auto = "auto"
    """Most tokens computed at once with the fast path's rows; auto: 2048, less where memory is
    short; it changes no result."""
    save_steps: Count | Auto = "auto"
    """Steps between validations, each with a checkpoint; auto: up to ten times in a run."""
    save_total_limit: Annotated[int, Ge(2)] = 2
    """Checkpoints kept, two at least, so that one is left if the newest is damaged."""
    logging_steps: Count = 5
    """Steps between two lines of metrics.jsonl."""
    load_best_model_at_end: bool = True
    """Keep the step with the lowest validation loss, not the last."""
    early_stopping_patience: Count | None = 3
    """Stop after this many validations without a better one; None: never."""
    report_to: tuple[Tracker, ...] = ()
    """Trackers that get the metrics too; each must be installed."""
    resume_from_checkpoint: str | None = None
    """Go on from a checkpoint: latest, or its folder."""
    fork: str | None = None
    """Start a new run from the weights of this checkpoint or adapter folder."""
    overwrite_output_dir: bool = False
    """Start again where an unfinished run lies, and remove that one."""
    fail_if_worse: bool = False
    """Exit with 7 when the exam finds the tuned model worse."""


@dataclass(frozen=True, kw_only=True)
class ExamCommandSettings(RunSettings, FieldSettings, ExamSettings):
    """Examine an adapter against its base on held-out examples."""

    data: tyro.conf.Positional[str] = "exam.jsonl"
    """Exam file, of any form that fte check reads."""
    adapter_name_or_path: AdapterPath = "output"
    """Folder of the adapter."""
    model_name_or_path: OriginalModelName = None
    """Base model; absent: the one the adapter was trained on."""
    output_file: str | None = None
    """Where to write exam.json; absent: nowhere."""
    fail_if_worse: bool = False
    """Exit with 7 when the exam finds the tuned model worse."""


@dataclass(frozen=True, kw_only=True)
class CompareSettings(RunSettings, FieldSettings):
    """Show the answers of base and tuned model side by side."""

    prompt: tyro.conf.Positional[tuple[str, ...]] = ()
    """Questions to ask; without any and without --prompts they are asked for."""
    prompts: str | None = None
    """File of questions, of any form that fte check reads; where it has references, answers are
    scored by them."""
    html: str | None = None
    """Write the comparison to this file too, as a page of its own."""
    adapter_name_or_path: AdapterPath = "output"
    """Folder of the adapter."""
    model_name_or_path: OriginalModelName = None
    """Base model; absent: the one the adapter was trained on."""
    max_new_tokens: Count = 80
    """Longest answer to generate."""
    do_sample: bool = False
    """Draw answers at random instead of taking the likeliest token."""
    temperature: Positive = 1.0
    """Spread of the draw; needs --do_sample True."""
    top_p: Annotated[float, Interval(gt=0, le=1)] = 1.0
    """Draw from the likeliest tokens that hold this share; needs --do_sample True."""
    eval_batch_size: Count = 16
    """Prompts per forward pass; it changes no greedy answer."""
