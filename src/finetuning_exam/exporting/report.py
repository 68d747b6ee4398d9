"""What a verification found: its checks, its figures, and export.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from finetuning_exam.durable import Json, finite, write_json
from finetuning_exam.evaluation.verdict import Verdict

EXPORT = "export.json"
SCHEMA_VERSION = 1
NOT_PROVEN = "nothing was proven: the export was not run (--no_verify)"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was compared. `fault` says what differs; empty if nothing does."""

    name: str
    found: str
    fault: str = ""

    @property
    def is_passed(self) -> bool:
        """True if the export does what the trained model does."""
        return not self.fault


@dataclass(frozen=True, slots=True)
class Figures:
    """Base, tuned and exported model on the same questions; likelihoods in nats per token.

    `token_change` is the mean over all answer tokens of how far apart tuned and exported are, and
    `largest_change` that of the worst token. `same_answers` is a share; `chrf`, from 0 to 100,
    compares the exported model's answers with the tuned one's.
    """

    nll_base: float
    nll_tuned: float
    nll_exported: float
    token_change: float
    largest_change: float
    same_answers: float
    chrf: float
    stopped_tuned: float
    stopped_exported: float


@dataclass(frozen=True, slots=True)
class Verification:
    """An export that was run in the program it is for."""

    runtime: str
    n_questions: int
    n_tokens: int
    verdict_tuned: Verdict
    verdict_exported: Verdict | None
    figures: Figures
    checks: tuple[Check, ...]
    seconds: float

    @property
    def faults(self) -> tuple[str, ...]:
        """What differs, a sentence each."""
        return tuple(it.fault for it in self.checks if it.fault)


@dataclass(frozen=True, slots=True)
class Exported:
    """What was exported, from what, and whether it was proven to be the same model.

    `number_format` is that of the weights. `end_tokens` end an answer, the trained one first.
    """

    format: str
    number_format: str
    adapter_sha256: str
    base_name: str
    base_sha256: str
    template: str
    end_tokens: tuple[str, ...]
    notes: tuple[str, ...]
    versions: Mapping[str, str]
    seconds: float
    verification: Verification | None


def write(folder: Path, exported: Exported) -> None:
    """Write export.json.

    Raises:
        DiskError, UsageError: it cannot be written.
    """
    write_json(folder / EXPORT, to_json(exported))


def to_json(exported: Exported) -> dict[str, Json]:
    """Return the content of export.json."""
    content = asdict(exported)
    content["versions"] = dict(exported.versions)
    found = exported.verification
    proven = found is not None and not found.faults
    content["proof"] = NOT_PROVEN if found is None else "the same model" if proven else "differs"
    if found is not None:
        content["verification"]["faults"] = list(found.faults)
        figures = asdict(found.figures)
        content["verification"]["figures"] = {key: finite(it) for key, it in figures.items()}
    return cast(
        "dict[str, Json]",
        {"tool": "finetuning-exam", "schema_version": SCHEMA_VERSION, **content},
    )
