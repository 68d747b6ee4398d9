"""The formats of an export: what each of them writes, and the program that it is run in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from finetuning_exam.durable import write_text
from finetuning_exam.errors import UsageError
from finetuning_exam.exporting.files import gguf_faults, merged_faults
from finetuning_exam.exporting.gguf_files.adapter import planned_updates, write_adapter
from finetuning_exam.exporting.gguf_files.model import (
    family_of,
    outtype_of,
    planned_tensors,
    write_model,
)
from finetuning_exam.exporting.gguf_files.pre_tokenizer import with_rules
from finetuning_exam.exporting.gguf_files.vocabulary import Vocabulary, read_vocabulary
from finetuning_exam.exporting.gguf_files.write import size_of
from finetuning_exam.exporting.merged import merged_bytes, merged_format, write_merged_folder
from finetuning_exam.exporting.ollama import (
    MODELFILE,
    modelfile,
    ollama_template,
    read_template,
    template_fault,
)
from finetuning_exam.exporting.questions import Question, shared_system
from finetuning_exam.exporting.report import Check
from finetuning_exam.exporting.runtime import Runtime, TransformersRuntime
from finetuning_exam.exporting.source import Source
from finetuning_exam.exporting.texts import PROBES
from finetuning_exam.exporting.use import adapter_name, gguf_name
from finetuning_exam.exporting.weights import Weights, base_weights
from finetuning_exam.settings import ExportSettings


@dataclass(frozen=True, slots=True)
class Format(ABC):
    """A format of an export; `proves` says that what is written will be run."""

    settings: ExportSettings
    source: Source

    @abstractmethod
    def check(self, weights: Weights) -> None:
        """Refuse, before anything is written, a model that the format cannot hold.

        Raises:
            ModelError, UsageError: it cannot.
        """

    @abstractmethod
    def number_format(self, weights: Weights) -> str:
        """Return the number format of the weights."""

    @abstractmethod
    def size(self, weights: Weights) -> int:
        """Return the bytes of the weights on disk."""

    @abstractmethod
    def write(self, weights: Weights, questions: Sequence[Question], place: Path) -> None:
        """Write the files of the export to a folder."""

    @abstractmethod
    def faults(self, weights: Weights, place: Path) -> list[str] | None:
        """Return what is wrong with the weights that were written; None if they are no model."""

    @abstractmethod
    def runtime(self, place: Path, n_positions: int) -> AbstractContextManager[Runtime]:
        """Run the export, as a context, with room for texts of `n_positions` tokens."""

    def checks(self, place: Path) -> tuple[Check, ...]:
        """Return checks that only this format has."""
        return ()

    def notes(self) -> tuple[str, ...]:
        """Return what a user of this format should know."""
        return ()


@dataclass(frozen=True, slots=True)
class Merged(Format):
    """An ordinary Transformers folder."""

    def check(self, weights: Weights) -> None:
        """Refuse nothing: whatever Transformers has loaded, it can load again."""

    def number_format(self, weights: Weights) -> str:
        """Return the number format of most of the weights."""
        return merged_format(weights, self.settings.dtype)

    def size(self, weights: Weights) -> int:
        """Return the bytes of the weights on disk."""
        return merged_bytes(weights, self.settings.dtype)

    def write(self, weights: Weights, questions: Sequence[Question], place: Path) -> None:
        """Write weights, configs and tokenizer."""
        write_merged_folder(self.source, weights, self.settings.dtype, place)

    def faults(self, weights: Weights, place: Path) -> list[str]:
        """Return what is wrong with the weights that were written."""
        return merged_faults(place, weights)

    @contextmanager
    def runtime(self, place: Path, n_positions: int) -> Iterator[Runtime]:
        """Load the folder in Transformers."""
        yield TransformersRuntime(place)


@dataclass(frozen=True, slots=True)
class Gguf(Format):
    """One GGUF file of the whole model."""

    def check(self, weights: Weights) -> None:
        """Refuse families and settings that llama.cpp does not have."""
        family_of(self.source)
        planned_tensors(self.source, weights)

    def number_format(self, weights: Weights) -> str:
        """Return the type of the matrices."""
        return outtype_of(weights, self.settings.outtype.lower())

    def size(self, weights: Weights) -> int:
        """Return the bytes of the weights on disk."""
        outtype = self.number_format(weights)
        return sum(size_of(it.shape, outtype) for it in planned_tensors(self.source, weights))

    def write(self, weights: Weights, questions: Sequence[Question], place: Path) -> None:
        """Write the model's file."""
        outtype = self.number_format(weights)
        path = place / gguf_name(outtype)
        write_model(path, self.source, weights, self._vocabulary(weights), outtype)

    def faults(self, weights: Weights, place: Path) -> list[str]:
        """Return what is wrong with the weights that were written."""
        return gguf_faults(place / gguf_name(self.number_format(weights)), self.source, weights)

    @contextmanager
    def runtime(self, place: Path, n_positions: int) -> Iterator[Runtime]:
        """Load the file in llama.cpp."""
        from finetuning_exam.exporting.llama_cpp import LlamaCpp

        (file,) = place.glob(gguf_name("*"))
        with LlamaCpp(file, n_positions) as runtime:
            yield runtime

    def _vocabulary(self, weights: Weights) -> Vocabulary:
        """Return the vocabulary, with the rules of splitting that llama.cpp was seen to need."""
        from finetuning_exam.exporting.llama_cpp import is_installed, tokenize_with

        source = self.source
        size = weights.embedding_rows
        found = read_vocabulary(source.tokenizer, size, source.name)
        tokenize = tokenize_with if is_installed() else None
        return with_rules(found, source.tokenizer, PROBES, tokenize)


@dataclass(frozen=True, slots=True)
class Ollama(Gguf):
    """A GGUF file with a Modelfile."""

    def write(self, weights: Weights, questions: Sequence[Question], place: Path) -> None:
        """Write the model's file and the Modelfile."""
        Gguf.write(self, weights, questions, place)
        file = gguf_name(self.number_format(weights))
        template = ollama_template(self.source)
        system = shared_system(questions)
        write_text(place / MODELFILE, modelfile(file, self.source, system, template))

    def checks(self, place: Path) -> tuple[Check, ...]:
        """Return the check of the template that was translated."""
        template = read_template((place / MODELFILE).read_text(encoding="utf-8"))
        if template is None:
            return (Check("Ollama's template", "none: the GGUF file's own is used"),)
        fault = template_fault(self.source, template)
        found = "another prompt" if fault else "renders as training did"
        return (Check("Ollama's template", found, fault),)

    def notes(self) -> tuple[str, ...]:
        """Say so where the template could not be translated."""
        if ollama_template(self.source) is not None:
            return ()
        return (
            "the chat template cannot be said in Ollama's language, so the Modelfile has no "
            "TEMPLATE and Ollama reads the one in the GGUF file",
        )


@dataclass(frozen=True, slots=True)
class GgufAdapter(Format):
    """The adapter alone as GGUF."""

    def check(self, weights: Weights) -> None:
        """Refuse adapters that llama.cpp cannot add to a model."""
        if self.settings.outtype.lower() == "q8_0":
            raise UsageError("--outtype q8_0: too coarse for an adapter.", "Use f32, bf16 or f16.")
        planned_updates(self.source, weights, family_of(self.source))

    def number_format(self, weights: Weights) -> str:
        """Return the type of the matrices: float32, since they are small."""
        outtype = self.settings.outtype.lower()
        return "f32" if outtype == "auto" else outtype

    def size(self, weights: Weights) -> int:
        """Return the bytes of the adapter, and of the base that it is verified with."""
        family = family_of(self.source)
        outtype = self.number_format(weights)
        updates = planned_updates(self.source, weights, family)
        own = sum(size_of(it.shape, outtype) for it in updates)
        if not self.settings.verify:
            return own
        return own + sum(size_of(it.shape, "f32") for it in planned_tensors(self.source, weights))

    def write(self, weights: Weights, questions: Sequence[Question], place: Path) -> None:
        """Write the adapter's file."""
        outtype = self.number_format(weights)
        write_adapter(place / adapter_name(outtype), self.source, weights, outtype)

    def faults(self, weights: Weights, place: Path) -> list[str] | None:
        """Return None: the base with the adapter shows whether the updates are right."""
        return None

    @contextmanager
    def runtime(self, place: Path, n_positions: int) -> Iterator[Runtime]:
        """Load the base, written as GGUF for the time being, with the adapter in llama.cpp."""
        from finetuning_exam.exporting.llama_cpp import LlamaCpp

        (adapter,) = place.glob(adapter_name("*"))
        weights = base_weights(self.source.base, self.source.name)
        with TemporaryDirectory(dir=place.parent, prefix=".base", suffix=".partial") as folder:
            file = Path(folder) / gguf_name("f32")
            gguf = Gguf(self.settings, self.source)
            write_model(file, self.source, weights, gguf._vocabulary(weights), "f32")
            with LlamaCpp(file, n_positions, adapter) as runtime:
                yield runtime


FORMATS: dict[str, type[Format]] = {
    "merged": Merged,
    "gguf": Gguf,
    "gguf-adapter": GgufAdapter,
    "ollama": Ollama,
}
"""The formats by the names that the command line has for them."""
