"""Export a tuned model for other programs, and prove that it is the same model there."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

from finetuning_exam.api.events import ExportStage, Notice, OnEvent, ignore
from finetuning_exam.api.heavy_imports import rare_collections
from finetuning_exam.durable import read_object, sweep, write_folder
from finetuning_exam.errors import DiskError, ModelError, UsageError
from finetuning_exam.model.folder import adapter_origin, check_adapter_folder, check_local_model
from finetuning_exam.setting_values import validated
from finetuning_exam.settings import ExportSettings

if TYPE_CHECKING:
    from finetuning_exam.exporting.job import Job
    from finetuning_exam.exporting.report import Exported

ExportFormat = Literal["merged", "gguf", "gguf-adapter", "ollama"]
OUTTYPES = ("auto", "f32", "bf16", "f16", "q8_0")
_BY_LLAMA_CPP = ("q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "q4_0", "q4_1", "q5_0", "q5_1", "iq", "tq")
_FAILED = ".failed"
_RESERVE = 50_000_000
"""Bytes that an export takes besides its weights: tokenizer, card and reports."""


@dataclass(frozen=True, slots=True)
class Export:
    """A finished export. `folder` is where it lies: OUT, or OUT.failed if it differs."""

    folder: Path
    exported: Exported

    @property
    def faults(self) -> tuple[str, ...]:
        """What differs from the trained model; empty if nothing does, or nothing was verified."""
        found = self.exported.verification
        return found.faults if found else ()


def export(settings: ExportSettings, *, on_event: OnEvent = ignore) -> Export:
    """Write the tuned model of `settings.adapter_name_or_path` as `settings.target` says.

    `settings.target` is a format and a folder. The folder is complete or absent; an export that
    differs from the trained model lies beside it, in OUT.failed.

    Raises:
        UsageError, DataError, ModelError, AdapterError: a file or setting cannot be used.
        DiskError: the disk has no room for the export.
    """
    settings = validated(settings)
    kind, out = target_of(settings)
    _check_outtype(settings, kind)
    check_out(out, overwrite=settings.overwrite)
    adapter = Path(settings.adapter_name_or_path)
    check_adapter_folder(adapter)
    check_local_model(settings.model_name_or_path or adapter_origin(adapter).base_name)
    check_packages(kind, verify=settings.verify)
    with rare_collections():
        from finetuning_exam.exporting.job import prepare_job
    job = prepare_job(settings, kind)
    out.parent.mkdir(parents=True, exist_ok=True)
    sweep(out.parent)
    _check_space(job, out)
    for note in job.notes():
        on_event(Notice(f"Note: {note}."))
    return _write(job, out, on_event)


def target_of(settings: ExportSettings) -> tuple[ExportFormat, Path]:
    """Return the format and the folder of an export.

    Raises:
        UsageError: they are not both given, or there is no such format.
    """
    words = settings.target
    formats = get_args(ExportFormat)
    if not words or words[0] not in formats:
        from difflib import get_close_matches

        near = get_close_matches(words[0], formats, n=1) if words else []
        asked = f"{words[0]}: no such format." if words else "no format was given."
        guess = f"Did you mean {near[0]}? " if near else ""
        raise UsageError(asked, f"{guess}Formats: {', '.join(formats)}.")
    if len(words) != 2:
        what = "no folder was given." if len(words) == 1 else f"unexpected argument {words[2]!r}."
        raise UsageError(what, f"Write fte export {words[0]} OUT, where OUT is a new folder.")
    return cast(ExportFormat, words[0]), Path(words[1])


def check_out(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder that the export would destroy.

    Raises:
        UsageError: it is a file, or holds something else than an export that may be replaced.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file, not a folder.", "Give a new folder.")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if read_object(out / "export.json").get("tool") != "finetuning-exam":
        raise UsageError(f"{out}: is not empty and holds no export.", "Give a new folder.")
    if not overwrite:
        raise UsageError(
            f"{out}: holds an export.", "Give another folder, or replace it with --overwrite."
        )


def check_packages(kind: ExportFormat, *, verify: bool) -> None:
    """Refuse an export that needs a package which is missing.

    Raises:
        ModelError: it is missing; the message says how to install it.
    """
    if kind == "merged":
        return
    how = "uv add 'finetuning-exam[export]', or pip install"
    if find_spec("gguf") is None:
        raise ModelError("Writing GGUF needs the package gguf.", f"Install it: {how} gguf.")
    if verify and find_spec("xllamacpp") is None:
        raise ModelError(
            "The export cannot be verified: running it needs the package xllamacpp (llama.cpp).",
            f"Install it: {how} xllamacpp. Or export with --no_verify, and prove nothing.",
        )


def _check_outtype(settings: ExportSettings, kind: ExportFormat) -> None:
    if kind == "merged":
        if settings.outtype != "auto":
            raise UsageError("--outtype: is for GGUF files.", "Give --dtype for a merged folder.")
        return
    if settings.dtype != "auto":
        raise UsageError("--dtype: is for a merged folder.", "Give --outtype for a GGUF file.")
    wanted = settings.outtype.lower()
    if wanted in OUTTYPES:
        return
    expected = f"--outtype: expected {', '.join(OUTTYPES[:-1])} or {OUTTYPES[-1]}"
    hint = ""
    if wanted.startswith(_BY_LLAMA_CPP):
        hint = (
            "Export f16, and let llama.cpp's own program make the rest: "
            f"llama-quantize OUT/model-f16.gguf OUT/model-{wanted}.gguf {wanted.upper()}"
        )
    raise UsageError(f"{expected}, got {settings.outtype!r}.", hint)


def _check_space(job: Job, out: Path) -> None:
    needed = job.needed_bytes(out.parent) + _RESERVE
    free = shutil.disk_usage(out.parent).free
    if free < needed:
        raise DiskError(
            f"{out}: the export takes {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free.",
            "Free some space, or give a folder on another disk.",
        )


def _write(job: Job, out: Path, on_event: OnEvent) -> Export:
    made: list[Export] = []

    def fill(place: Path) -> Path:
        exported = job.fill(place, lambda stage: on_event(ExportStage(stage)))
        found = exported.verification
        folder = out.with_name(out.name + _FAILED) if found and found.faults else out
        made.append(Export(folder, exported))
        return folder

    write_folder(out, fill)
    return made[0]
