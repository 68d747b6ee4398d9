"""One export: write its files, run them, and describe the result."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from finetuning_exam.durable import file_sha256, write_text
from finetuning_exam.exporting.card import CARD, export_card
from finetuning_exam.exporting.files import weights_check
from finetuning_exam.exporting.formats import FORMATS, Format
from finetuning_exam.exporting.questions import Question, exam_questions
from finetuning_exam.exporting.report import Exported, Verification, write
from finetuning_exam.exporting.runtime import CannotLoadError
from finetuning_exam.exporting.source import Source, open_source
from finetuning_exam.exporting.verify import OnStage, Terms, measure_reference, not_loaded, verify
from finetuning_exam.exporting.weights import Weights
from finetuning_exam.machine import library_versions
from finetuning_exam.model.folder import ADAPTER_WEIGHTS
from finetuning_exam.model.session import Session
from finetuning_exam.model.weights import weight_files, weights_sha256
from finetuning_exam.settings import ExportSettings


@dataclass(frozen=True, slots=True)
class Job:
    """An export whose inputs are read and checked; nothing is written yet.

    `questions` are those to verify with, none if nothing shall be proven.
    """

    settings: ExportSettings
    name: str
    format: Format
    source: Source
    questions: tuple[Question, ...]

    def needed_bytes(self, beside: Path) -> int:
        """Return the size of the export's weights on disk.

        Raises:
            ModelError, UsageError: the format cannot hold this model.
        """
        with self.source.weights(beside) as weights:
            self.format.check(weights)
            return self.format.size(weights)

    def fill(self, place: Path, on_stage: OnStage) -> Exported:
        """Write the export to a folder and verify it there.

        Raises:
            ModelError, AdapterError: the weights cannot be merged.
        """
        start = time.monotonic()
        source = self.source
        with source.weights(place.parent) as weights:
            on_stage("writing the weights")
            number_format = self.format.number_format(weights)
            self.format.write(weights, self.questions, place)
            found = self._verified(place, weights, on_stage) if self.settings.verify else None
        exported = Exported(
            format=self.name,
            number_format=number_format,
            adapter_sha256=file_sha256(source.adapter / ADAPTER_WEIGHTS),
            base_name=source.public_base,
            base_sha256=weights_sha256(weight_files(source.base, source.name).loaded),
            template=source.encoder.template,
            end_tokens=tuple(source.tokenizer.decode([it]) for it in source.end_ids),
            notes=self.notes(),
            versions=dict(library_versions()),
            seconds=time.monotonic() - start,
            verification=found,
        )
        write(place, exported)
        write_text(place / CARD, export_card(source, exported))
        return exported

    def notes(self) -> tuple[str, ...]:
        """Return what a user of the export should know."""
        found = list(self.format.notes())
        encoder = self.source.encoder
        if self.source.chat_template is None:
            found.append("no chat template renders the trained prompts, so none is written")
        if encoder.date is not None:
            found.append("the chat template writes today's date; in training it was a fixed one")
        if encoder.stop_text:
            found.append(f"an answer also ends at the text {encoder.stop_text!r}")
        return tuple(found)

    def _verified(self, place: Path, weights: Weights, on_stage: OnStage) -> Verification:
        settings, source = self.settings, self.source
        on_stage("comparing the weights")
        faults = self.format.faults(weights, place)
        checks = self.format.checks(place)
        if faults is not None:
            checks = (weights_check(faults), *checks)
        on_stage("loading the trained model")
        session = Session.load(
            source.adapter,
            source.name,
            "cpu",
            "float32",
            settings.template,
            settings.enable_thinking,
        ).with_system_turns(settings.system_turns)
        reference = measure_reference(session, self.questions, settings.max_new_tokens, on_stage)
        number_format = self.format.number_format(weights)
        terms = Terms(number_format, settings.max_new_tokens, settings.seed, checks)
        rows = [it.row for it in self.questions]
        longest = max(
            max(len(row.ids), row.prompt_length + settings.max_new_tokens) for row in rows
        )
        try:
            with self.format.runtime(place, longest) as runtime:
                return verify(source, self.questions, reference, runtime, terms, on_stage)
        except CannotLoadError as error:
            return not_loaded(self.questions, reference, terms, str(error))


def prepare_job(settings: ExportSettings, name: str) -> Job:
    """Read what is to be exported, and the questions to verify it with.

    Raises:
        UsageError, DataError, ModelError, AdapterError: something cannot be used.
    """
    source = open_source(settings)
    questions = exam_questions(settings, source) if settings.verify else ()
    return Job(settings, name, FORMATS[name](settings, source), source, questions)
