"""Every setting, declared once. Flags, YAML keys, help and run.json derive from these classes.

The text under a field is its help. If a default of None stands for something, the help says for
what ("Default: …"). Nothing here imports torch, so `--help` is instant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Interval

from finetuning_exam.setting import setting

Device = Literal["auto", "cpu", "cuda", "mps"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Template = Literal["auto", "plain", "chat"]
SystemTurns = Literal["auto", "keep", "fold"]
Scheduler = Literal["linear", "cosine", "constant", "constant_with_warmup"]
Auto = Literal["auto"]
Format = Literal[
    "auto", "instruction", "prompt_completion", "question_answer", "messages", "sharegpt", "text"
]
Tracker = Literal["tensorboard", "wandb", "mlflow", "trackio"]
FastPiece = Literal["rows", "attention", "lora", "elementwise", "loss"]

Count = Annotated[int, Ge(1)]
CountOrZero = Annotated[int, Ge(0)]
Positive = Annotated[float, Interval(gt=0, lt=math.inf)]
Share = Annotated[float, Interval(ge=0, lt=1)]
Scale = Annotated[float, Interval(gt=0, le=1)]

BUILTIN_MODEL = "builtin"


@dataclass(frozen=True, kw_only=True)
class CommonSettings:
    """Settings of every command."""

    template: Template = setting("auto", "Model")
    """Text around each record. auto: the tokenizer's chat template if it has one, else plain."""
    enable_thinking: bool | Auto = setting("auto", "Model")
    """With a chat template: answers begin with a thought, between <think> and </think>. auto: if
    any of the data does; an adapter is used as it was trained."""
    system_turns: SystemTurns = setting("auto", "Model")
    """System text of conversations. keep: a turn of its own; fold: before the first question, for
    chat templates that take no system turns. auto: keep; an adapter is used as it was trained."""
    seed: Annotated[int, Interval(ge=0, lt=2**32)] = setting(42, "Run")
    """Seed for everything random: split, row order, adapter, sampling, confidence intervals."""
    config: str | None = setting(None, "Run", "FILE", changes_training=False)
    """YAML file of settings; flags override it."""


@dataclass(frozen=True, kw_only=True)
class RunSettings(CommonSettings):
    """Settings of the commands that run a model."""

    device: Device = setting("auto", "Speed and memory")
    """Where to compute. auto: CUDA or MPS if it works, else the CPU."""
    dtype: Dtype = setting("auto", "Speed and memory")
    """Number format of the base model. auto: bfloat16 on a GPU that supports it, and on a CPU if it
    is faster there in a short trial; else float32."""
    threads: Count | Auto = setting("auto", "Speed and memory", changes_training=False)
    """CPU threads; another number changes the last bits of results. auto: OMP_NUM_THREADS, or else
    the cores that this process may use."""


@dataclass(frozen=True, kw_only=True)
class FieldSettings:
    """How to read records."""

    format: Format = setting("auto", "Data", "FORMAT", changes_training=False)
    """Layout of the records. auto: detected from the records, and reported."""
    prompt_field: str | None = setting(None, "Data", "NAME", changes_training=False)
    """Field that holds the instruction. Default: detected from the records."""
    answer_field: str | None = setting(None, "Data", "NAME", changes_training=False)
    """Field that holds the answer. Default: detected from the records."""


@dataclass(frozen=True, kw_only=True)
class ExamOptions:
    """How to run the exam."""

    max_new_tokens: Count | None = setting(None, "Exam", changes_training=False)
    """Longest answer to generate, in tokens. Default: the exam's longest reference plus a
    quarter."""
    answered_examples: CountOrZero | Auto = setting("auto", "Exam", changes_training=False)
    """Examples that are also answered and posed as multiple choice; the rest are only scored. auto:
    up to 200 are posed, and of them at least 30 are answered, or more if answers take at most 15%
    of the training's predicted time."""
    eval_batch_size: Count = setting(16, "Speed and memory", changes_training=False)
    """Rows per forward pass when scoring and generating; does not change the results."""
    general_file: str | None = setting(None, "Exam", "FILE", changes_training=False)
    """Text for measuring forgetting; never trained on. Default: built-in sample."""
    skills: str = setting("auto", "Exam", "FILE", changes_training=False)
    """Multiple-choice questions that show which skills were lost. auto: the built-in ones; none: no
    questions; or a file of questions, with the fields skill, question, choices and answer."""


@dataclass(frozen=True, kw_only=True)
class DataSettings(FieldSettings):
    """The data of a run, and how many rows a step takes."""

    data: tuple[str, ...] = setting(
        ("train.jsonl",), "Data", "FILE", changes_training=False, positional=True
    )
    """Training files: JSON lines, JSON, CSV, TSV, Excel, Parquet or plain text; a folder, a pattern
    such as "data/*.jsonl", or - for standard input; or a dataset on the Hugging Face Hub, as
    hub:owner/name:split."""
    model_name_or_path: str = setting(BUILTIN_MODEL, "Model", "MODEL", alias="model")
    """Base model: builtin, a folder, a GGUF file, or a name on the Hugging Face Hub."""
    eval_file: str | None = setting(None, "Data", "FILE", changes_training=False)
    """Exam file. Default: exam.jsonl next to train.jsonl, or test.* of a folder, else a part of the
    training file."""
    eval_fraction: Annotated[float, Interval(ge=0, le=0.4)] = setting(0.1, "Data")
    """Share of the training rows held out for validation, and the same share again for the exam
    if there is no exam file."""
    max_length: Count = setting(1024, "Data")
    """Longest row, in tokens; a longer one loses the middle of its prompt, never part of its
    answer."""
    completion_only_loss: bool = setting(True, "Training")
    """Train on the answers only, not on the prompts."""
    per_device_train_batch_size: Count = setting(16, "Training")
    """Rows per forward and backward pass."""
    gradient_accumulation_steps: Count = setting(1, "Training")
    """Passes per optimizer step."""


@dataclass(frozen=True, kw_only=True)
class CheckSettings(CommonSettings, DataSettings):
    """Settings of `fte check`."""

    show: CountOrZero = setting(0, "Output")
    """Print this many examples as the model will see them."""
    json: bool = setting(False, "Output")
    """Print the result as JSON, for programs."""
    fix: str | None = setting(None, "Output", "FILE")
    """Write a copy without faulty records or exact duplicates, as JSON lines. Default: no copy."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings(RunSettings, DataSettings, ExamOptions):
    """Settings of `fte train`."""

    output_dir: str = setting("output", "Output", "FOLDER", changes_training=False)
    """Folder for the adapter, the exam, the report and the checkpoints."""
    skip_bad_rows: bool = setting(False, "Data", changes_training=False)
    """Skip records with errors; otherwise they stop the run before it starts."""
    lora_r: Count = setting(16, "LoRA")
    """Rank of the adapter."""
    lora_alpha: Count = setting(32, "LoRA")
    """Scale of the adapter: its update is multiplied by alpha / r."""
    lora_dropout: Share = setting(0.0, "LoRA")
    """Dropout on the adapter's input during training."""
    lora_target_modules: tuple[str, ...] = setting(("all-linear",), "LoRA", "NAME")
    """Modules that get an adapter: all-linear, or names such as q_proj v_proj. all-linear leaves
    out the experts of a mixture and their router; name them to add them."""
    num_train_epochs: Positive | Auto = setting("auto", "Training")
    """Passes over the training rows. auto: by the size of the model and the data, printed when the
    run starts."""
    max_steps: Count | None = setting(None, "Training")
    """Optimizer steps; overrides --num_train_epochs. Default: as many as the epochs take."""
    learning_rate: Positive | Auto = setting("auto", "Training")
    """Peak learning rate. auto: by the size of the model, printed when the run starts."""
    lr_scheduler_type: Scheduler = setting("cosine", "Training", "SCHEDULE")
    """How the learning rate changes after the warm-up."""
    warmup_ratio: Share = setting(0.03, "Training")
    """Share of the steps over which the learning rate rises to its peak."""
    weight_decay: Annotated[float, Interval(ge=0, lt=math.inf)] = setting(0.0, "Training")
    """Weight decay of AdamW."""
    max_grad_norm: Positive = setting(1.0, "Training")
    """Clip gradients to this norm."""
    gradient_checkpointing: bool | Auto = setting("auto", "Speed and memory")
    """Recompute activations in the backward pass: slower, but needs less memory. auto: only where
    memory is short."""
    replay: tuple[str, ...] = setting(("auto",), "Training", "FILE", before=("none",))
    """Text that holds the model to its base, so that it forgets little. auto: written by the base
    itself; none: no replay; or files of text or conversations, in any format that fte check
    reads."""
    replay_weight: Annotated[float, Interval(ge=0, lt=math.inf)] = setting(1.5, "Training")
    """Weight of the divergence from the base, in nats per token, in the loss."""
    replay_tokens: Count = setting(256, "Training")
    """Tokens of replay per optimizer step, on average."""
    adapter_scale: Scale | Auto = setting("auto", "LoRA", before=1.0)
    """Multiply the trained adapter by this. auto: 1, or a smaller number that is clearly better on
    the validation rows and on general text."""
    fast_path: tuple[FastPiece | Literal["all", "none"], ...] = setting(
        ("all",), "Speed and memory", "PART"
    )
    """Faster computations with the same results: all of them, none, or the ones named."""
    micro_batch_tokens: Count | Auto = setting("auto", "Speed and memory")
    """Most tokens computed at once on the fast path; does not change the results. auto: 2048, or
    less where memory is short."""
    save_steps: Count | Auto = setting("auto", "Checkpoints")
    """Steps between validations, each with a checkpoint. auto: up to ten times per run."""
    save_total_limit: Annotated[int, Ge(2)] = setting(2, "Checkpoints", changes_training=False)
    """Checkpoints to keep: at least two, so that one is left if the newest is damaged."""
    logging_steps: Count = setting(5, "Output", changes_training=False)
    """Steps between two lines of metrics.jsonl."""
    load_best_model_at_end: bool = setting(True, "Training")
    """Keep the step with the lowest validation loss instead of the last one."""
    early_stopping_patience: Count | None = setting(3, "Training")
    """Stop after this many validations without improvement. None: never."""
    report_to: tuple[Tracker, ...] = setting((), "Output", "TRACKER", changes_training=False)
    """Also send the metrics to these trackers; each must be installed."""
    resume_from_checkpoint: str | None = setting(
        None, "Checkpoints", "CHECKPOINT", changes_training=False
    )
    """Continue a run from a checkpoint: latest, or a checkpoint's folder. Default: a new run."""
    fork: str | None = setting(None, "Checkpoints", "FOLDER")
    """Start a new run from the weights of this checkpoint or adapter folder. Default: a new
    adapter."""
    overwrite_output_dir: bool = setting(False, "Output", changes_training=False)
    """Replace an unfinished run in the output folder."""
    folds: Annotated[int, Ge(2)] | None = setting(None, "Exam")
    """Cross-validate a small file: divide it into this many folds, examine each with an adapter
    trained on the others, and train the saved adapter on all rows. Default: hold out one part."""
    fail_if_worse: bool = setting(False, "Exam", changes_training=False)
    """Exit with code 7 if the exam finds the tuned model worse."""


@dataclass(frozen=True, kw_only=True)
class ExamSettings(RunSettings, FieldSettings, ExamOptions):
    """Settings of `fte exam`."""

    data: str = setting("exam.jsonl", "Data", "FILE", changes_training=False, positional=True)
    """Exam file, in any format that fte check reads."""
    adapter_name_or_path: str = setting("output", "Model", "FOLDER", alias="adapter")
    """Folder of the adapter."""
    model_name_or_path: str | None = setting(None, "Model", "MODEL", alias="model")
    """Base model. Default: the one the adapter was trained on."""
    output_file: str | None = setting(None, "Output", "FILE")
    """Write exam.json to this path. Default: not written."""
    fail_if_worse: bool = setting(False, "Exam", changes_training=False)
    """Exit with code 7 if the exam finds the tuned model worse."""


@dataclass(frozen=True, kw_only=True)
class CompareSettings(RunSettings, FieldSettings):
    """Settings of `fte compare`."""

    prompt: tuple[str, ...] = setting((), "Prompts", "QUESTION", positional=True)
    """Questions to ask. Default: asked for interactively, unless --prompts is given."""
    prompts: str | None = setting(None, "Prompts", "FILE")
    """File of questions, in any format that fte check reads, or a .txt with a question per line;
    answers are scored against its references, if it has any."""
    html: str | None = setting(None, "Output", "FILE")
    """Also write the comparison as an HTML page. Default: not written."""
    adapter_name_or_path: str = setting("output", "Model", "FOLDER", alias="adapter")
    """Folder of the adapter."""
    model_name_or_path: str | None = setting(None, "Model", "MODEL", alias="model")
    """Base model. Default: the one the adapter was trained on."""
    max_new_tokens: Count = setting(80, "Generation", changes_training=False)
    """Longest answer to generate, in tokens."""
    do_sample: bool = setting(False, "Generation")
    """Sample the answers instead of always taking the most likely token."""
    temperature: Positive = setting(1.0, "Generation")
    """Sampling temperature: higher is more varied. Needs --do_sample."""
    top_p: Annotated[float, Interval(gt=0, le=1)] = setting(1.0, "Generation")
    """Sample from the most likely tokens that together have this probability. Needs --do_sample."""
    eval_batch_size: Count = setting(16, "Speed and memory", changes_training=False)
    """Prompts per forward pass; does not change greedy answers."""


@dataclass(frozen=True, kw_only=True)
class ExportSettings(CommonSettings):
    """Settings of `fte export`."""

    target: tuple[str, ...] = setting((), "Output", "FORMAT OUT", positional=True)
    """Format, and the folder to write: merged (a Transformers folder), gguf (for llama.cpp and LM
    Studio), gguf-adapter (the adapter alone, for use beside a GGUF file of the base), or ollama."""
    adapter_name_or_path: str = setting("output", "Model", "FOLDER", alias="adapter")
    """Folder of the adapter."""
    model_name_or_path: str | None = setting(None, "Model", "MODEL", alias="model")
    """Base model. Default: the one the adapter was trained on."""
    dtype: Dtype = setting("auto", "Output")
    """Number format of a merged folder. auto: that of the base."""
    outtype: str = setting("auto", "Output", "TYPE")
    """Number format of a GGUF file: f32, bf16, f16 or q8_0. auto: that of the base; of an adapter,
    f32."""
    overwrite: bool = setting(False, "Output")
    """Replace an earlier export in the folder."""
    verify: bool = setting(True, "Exam")
    """Run the exported model in the program that it is for, and compare it with the trained one.
    With --no_verify, export.json says that nothing was proven."""
    eval_file: str | None = setting(None, "Exam", "FILE")
    """Questions to verify with, in any format that fte check reads. Default: those of the adapter's
    exam."""
    verify_examples: Count = setting(64, "Exam")
    """Questions to verify with, at most."""
    max_new_tokens: Count = setting(48, "Exam")
    """Longest answer to generate while verifying, in tokens."""
