"""What run.json says of a run: everything needed to judge it or to make it again."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from finetuning_exam.durable import Json
from finetuning_exam.settings import TrainSettings
from finetuning_exam.training.inputs import plain
from finetuning_exam.training.loop import TrainingResult
from finetuning_exam.training.plan import Cost, TrainingPlan
from finetuning_exam.training.run_folder import TOOL

_LIBRARIES = ("finetuning-exam", "torch", "transformers", "peft", "trl", "datasets", "tokenizers")


@dataclass(frozen=True, slots=True)
class DataRecord:
    """The rows of a run and the files they came from."""

    paths: tuple[str, ...]
    sha256: str
    exam_path: str | None
    exam_sha256: str | None
    n_train: int
    n_validation: int
    n_exam: int
    exam_is_training: bool
    exam_rows_also_taught: int
    rows_sha256: str

    @property
    def path(self) -> str:
        """The training file, or all of them."""
        return ", ".join(self.paths)


@dataclass(frozen=True, slots=True)
class BaseRecord:
    """The base model of a run."""

    name: str
    sha256: str
    n_parameters: int
    context: int


@dataclass(frozen=True, slots=True)
class AdapterRecord:
    """The adapter of a run."""

    n_modules: int
    n_parameters: int
    sha256: str


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run. `seconds` holds the wall time of each part, `command` what would repeat it."""

    command: str
    settings: TrainSettings
    plan: TrainingPlan
    data: DataRecord
    base: BaseRecord
    adapter: AdapterRecord
    template: str
    template_sha256: str
    device: str
    dtype: str
    threads: int
    result: TrainingResult
    seconds: dict[str, float]
    predicted: Cost | None = None
    measured: Cost | None = None

    def to_json(self) -> Json:
        """The record as run.json holds it, with the versions of Python and of the libraries."""
        machine = machine_facts(self.threads)
        versions = dict(library_versions())
        return plain({"tool": TOOL, **asdict(self), "versions": versions, "machine": machine})


def machine_facts(threads: int) -> dict[str, str]:
    """What the last bit of a run depends on besides its inputs."""
    return {**dict(library_versions()), "threads": str(threads), "processor": processor_name()}


def processor_name() -> str:
    """The processor's name as Linux tells it, else as Python does."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def library_versions() -> tuple[tuple[str, str], ...]:
    """The versions of Python and of the libraries that a result depends on."""
    return (
        ("python", platform.python_version()),
        *((name, version(name)) for name in _LIBRARIES),
    )
