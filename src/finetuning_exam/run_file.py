"""run.json: everything needed to judge a run, to resume it, or to repeat it.

A run writes the file twice: its `RunInputs` when it begins, for a resume to compare, and its
`RunRecord` when it has finished. `read` reads both, including those of older versions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast, get_args

from finetuning_exam.answer_limit import AnswerLimit, AnswerReason
from finetuning_exam.durable import Json, read_object, write_json
from finetuning_exam.errors import UsageError
from finetuning_exam.run_record import (
    BaseInputs,
    DataInputs,
    Fold,
    MicroBatches,
    PlanInputs,
    RunInputs,
    RunRecord,
)
from finetuning_exam.run_settings import free_to_change

RUN = "run.json"
TOOL = "finetuning-exam"
UNFINISHED = "unfinished"
SCHEMA_VERSION = 1
"""A file without a version is of version 0, which has the same keys."""


def write(folder: Path, run: RunInputs | RunRecord) -> None:
    """Write the run.json of a run that begins, or of one that has finished.

    Raises:
        DiskError, UsageError: it cannot be written.
    """
    state = {"state": UNFINISHED} if isinstance(run, RunInputs) else {}
    content = {"tool": TOOL, "schema_version": SCHEMA_VERSION, **state, **asdict(run)}
    write_json(folder / RUN, cast(Json, content))


@dataclass(frozen=True, slots=True)
class RunFile:
    """A run.json as it was read; what it lacks, or what is damaged in it, is None or empty."""

    is_unfinished: bool
    inputs: RunInputs
    data_paths: tuple[str, ...]
    adapter_sha256: str | None
    _content: dict[str, Json] = field(repr=False)

    def record(self) -> RunRecord | None:
        """Return the record of a finished run; None where the run has not finished, or something
        of the record is missing or damaged.
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(RunRecord).validate_json(json.dumps(self._content), strict=True)
        except ValidationError:
            return None


def is_run(folder: Path) -> bool:
    """Return whether a folder was written by a run, of whatever version."""
    return read_object(folder / RUN).get("tool") == TOOL


def read(folder: Path) -> RunFile | None:
    """Return the content of a folder's run.json; None where there is none, or it is damaged.

    Raises:
        UsageError: a newer version of this program wrote it.
    """
    content = read_object(folder / RUN)
    if not content:
        return None
    if content.get("tool") == TOOL:
        check_schema_version(folder / RUN, content.get("schema_version"), SCHEMA_VERSION)
    paths = _part(content, "data").get("paths")
    return RunFile(
        is_unfinished=content.get("state") == UNFINISHED,
        inputs=_read_inputs(content),
        data_paths=tuple(map(str, paths)) if isinstance(paths, list) else (),
        adapter_sha256=_text(_part(content, "adapter"), "sha256"),
        _content=content,
    )


def check_schema_version(path: Path, version: Json, newest: int) -> None:
    """Refuse a file in a version that is newer than the newest one known.

    Raises:
        UsageError: it is newer.
    """
    if isinstance(version, int) and version > newest:
        raise UsageError(
            f"{path} was written by a newer version of fine-tuning-exam (schema {version}; this "
            f"one reads up to {newest}).",
            "Update fine-tuning-exam.",
        )


def _read_inputs(content: dict[str, Json]) -> RunInputs:
    data, base = _part(content, "data"), _part(content, "base")
    data_sha256 = _text(data, "sha256")
    name, base_sha256 = _text(base, "name"), _text(base, "sha256")
    chosen = _part(_part(content, "plan"), "micro_batches")
    tokens, checkpointing = chosen.get("tokens"), chosen.get("checkpointing")
    rate = _part(content, "plan").get("learning_rate")
    n_steps = _part(content, "plan").get("total_steps")
    return RunInputs(
        settings=_part(content, "settings"),
        data=DataInputs(data_sha256, _text(data, "exam_sha256"), _text(data, "rows_sha256"))
        if data_sha256 is not None
        else None,
        base=BaseInputs(name, base_sha256)
        if name is not None and base_sha256 is not None
        else None,
        template=_text(content, "template"),
        template_date=_text(content, "template_date"),
        thinking=content.get("thinking") is True,
        plan=PlanInputs(
            MicroBatches(tokens, checkpointing),
            float(rate) if isinstance(rate, int | float) else None,
            n_steps if isinstance(n_steps, int) else None,
            _answers(_part(_part(content, "plan"), "answers")),
        )
        if isinstance(tokens, int) and isinstance(checkpointing, bool)
        else None,
        device=_text(content, "device"),
        dtype=_text(content, "dtype"),
        machine={
            key: value for key, value in _part(content, "machine").items() if isinstance(value, str)
        },
        fold=_fold(_part(content, "fold")),
    )


def _answers(content: Mapping[str, Json]) -> AnswerLimit | None:
    n, named = content.get("n"), content.get("reason")
    reason = next((it for it in get_args(AnswerReason) if it == named), None)
    return AnswerLimit(n, reason) if isinstance(n, int) and reason else None


def _fold(content: Mapping[str, Json]) -> Fold | None:
    number, n_folds = content.get("number"), content.get("n_folds")
    if isinstance(number, int) and isinstance(n_folds, int):
        return Fold(number, n_folds)
    return None


def _part(content: Mapping[str, Json], name: str) -> dict[str, Json]:
    value = content.get(name)
    return value if isinstance(value, dict) else {}


def _text(content: Mapping[str, Json], name: str) -> str | None:
    value = content.get(name)
    return value if isinstance(value, str) else None


FORK = "start a new run from its weights with --fork and another --output_dir"


def check_same_inputs(
    earlier: RunInputs, now: RunInputs, where: str, otherwise: str = FORK
) -> None:
    """Refuse to resume a run that would not be the same run; `where` is its checkpoint.

    Inputs that either side does not know are not compared. `otherwise` says what else to do.

    Raises:
        UsageError: a setting or a file differs; all differences are shown.
    """
    before = _compared(earlier)
    changed = [
        f"{name} {before[name]!r} → {value!r}"
        for name, value in _compared(now).items()
        if name in before and before[name] != value
    ]
    if changed:
        raise UsageError(
            f"{where}: cannot be resumed with other inputs: {', '.join(changed)}.",
            f"Give the original ones, or {otherwise}.",
        )


def _compared(inputs: RunInputs) -> dict[str, Json]:
    """Return the inputs that a resumed run must share, by the names that a message gives them.

    A setting says itself whether it changes training. Files and bases are compared by their
    content, since they may have been moved; how records are read shows in the tokens of the rows.
    """
    free = free_to_change()
    compared = {name: value for name, value in inputs.settings.items() if name not in free}
    if inputs.data is not None:
        compared["sha256"] = inputs.data.sha256
        compared["exam_sha256"] = inputs.data.exam_sha256
        if inputs.data.rows_sha256 is not None:
            compared["the tokens of the rows"] = inputs.data.rows_sha256
    if inputs.base is not None:
        compared["the base's weights"] = inputs.base.sha256
    if inputs.plan is not None:
        compared["micro_batches"] = asdict(inputs.plan.micro_batches)
    if inputs.fold is not None:
        compared["fold"] = inputs.fold.number
    return compared


def machine_changes(earlier: RunInputs, now: RunInputs) -> tuple[str, ...]:
    """Return what has changed since a run began and may change its last bits."""
    return tuple(
        f"{name} {earlier.machine[name]} → {value}"
        for name, value in now.machine.items()
        if name in earlier.machine and earlier.machine[name] != value
    )
