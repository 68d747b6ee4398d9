"""One run from settings and examples to a trained adapter and its exam, without printing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from peft import PeftModel

from finetuning_exam.data.encoding.encode import (
    Encoded,
    EncodedRows,
    Encoder,
    encode_all,
    make_encoder,
)
from finetuning_exam.data.encoding.template import choose_template
from finetuning_exam.data.findings import Finding, Kind
from finetuning_exam.data.reading.read import SKIP_BAD_ROWS, refuse_errors
from finetuning_exam.data.records import Example
from finetuning_exam.data.split import Split
from finetuning_exam.durable import file_sha256, staged, sweep
from finetuning_exam.errors import DataError
from finetuning_exam.evaluation.exam import Exam, ExamPlan, Stage, pad_token_id, take_exam
from finetuning_exam.evaluation.general import read_general_text
from finetuning_exam.heap import return_freed_memory, trim_heap
from finetuning_exam.machine import library_versions, machine_facts
from finetuning_exam.model.adapter import (
    adapted_modules,
    add_adapter,
    lora_config,
    save_adapter,
    start_from,
)
from finetuning_exam.model.device import Compute, choose_compute, layer_size
from finetuning_exam.model.fast.path import FastPath, choose_fast_path, wanted_pieces
from finetuning_exam.model.folder import ADAPTER_WEIGHTS, find_model_folder
from finetuning_exam.model.load import Base, load_base
from finetuning_exam.model.memory import free_memory, peak_memory
from finetuning_exam.objectives.base import Objective, hash_of_sequences, sequences_of
from finetuning_exam.objectives.sft import SupervisedFineTuning
from finetuning_exam.run_record import (
    AdapterRecord,
    BaseRecord,
    Cost,
    DataRecord,
    MicroBatches,
    PinnedChoices,
    RunRecord,
    TrainingPlan,
    TrainingResult,
)
from finetuning_exam.settings import Template, TrainSettings
from finetuning_exam.training.checkpoint.save import CheckpointConfig
from finetuning_exam.training.cost.memory import MemoryPlan, plan_memory
from finetuning_exam.training.cost.workload import Workload
from finetuning_exam.training.job import TrainingJob
from finetuning_exam.training.loop import train_adapter
from finetuning_exam.training.plan import make_plan
from finetuning_exam.training.progress import OnProgress


@dataclass(frozen=True, slots=True)
class EncodedSplit:
    """The rows of a run, and the examples they were made of.

    `split` holds the examples that were kept; `findings` say which rows were cut or left out.
    `encoder` is the exam's, which looks at last answers only, whatever training supervises.
    """

    split: Split
    template: Template
    encoder: Encoder
    objective: Objective[Encoded]
    train: tuple[Encoded, ...]
    validation: tuple[Encoded, ...]
    exam: EncodedRows[Encoded]
    findings: tuple[Finding, ...]

    @property
    def scored(self) -> tuple[Encoded, ...]:
        """The sequences that are only scored: those of validation and of the exam."""
        return (*sequences_of(self.objective, self.validation), *self.exam.rows)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything loaded, encoded and settled: the next thing is the first step."""

    settings: TrainSettings
    compute: Compute
    base: Base
    rows: EncodedSplit
    rows_sha256: str
    """Of all rows that train or choose the best step."""
    fast: FastPath
    plan: TrainingPlan
    memory: MemoryPlan

    @property
    def model(self) -> PeftModel:
        """The base with its adapter."""
        return self.fast.model

    @property
    def n_adapter_parameters(self) -> int:
        """How many parameters are trained."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    @property
    def workload(self) -> Workload[Encoded]:
        """What the training computes, for estimates of memory and time."""
        return Workload(self.rows.objective, self.fast, self.settings)


def prepare(settings: TrainSettings, split: Split, pinned: PinnedChoices | None = None) -> Prepared:
    """Load the base, encode the rows, add the adapter, and settle steps and memory.

    A resumed run keeps the choices that are `pinned`.

    Raises:
        ModelError, DataError, UsageError: as the parts do.
    """
    pinned = pinned or PinnedChoices()
    pieces = wanted_pieces(settings.fast_path)
    layer = layer_size(find_model_folder(settings.model_name_or_path))
    compute = choose_compute(settings.device, settings.dtype, layer, pinned.cpu_dtype)
    base = load_base(settings.model_name_or_path, compute)
    rows = encode_split(settings, split, base)
    model = _with_adapter(settings, base)
    fast = choose_fast_path(model, pad_token_id(base.tokenizer, rows.encoder), pieces)
    memory = _fit_into_memory(Workload(rows.objective, fast, settings), rows, pinned.micro_batches)
    plan = make_plan(settings, len(rows.train), len(rows.validation), base.n_parameters)
    return Prepared(
        settings=settings,
        compute=compute,
        base=base,
        rows=rows,
        rows_sha256=hash_of_sequences(
            sequences_of(rows.objective, (*rows.train, *rows.validation))
        ),
        fast=fast,
        plan=replace(plan, micro_batches=memory.micro_batches),
        memory=memory,
    )


def encode_split(settings: TrainSettings, split: Split, base: Base) -> EncodedSplit:
    """Encode every part of a split for a base.

    Raises:
        ModelError: the tokenizer or its chat template cannot be used.
        DataError: rows have errors that are not to be skipped, or no row is left to train on or
            to examine.
    """
    template = choose_template(settings.template, base.tokenizer)
    encoder = make_encoder(base.tokenizer, template, base_stop_ids=base.stop_ids)
    training_encoder = make_encoder(
        base.tokenizer,
        template,
        loss_on="answers" if settings.completion_only_loss else "everything",
    )
    objective = SupervisedFineTuning(training_encoder, encoder)
    longest = min(settings.max_length, base.context)
    training = objective.training_rows(split.train, longest)
    validation = objective.validation_rows(split.validation, longest)
    exam = encode_all(encoder, split.exam, longest)
    # Where the exam is of the training rows, the same is found twice.
    findings = tuple(dict.fromkeys((*training.findings, *validation.findings, *exam.findings)))
    if not settings.skip_bad_rows:
        refuse_errors(findings, SKIP_BAD_ROWS)
    _check_any_left(split.train, training, "train on")
    _check_any_left(split.exam, exam, "examine")
    kept = replace(
        split, train=training.examples, validation=validation.examples, exam=exam.examples
    )
    return EncodedSplit(
        kept, template, encoder, objective, training.rows, validation.rows, exam, findings
    )


def _check_any_left(examples: Sequence[Example], encoded: EncodedRows[Encoded], use: str) -> None:
    """Refuse a part of which every row was left out; a part that had none stays empty.

    Raises:
        DataError: all were; each is named.
    """
    if examples and not encoded.rows:
        faults = [str(finding) for finding in encoded.findings]
        raise DataError([f"No row is left to {use}.", *faults], Kind.ANSWER_TOO_LONG.hint)


def _with_adapter(settings: TrainSettings, base: Base) -> PeftModel:
    """Return the base with a fresh adapter, or with the weights that `--fork` names."""
    config = lora_config(
        settings.lora_r, settings.lora_alpha, settings.lora_dropout, settings.lora_target_modules
    )
    model = add_adapter(base, config, settings.seed)
    if settings.fork is not None:
        start_from(model, base, Path(settings.fork))
    return model


def _fit_into_memory(
    workload: Workload[Encoded], rows: EncodedSplit, pinned: MicroBatches | None
) -> MemoryPlan:
    """Choose micro-batches that fit into the memory that is free, and set the process up so."""
    fast = workload.fast
    trim_heap()  # what was freed is free
    free = free_memory(fast.model.device)
    memory = plan_memory(workload, rows.train, rows.scored, free, pinned)
    if memory.returns_freed:
        return_freed_memory()
    if fast.decoder:
        fast.decoder.checkpointing = memory.micro_batches.checkpointing
    return memory


def train(
    prepared: Prepared, checkpoints: CheckpointConfig, on_progress: OnProgress
) -> TrainingResult:
    """Train, and put the kept adapter and the tokenizer into the run's folder.

    Raises:
        DivergedError, StoppedError, DiskError: as `train_adapter`.
    """
    rows, tokenizer = prepared.rows, prepared.base.tokenizer
    folder, process = checkpoints.folder, checkpoints.process
    process.on_main(lambda: sweep(folder))
    job = TrainingJob(
        rows.objective,
        prepared.fast,
        tokenizer,
        rows.train,
        rows.validation,
        prepared.settings,
        prepared.plan,
        prepared.compute,
        checkpoints,
        tuple(example.where for example in rows.split.train),
    )
    result = train_adapter(job, on_progress)

    def save() -> None:
        with staged(folder) as aside:
            save_adapter(prepared.model, aside)
            tokenizer.save_pretrained(aside)

    process.on_main(save)
    return result


def examine(prepared: Prepared, on_stage: Callable[[Stage], None]) -> Exam:
    """The exam of a trained run."""
    settings = prepared.settings
    plan = ExamPlan(
        seed=settings.seed,
        batch_size=settings.eval_batch_size,
        answered_examples=settings.answered_examples,
        max_new_tokens=settings.max_new_tokens,
        context=prepared.base.context,
        is_held_out=not prepared.rows.split.exam_is_training,
        general=read_general_text(settings.general_file),
    )
    return take_exam(
        prepared.model,
        prepared.base.tokenizer,
        prepared.rows.encoder,
        prepared.rows.exam,
        plan,
        on_stage,
        prepared.fast.row_nll,
    )


def make_record(
    prepared: Prepared,
    data: DataRecord,
    result: TrainingResult,
    folder: Path,
    command: str,
    seconds: dict[str, float],
    predicted: Cost | None = None,
) -> RunRecord:
    """What run.json will say."""
    base, compute = prepared.base, prepared.compute
    chat_template = base.tokenizer.chat_template if prepared.rows.template == "chat" else ""
    return RunRecord(
        command=command,
        settings=prepared.settings,
        plan=prepared.plan,
        data=data,
        base=BaseRecord(base.name, base.sha256, base.n_parameters, base.context),
        adapter=AdapterRecord(
            adapted_modules(prepared.model),
            prepared.n_adapter_parameters,
            file_sha256(folder / ADAPTER_WEIGHTS),
        ),
        template=prepared.rows.template,
        template_sha256=hashlib.sha256(str(chat_template).encode("utf-8")).hexdigest(),
        device=compute.device.type,
        dtype=compute.dtype_name,
        threads=compute.threads,
        result=result,
        seconds=seconds,
        predicted=predicted,
        measured=Cost(
            seconds.get("train", 0.0), seconds.get("exam", 0.0), peak_memory(compute.device)
        ),
        versions=dict(library_versions()),
        machine=machine_facts(compute.threads),
    )
