"""The content of run.json: a run that has begun, and one that has finished.

`run_file` writes, reads and compares it. The fields have the names and the order of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import get_args

from finetuning_exam.answer_limit import AnswerLimit
from finetuning_exam.durable import Json
from finetuning_exam.settings import Dtype, FieldSettings, Format, TrainSettings

# A finished run


@dataclass(frozen=True, slots=True)
class MicroBatches:
    """How an optimizer batch is computed: most tokens at once with the fast path's rows, and
    whether activations are computed again in the backward pass. Results change by rounding only.
    """

    tokens: int
    checkpointing: bool = False


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """Resolved numbers of a run; all steps are optimizer steps."""

    learning_rate: float
    num_train_epochs: float
    steps_per_epoch: int
    total_steps: int
    warmup_steps: int
    save_steps: int
    micro_batches: MicroBatches
    answers: AnswerLimit | None = None
    """None until it is chosen, and in runs of earlier versions."""


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
class ScalePoint:
    """Losses with the adapter at a scale, in nats per token: on validation rows, and on a sample of
    general text that is not the exam's.
    """

    scale: float
    validation_loss: float
    general_loss: float


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """How a training ended. `best_step` is the step whose adapter was kept.

    `adapter_scale` is what its weights were multiplied by then, and `frontier` what was measured to
    choose it: scale 0, which is the base, first.

    Seconds and speed are those of the last sitting; `tokens` counts all of them, without padding.
    """

    steps: int
    best_step: int
    first_validation_loss: float | None
    best_validation_loss: float | None
    tokens: int
    seconds: float
    saving_seconds: float
    tokens_per_second: float
    stopped_early: bool
    adapter_scale: float = 1.0
    frontier: tuple[ScalePoint, ...] = ()


@dataclass(frozen=True, slots=True)
class Cost:
    """Time and memory of a run, predicted before its first step or measured; a prediction is of
    all steps, without early stopping. The peak is of the whole process, or of a GPU's tensors.
    """

    train_seconds: float
    exam_seconds: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Fold:
    """The place of a run in a cross-validation: the `number`-th of `n_folds`, from 1."""

    number: int
    n_folds: int

    def __str__(self) -> str:
        return f"fold {self.number} of {self.n_folds}"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A finished run.

    `command` would repeat it. `seconds` holds the wall time of each part, `versions` those of
    Python and the libraries, and `machine` everything its last bits depend on. `template_date` is
    the date that a chat template wrote as today's, None where it writes none; `stop_token_ids` are
    the ids that end an answer. `fold` is None unless the run is one of a cross-validation's folds.
    """

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
    template_date: str | None = None
    stop_token_ids: tuple[int, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, str] = field(default_factory=dict)
    fold: Fold | None = None
    thinking: bool = False
    """Whether answers in the chat template begin with a thought."""


# A run that has begun


@dataclass(frozen=True, slots=True)
class DataInputs:
    """Hashes of a run's files and of its encoded rows; `exam_sha256` is None without a file.

    `rows_sha256` is None until the rows are encoded.
    """

    sha256: str
    exam_sha256: str | None
    rows_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class BaseInputs:
    """The base of a run and the hash of its weights."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """What a run chose when it began; a run of an earlier version does not record its rate."""

    micro_batches: MicroBatches
    learning_rate: float | None = None
    total_steps: int | None = None
    answers: AnswerLimit | None = None


@dataclass(frozen=True, slots=True)
class PinnedChoices:
    """Choices of its start that a resumed run must keep to stay the same run."""

    micro_batches: MicroBatches | None = None
    cpu_dtype: Dtype | None = None
    template_date: datetime | None = None
    replay: tuple[tuple[int, ...], ...] | None = None
    """The ids of the texts of replay."""
    learning_rate: float | None = None
    total_steps: int | None = None
    answers: AnswerLimit | None = None
    has_no_rate: bool = False
    """True if the run is of an earlier version, which had other defaults and does not record them.
    """


@dataclass(frozen=True, slots=True)
class RunInputs:
    """Everything that goes into a run; a part is None, or empty, where it is not known.

    Settings are by name, with their values as JSON holds them: a file may lack some that are new,
    and have others that are gone.
    """

    settings: Mapping[str, Json] = field(default_factory=dict)
    data: DataInputs | None = None
    base: BaseInputs | None = None
    template: str | None = None
    template_date: str | None = None
    plan: PlanInputs | None = None
    device: str | None = None
    dtype: str | None = None
    machine: Mapping[str, str] = field(default_factory=dict)
    fold: Fold | None = None
    thinking: bool = False
    """Whether answers in the chat template begin with a thought."""

    @property
    def cpu_dtype(self) -> Dtype | None:
        """Number format of a run on a CPU; None where it was elsewhere, or is not known."""
        if self.device != "cpu":
            return None
        return next((it for it in get_args(Dtype) if it == self.dtype), None)

    @property
    def pinned(self) -> PinnedChoices:
        """The choices that a resume must keep."""
        plan = self.plan
        return PinnedChoices(
            plan.micro_batches if plan else None,
            self.cpu_dtype,
            self.date,
            learning_rate=plan.learning_rate if plan else None,
            total_steps=plan.total_steps if plan else None,
            answers=plan.answers if plan else None,
            has_no_rate=plan is not None and plan.learning_rate is None,
        )

    @property
    def date(self) -> datetime | None:
        """The date that the chat template writes; None where it writes none, or is not known."""
        try:
            return datetime.fromisoformat(self.template_date or "")
        except ValueError:
            return None

    @property
    def max_length(self) -> int | None:
        """The longest row, in tokens."""
        value = self.settings.get("max_length")
        return value if isinstance(value, int) else None

    @property
    def folds_system(self) -> bool:
        """Whether system texts were put before the first question."""
        return self.settings.get("system_turns") == "fold"

    @property
    def fields(self) -> FieldSettings:
        """How the records of the training files were read."""
        wanted = self.settings.get("format")
        return FieldSettings(
            format=next((it for it in get_args(Format) if it == wanted), "auto"),
            prompt_field=_text(self.settings.get("prompt_field")),
            answer_field=_text(self.settings.get("answer_field")),
        )


def _text(value: Json) -> str | None:
    return value if isinstance(value, str) else None
