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
from finetuning_exam.run_record import (
    AdapterRecord,
    BaseRecord,
    Cost,
    DataRecord,
    PinnedChoices,
    RunRecord,
    TrainingPlan,
    TrainingResult,
)
from finetuning_exam.settings import Template, TrainSettings
from finetuning_exam.training.checkpoint.find import CheckpointRef
from finetuning_exam.training.checkpoint.save import CheckpointConfig
from finetuning_exam.training.cost.memory import MemoryPlan, plan_memory
from finetuning_exam.training.inputs import hash_of_rows
from finetuning_exam.training.interrupt import Interrupts
from finetuning_exam.training.loop import train_adapter
from finetuning_exam.training.plan import make_plan
from finetuning_exam.training.progress import MetricsFile, OnProgress
from finetuning_exam.training.run_folder import METRICS


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything loaded, encoded and settled: the next thing is the first step.

    `split` holds the examples that were kept; `findings` say which rows were cut or left out.
    """

    settings: TrainSettings
    split: Split
    findings: tuple[Finding, ...]
    compute: Compute
    base: Base
    template: Template
    encoder: Encoder
    train_rows: tuple[Encoded, ...]
    validation_rows: tuple[Encoded, ...]
    exam_rows: EncodedRows[Encoded]
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


def prepare(
    settings: TrainSettings, split: Split, earlier: PinnedChoices | None = None
) -> Prepared:
    """Load the base, encode the rows, add the adapter, count the steps, and see that they fit into
    the memory that is free. A run that is resumed keeps what it chose earlier.

    Raises:
        ModelError, DataError, UsageError: as the parts do.
        DataError: rows have errors that are not to be skipped, or no row is left to train on or
            to examine.
    """
    pieces = wanted_pieces(settings.fast_path)
    folder = find_model_folder(settings.model_name_or_path)
    earlier = earlier or PinnedChoices()
    compute = choose_compute(settings.device, settings.dtype, layer_size(folder), earlier.cpu_dtype)
    base = load_base(settings.model_name_or_path, compute)
    template = choose_template(settings.template, base.tokenizer)
    # Validation and exam look at the last answer only, whatever training does.
    encoder = make_encoder(base.tokenizer, template, base_stop_ids=base.stop_ids)
    training_encoder = make_encoder(
        base.tokenizer,
        template,
        loss_on="answers" if settings.completion_only_loss else "everything",
    )
    longest = min(settings.max_length, base.context)
    training = encode_all(training_encoder, split.train, longest)
    validation = encode_all(encoder, split.validation, longest)
    exam = encode_all(encoder, split.exam, longest)
    # Where the exam is of the training rows, the same is found twice.
    findings = tuple(dict.fromkeys((*training.findings, *validation.findings, *exam.findings)))
    if not settings.skip_bad_rows:
        refuse_errors(findings, SKIP_BAD_ROWS)
    _check_left(split.train, training, "train on")
    _check_left(split.exam, exam, "examine")
    config = lora_config(
        settings.lora_r, settings.lora_alpha, settings.lora_dropout, settings.lora_target_modules
    )
    model = add_adapter(base, config, settings.seed)
    if settings.fork is not None:
        start_from(model, base, Path(settings.fork))
    fast = choose_fast_path(model, pad_token_id(base.tokenizer, encoder), pieces)
    plan = make_plan(settings, len(training.rows), len(validation.rows), base.n_parameters)
    trim_heap()  # what was freed is free
    memory = plan_memory(
        fast,
        settings,
        training.rows,
        (*validation.rows, *exam.rows),
        free_memory(compute.device),
        earlier.micro_batches,
    )
    if memory.returns_freed:
        return_freed_memory()
    if fast.decoder:
        fast.decoder.checkpointing = memory.micro_batches.checkpointing
    return Prepared(
        settings=settings,
        split=replace(
            split, train=training.examples, validation=validation.examples, exam=exam.examples
        ),
        findings=findings,
        compute=compute,
        base=base,
        template=template,
        encoder=encoder,
        train_rows=training.rows,
        validation_rows=validation.rows,
        exam_rows=exam,
        rows_sha256=hash_of_rows((*training.rows, *validation.rows)),
        fast=fast,
        plan=replace(plan, micro_batches=memory.micro_batches),
        memory=memory,
    )


def _check_left(examples: Sequence[Example], encoded: EncodedRows[Encoded], use: str) -> None:
    """See that not all rows were left out; a part that had none stays empty.

    Raises:
        DataError: all were; each is named.
    """
    if examples and not encoded.rows:
        faults = [str(finding) for finding in encoded.findings]
        raise DataError([f"No row is left to {use}.", *faults], Kind.ANSWER_TOO_LONG.hint)


def train(
    prepared: Prepared,
    folder: Path,
    on_progress: OnProgress,
    resumed: CheckpointRef | None = None,
    interrupts: Interrupts | None = None,
) -> TrainingResult:
    """Train, and put the kept adapter and the tokenizer into the run's folder.

    Raises:
        DivergedError, StoppedError, DiskError: as `train_adapter`.
    """
    sweep(folder)
    keeping = CheckpointConfig(
        folder,
        MetricsFile(folder / METRICS),
        prepared.settings.save_total_limit,
        resumed,
        interrupts or Interrupts(),
    )
    tokenizer = prepared.base.tokenizer
    result = train_adapter(
        prepared.fast,
        tokenizer,
        prepared.train_rows,
        prepared.validation_rows,
        prepared.settings,
        prepared.plan,
        prepared.compute,
        keeping,
        on_progress,
        [example.where for example in prepared.split.train],
    )
    with staged(folder) as aside:
        save_adapter(prepared.model, aside)
        tokenizer.save_pretrained(aside)
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
        is_held_out=not prepared.split.exam_is_training,
        general=read_general_text(settings.general_file),
    )
    return take_exam(
        prepared.model,
        prepared.base.tokenizer,
        prepared.encoder,
        prepared.exam_rows,
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
    chat_template = base.tokenizer.chat_template if prepared.template == "chat" else ""
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
        template=prepared.template,
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
