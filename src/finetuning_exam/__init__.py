"""Fine-tune a small language model on your own examples, and examine what it learned.

    from finetuning_exam import Session, TrainSettings, train

    run = train(TrainSettings(data=("mine.jsonl",), output_dir="runs/mine"))
    print(run.exam.verdict)

    session = Session.load("runs/mine")
    print(session.answer("Which form do I need for a parking permit?").text)

Every name here is imported when it is first used, so importing the package is instant.
"""

from importlib import import_module

__version__ = "0.1.0"

TYPE_CHECKING = False  # type checkers take it for true; importing typing would take longer
if TYPE_CHECKING:
    from finetuning_exam.api.check import check as check
    from finetuning_exam.api.compare import compare as compare
    from finetuning_exam.api.exam import exam as exam
    from finetuning_exam.api.export import export as export
    from finetuning_exam.api.train import train as train
    from finetuning_exam.errors import AdapterError as AdapterError
    from finetuning_exam.errors import DataError as DataError
    from finetuning_exam.errors import DiffersError as DiffersError
    from finetuning_exam.errors import DiskError as DiskError
    from finetuning_exam.errors import DivergedError as DivergedError
    from finetuning_exam.errors import InUseError as InUseError
    from finetuning_exam.errors import ModelError as ModelError
    from finetuning_exam.errors import StoppedError as StoppedError
    from finetuning_exam.errors import UsageError as UsageError
    from finetuning_exam.errors import UserError as UserError
    from finetuning_exam.model.session import Session as Session
    from finetuning_exam.settings import CheckSettings as CheckSettings
    from finetuning_exam.settings import CompareSettings as CompareSettings
    from finetuning_exam.settings import ExamSettings as ExamSettings
    from finetuning_exam.settings import ExportSettings as ExportSettings
    from finetuning_exam.settings import TrainSettings as TrainSettings

_NAMES = {
    "api.check": ("check",),
    "api.compare": ("compare",),
    "api.exam": ("exam",),
    "api.export": ("export",),
    "api.train": ("train",),
    "errors": (
        "AdapterError",
        "DataError",
        "DiffersError",
        "DiskError",
        "DivergedError",
        "InUseError",
        "ModelError",
        "StoppedError",
        "UsageError",
        "UserError",
    ),
    "model.session": ("Session",),
    "settings": (
        "CheckSettings",
        "CompareSettings",
        "ExamSettings",
        "ExportSettings",
        "TrainSettings",
    ),
}
"""The public names, by the module that has each."""
_HOMES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "AdapterError",
    "CheckSettings",
    "CompareSettings",
    "DataError",
    "DiffersError",
    "DiskError",
    "DivergedError",
    "ExamSettings",
    "ExportSettings",
    "InUseError",
    "ModelError",
    "Session",
    "StoppedError",
    "TrainSettings",
    "UsageError",
    "UserError",
    "check",
    "compare",
    "exam",
    "export",
    "train",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return [*__all__, "__version__"]
