"""Prepare a run: load the base, encode the rows, add the adapter, and settle steps and memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from peft import PeftModel

from finetuning_exam.answer_limit import WITHOUT_LIMIT, AnswerLimit
from finetuning_exam.data.encoding.cut import cut_by_tokens
from finetuning_exam.data.encoding.encoder import Encoded, Encoder, make_encoder
from finetuning_exam.data.encoding.labels import training_loss_on
from finetuning_exam.data.encoding.rows import (
    EncodedRows,
    encode_all,
    form_findings,
    hash_of_sequences,
    template_findings,
)
from finetuning_exam.data.encoding.stops import refuse_stops, what_stops
from finetuning_exam.data.encoding.template import choose_template
from finetuning_exam.data.encoding.tools import each_answer
from finetuning_exam.data.findings import Finding
from finetuning_exam.data.records import Example
from finetuning_exam.data.split import Split
from finetuning_exam.data.thoughts import choose_thinking
from finetuning_exam.evaluation.exam_plan import ExamPlan
from finetuning_exam.heap import return_freed_memory, trim_heap
from finetuning_exam.machine import now
from finetuning_exam.model.adapter import (
    add_adapter,
    lora_config,
    start_from,
)
from finetuning_exam.model.device import Compute, choose_compute, layer_size
from finetuning_exam.model.fast.path import FastPath, choose_fast_path, wanted_pieces
from finetuning_exam.model.folder import find_model_folder
from finetuning_exam.model.load import Base, load_base
from finetuning_exam.model.memory import free_memory
from finetuning_exam.model.session import Session
from finetuning_exam.model.tokenizer import pad_token_id
from finetuning_exam.objectives.base import Objective, sequences_of
from finetuning_exam.objectives.choose import choose_objective
from finetuning_exam.run_record import (
    MicroBatches,
    PinnedChoices,
    TrainingPlan,
)
from finetuning_exam.settings import Template, TrainSettings
from finetuning_exam.training.cost.memory import MemoryPlan, plan_memory
from finetuning_exam.training.cost.workload import Workload
from finetuning_exam.training.plan import make_plan
from finetuning_exam.training.replay import ReplayTexts, make_replay, replay_texts


@dataclass(frozen=True, slots=True)
class EncodedSplit:
    """The encoded rows of a run and the examples they come from.

    `split` holds the examples that were kept; `findings` report rows that were cut or left out.
    `encoder` is that of the exam: it supervises only last answers, whatever training supervises.
    """

    split: Split
    template: Template
    encoder: Encoder
    objective: Objective[Encoded]
    train: tuple[Encoded, ...]
    train_places: tuple[str, ...]
    """The place of each training row's record."""
    validation: tuple[Encoded, ...]
    exam: EncodedRows[Encoded]
    findings: tuple[Finding, ...]

    @property
    def template_date(self) -> str | None:
        """The date that the chat template writes, in ISO 8601; None where it writes none."""
        date = self.encoder.date
        return date.isoformat() if date else None

    @property
    def n_asking(self) -> int:
        """Rows of the exam that ask something, which plain texts do not."""
        return sum(not it.is_plain_text for it in self.exam.examples)

    @property
    def scored(self) -> tuple[Encoded, ...]:
        """Sequences that are scored but not trained on: those of validation and of the exam."""
        return (*sequences_of(self.objective, self.validation), *self.exam.rows)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that is ready for its first step: model loaded, rows encoded, plan made."""

    settings: TrainSettings
    compute: Compute
    base: Base
    rows: EncodedSplit
    rows_sha256: str
    """Hash of the training and validation rows."""
    fast: FastPath
    plan: TrainingPlan
    memory: MemoryPlan
    exam_plan: ExamPlan
    replay: ReplayTexts

    @property
    def model(self) -> PeftModel:
        """The base model with its adapter."""
        return self.fast.model

    @property
    def session(self) -> Session:
        """Base and adapter as they are now, to be asked and scored."""
        return Session(self.base, self.model, self.rows.encoder, self.compute, self.fast)

    def with_answers(self, limit: AnswerLimit) -> Prepared:
        """Return the run with the limit of answers that was chosen for its exam."""
        return replace(
            self,
            plan=replace(self.plan, answers=limit),
            exam_plan=self.exam_plan.with_answers(limit),
        )

    @property
    def n_adapter_parameters(self) -> int:
        """Number of trained parameters."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    @property
    def workload(self) -> Workload[Encoded]:
        """The work of the training, from which memory and time are estimated."""
        return Workload(self.rows.objective, self.fast, self.settings)


def prepare(settings: TrainSettings, split: Split, pinned: PinnedChoices | None = None) -> Prepared:
    """Load the base, encode the rows, add the adapter, and plan steps and memory.

    A resumed run keeps its `pinned` choices.

    Raises:
        ModelError: the base cannot be used.
        DataError: the rows cannot be used, see `encode_split`.
        UsageError: settings contradict each other or the machine.
    """
    pinned = pinned or PinnedChoices()
    pieces = wanted_pieces(settings.fast_path)
    layer = layer_size(find_model_folder(settings.model_name_or_path))
    compute = choose_compute(
        settings.device, settings.dtype, layer, pinned.cpu_dtype, settings.threads
    )
    base = load_base(settings.model_name_or_path, compute)
    rows = encode_split(settings, split, base, pinned.template_date or now())
    model = _with_adapter(settings, base)
    fast = choose_fast_path(model, pad_token_id(base.tokenizer), pieces)
    n_train, n_validation = len(rows.train), len(rows.validation)
    plan = make_plan(settings, n_train, n_validation, base.n_parameters, pinned)
    texts = (
        ReplayTexts(pinned.replay, f"the texts of the run ({len(pinned.replay):,})")
        if pinned.replay is not None
        else replay_texts(
            settings, fast, rows.encoder, base.sha256, plan.total_steps, rows.split.exam
        )
    )
    replay = make_replay(settings, fast, texts.ids)
    rows = replace(rows, objective=rows.objective.with_replay(replay))
    memory = _fit_into_memory(Workload(rows.objective, fast, settings), rows, pinned.micro_batches)
    answers = _chosen_earlier(settings, pinned)
    exam_plan = ExamPlan.from_settings(
        settings,
        base.context,
        is_held_out=not split.exam_is_training,
        known=(*split.train, *split.validation),
        answers=answers or WITHOUT_LIMIT,
    )
    is_chosen = answers is not None or settings.answered_examples != "auto"
    plan = replace(
        plan,
        micro_batches=memory.micro_batches,
        answers=exam_plan.answers if is_chosen else None,
    )
    return Prepared(
        settings=settings,
        compute=compute,
        base=base,
        rows=rows,
        rows_sha256=hash_of_sequences(
            sequences_of(rows.objective, (*rows.train, *rows.validation, *replay.rows))
        ),
        fast=fast,
        plan=plan,
        memory=memory,
        exam_plan=exam_plan,
        replay=texts,
    )


def _chosen_earlier(settings: TrainSettings, pinned: PinnedChoices) -> AnswerLimit | None:
    """Return the limit of answers that auto chose when the run began."""
    chosen = pinned.answers
    if settings.answered_examples != "auto" or chosen is None or chosen.reason == "requested":
        return None
    return chosen


def encode_split(settings: TrainSettings, split: Split, base: Base, date: datetime) -> EncodedSplit:
    """Encode every part of a split for a base; `date` is what a chat template writes as today's.

    Raises:
        ModelError: the tokenizer or its chat template cannot be used.
        DataError: rows have errors and `skip_bad_rows` is off, or no row is left for training or
            for the exam.
    """
    template = choose_template(settings.template, base.tokenizer)
    encoder = make_encoder(
        base.tokenizer,
        template,
        base_stop_ids=base.stop_ids,
        date=date,
        is_thinking=choose_thinking(
            settings.enable_thinking, (*split.train, *split.validation, *split.exam)
        ),
    )
    encoder = replace(encoder, folds_system=settings.system_turns == "fold")
    objective = choose_objective(settings, encoder)
    loss_on = training_loss_on(completion_only=settings.completion_only_loss)
    longest = min(settings.max_length, base.context)
    training = objective.training_rows(split.train, longest)
    validation = objective.validation_rows(split.validation, longest)
    exam = encode_all(encoder, each_answer(split.exam), longest)
    kept = replace(
        split,
        train=_kept(split.train, training),
        validation=_kept(split.validation, validation),
        exam=_asked(split.exam, exam),
    )
    about = (
        *template_findings(encoder, settings.model_name_or_path),
        *form_findings(encoder, (*split.train, *split.validation), loss_on),
        *cut_by_tokens(encoder, kept, (training, validation, exam)),
    )
    # If the exam uses the training rows, each finding occurs twice.
    found = dict.fromkeys((*about, *training.findings, *validation.findings, *exam.findings))
    findings = tuple(sorted(found, key=lambda it: (it.path, it.line, it.column)))
    stops = what_stops(split, kept, findings, skip_bad_rows=settings.skip_bad_rows)
    refuse_stops(stops, findings, kept)
    return EncodedSplit(
        kept,
        template,
        encoder,
        objective,
        training.rows,
        tuple(it.where for it in training.examples),
        validation.rows,
        exam,
        findings,
    )


def _kept(examples: Sequence[Example], encoded: EncodedRows[Encoded]) -> tuple[Example, ...]:
    """Return the examples that have a row, or several."""
    kept = frozenset(encoded.examples)
    return tuple(example for example in examples if example in kept)


def _asked(examples: Sequence[Example], exam: EncodedRows[Encoded]) -> tuple[Example, ...]:
    """Return the examples of which the exam asks at least one answer."""
    asked = frozenset(exam.examples)
    return tuple(it for it in examples if not asked.isdisjoint(each_answer((it,))))


def _with_adapter(settings: TrainSettings, base: Base) -> PeftModel:
    """Return the base with a fresh adapter, or with the weights of `--fork`."""
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
    """Choose micro-batches that fit into the free memory, and configure the process for them."""
    fast = workload.fast
    trim_heap()  # so that freed memory counts as free
    free_bytes = free_memory(fast.model.device)
    memory = plan_memory(workload, rows.train, rows.scored, free_bytes, pinned)
    if memory.returns_freed_memory:
        return_freed_memory()
    if fast.decoder:
        fast.decoder.checkpointing = memory.micro_batches.checkpointing
    return memory
