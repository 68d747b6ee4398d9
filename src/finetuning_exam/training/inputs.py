"""What goes into a run, as run.json holds it from the start; a resumed run must have the same."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import cast

from finetuning_exam.durable import Json
from finetuning_exam.errors import UsageError
from finetuning_exam.model.folder import cpu_dtype
from finetuning_exam.settings import Dtype, TrainSettings, free_to_change
from finetuning_exam.training.plan import MicroBatches

FREE_TO_CHANGE = free_to_change() | {"name"}
"""Settings that do not change what is trained; files are compared by content, not by name.

How records are read shows in the tokens of the rows, which are compared too.
"""
_NAMES = {
    ("base", "sha256"): "the base's weights",
    ("data", "rows_sha256"): "the tokens of the rows",
}


def run_inputs(settings: TrainSettings, sha256: str, exam_sha256: str | None) -> dict[str, Json]:
    """The settings of a run and the hashes of its files."""
    data: dict[str, Json] = {"sha256": sha256, "exam_sha256": exam_sha256}
    return {"settings": plain(asdict(settings)), "data": data}


@dataclass(frozen=True, slots=True)
class PinnedChoices:
    """What a run chose by measurement when it began, and has to keep to stay the same run."""

    micro_batches: MicroBatches | None = None
    cpu_dtype: Dtype | None = None


def prepared_inputs(
    inputs: dict[str, Json],
    base: tuple[str, str],
    template: str,
    rows_sha256: str,
    micro_batches: MicroBatches,
    device: str,
    dtype: str,
    machine: dict[str, str],
) -> dict[str, Json]:
    """The same with what is known once a run is prepared: name and hash of its base, the hash of
    its rows, what was chosen for it, and what its last bit depends on.
    """
    data = inputs["data"]
    known = data if isinstance(data, dict) else {}
    return {
        **inputs,
        "data": {**known, "rows_sha256": rows_sha256},
        "base": {"name": base[0], "sha256": base[1]},
        "template": template,
        "plan": {"micro_batches": plain(asdict(micro_batches))},
        "device": device,
        "dtype": dtype,
        "machine": dict(machine),
    }


def earlier_choices(earlier: dict[str, Json]) -> PinnedChoices:
    """What a run was begun with, as far as its run.json tells."""
    return PinnedChoices(_micro_batches(earlier), cpu_dtype(earlier))


def _micro_batches(earlier: dict[str, Json]) -> MicroBatches | None:
    plan = earlier.get("plan")
    found = plan.get("micro_batches") if isinstance(plan, dict) else None
    if not isinstance(found, dict):
        return None
    tokens, checkpointing = found.get("tokens"), found.get("checkpointing")
    if not isinstance(tokens, int) or not isinstance(checkpointing, bool):
        return None
    return MicroBatches(tokens, checkpointing)


def check_same_inputs(earlier: dict[str, Json], now: dict[str, Json], where: str) -> None:
    """Refuse to resume a run that would not be the same run.

    Raises:
        UsageError: a setting or a file differs; all differences are shown.
    """
    changed = [
        f"{_NAMES.get((part, name), name)} {was!r} → {new!r}"
        for part in now
        if part != "machine"
        for name, was, new in _pairs(earlier.get(part), now[part])
        if name not in FREE_TO_CHANGE and was != new
    ]
    if changed:
        raise UsageError(
            f"{where}: was not made with these inputs: {', '.join(changed)}.",
            "Give the same ones; for a new run from its weights, --fork it into another "
            "--output_dir.",
        )


def machine_changes(earlier: dict[str, Json], machine: dict[str, str]) -> tuple[str, ...]:
    """What is not as it was when a run began, and may change its last bits."""
    return tuple(
        f"{name} {was} → {new}"
        for name, was, new in _pairs(earlier.get("machine"), dict(machine))
        if was != new
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
