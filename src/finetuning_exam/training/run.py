"""Take a prepared run through training and exam to its record, without printing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path

from finetuning_exam.data.encoding.saved_template import saved_template
from finetuning_exam.data.encoding.tools import uses_tools
from finetuning_exam.durable import file_sha256, staged, sweep
from finetuning_exam.evaluation.exam import Exam, Stage, take_exam
from finetuning_exam.machine import library_versions, machine_facts
from finetuning_exam.model.adapter import (
    adapted_modules,
    save_adapter,
)
from finetuning_exam.model.folder import ADAPTER_WEIGHTS
from finetuning_exam.model.memory import peak_memory
from finetuning_exam.run_record import (
    AdapterRecord,
    BaseRecord,
    Cost,
    DataRecord,
    RunRecord,
    TrainingResult,
)
from finetuning_exam.training.checkpoint.save import CheckpointConfig
from finetuning_exam.training.frontier import apply_scale
from finetuning_exam.training.job import TrainingJob
from finetuning_exam.training.loop import train_adapter
from finetuning_exam.training.prepare import Prepared
from finetuning_exam.training.progress import OnProgress


def train(
    prepared: Prepared, checkpoints: CheckpointConfig, on_progress: OnProgress
) -> TrainingResult:
    """Train, and save the kept adapter in the run's folder.

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
        rows.train_places,
    )
    result = train_adapter(job, on_progress)
    scale, frontier = apply_scale(prepared)

    def save() -> None:
        with staged(folder) as temporary:
            save_adapter(prepared.model, temporary)

    process.on_main(save)
    return replace(result, adapter_scale=scale, frontier=frontier)


def save_tokenizer(prepared: Prepared, folder: Path) -> None:
    """Save the tokenizer beside the adapter, for use without this program.

    Its chat template renders questions, tools and system texts as training did.
    """
    tokenizer = copy(prepared.base.tokenizer)
    split = prepared.rows.split
    has_tools = any(map(uses_tools, (*split.train, *split.validation)))
    tokenizer.chat_template = saved_template(prepared.rows.encoder, has_tools=has_tools)
    with staged(folder) as temporary:
        tokenizer.save_pretrained(temporary)


def examine(prepared: Prepared, on_stage: Callable[[Stage], None]) -> Exam:
    """Take the exam of a trained run."""
    return take_exam(prepared.session, prepared.rows.exam, prepared.exam_plan, on_stage)


def make_record(
    prepared: Prepared,
    data: DataRecord,
    result: TrainingResult,
    command: str,
    seconds: dict[str, float],
    predicted: Cost | None = None,
) -> RunRecord:
    """Return the content of run.json for a finished run."""
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
            file_sha256(Path(prepared.settings.output_dir) / ADAPTER_WEIGHTS),
        ),
        template=prepared.rows.template,
        template_sha256=hashlib.sha256(str(chat_template).encode("utf-8")).hexdigest(),
        template_date=prepared.rows.template_date,
        thinking=prepared.rows.encoder.is_thinking,
        stop_token_ids=prepared.rows.encoder.stop_ids,
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
