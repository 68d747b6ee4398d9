"""What goes into a run, as run.json holds it from the start; a resumed run must have the same."""

from __future__ import annotations

from dataclasses import asdict
from typing import cast

from finetuning_exam.errors import UsageError
from finetuning_exam.settings import TrainSettings
from finetuning_exam.training.run_folder import Json

FREE_TO_CHANGE = frozenset(
    {
        "config",
        "data",
        "eval_file",
        "output_dir",
        "resume_from_checkpoint",
        "report_to",
        "fail_if_worse",
        "answered_examples",
        "max_new_tokens",
        "eval_batch_size",
        "logging_steps",
        "save_total_limit",
    }
)
"""Settings that do not change what is trained; files are compared by content, not by name."""


def run_inputs(settings: TrainSettings, sha256: str, exam_sha256: str | None) -> dict[str, Json]:
    """The settings of a run and the hashes of its files."""
    data: dict[str, Json] = {"sha256": sha256, "exam_sha256": exam_sha256}
    return {"settings": plain(asdict(settings)), "data": data}


def check_same_inputs(earlier: dict[str, Json], now: dict[str, Json], where: str) -> None:
    """Refuse to resume a run that would not be the same run.

    Raises:
        UsageError: a setting or a file differs; all differences are shown.
    """
    changed = [
        f"{name} {was!r} → {new!r}"
        for part in ("settings", "data")
        for name, was, new in _pairs(earlier.get(part), now[part])
        if name not in FREE_TO_CHANGE and was != new
    ]
    if changed:
        raise UsageError(
            f"{where}: was not made with these inputs: {', '.join(changed)}.",
            "Give the same ones, or leave out --resume_from_checkpoint.",
        )


def plain(value: object) -> Json:
    """A value of dataclasses' `asdict` as JSON has it: tuples become lists."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return cast(Json, value)


def _pairs(earlier: Json, now: Json) -> list[tuple[str, Json, Json]]:
    """Name, earlier and present value of every present key that the earlier run wrote down."""
    if not isinstance(earlier, dict) or not isinstance(now, dict):
        return []
    return [(name, earlier[name], value) for name, value in now.items() if name in earlier]
