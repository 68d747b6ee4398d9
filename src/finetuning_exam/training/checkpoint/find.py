"""Find a run's checkpoints by step, verify them before use, and delete the old ones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from finetuning_exam.durable import manifest_faults, remove_folder
from finetuning_exam.errors import AdapterError, UsageError
from finetuning_exam.model.folder import ADAPTER_WEIGHTS

TENSORS = "state.safetensors"
"""Tensors of the optimizer and the random generators."""
STATE = "state.json"
"""Their plain numbers, the scheduler, and everything else the next step depends on."""
TRAINER_STATE = "trainer_state.json"
"""Transformers' own trainer state."""
BEST_WEIGHTS = "best_adapter.safetensors"
"""The adapter of the best step, present if that step is an earlier one."""
REQUIRED_FILES = (ADAPTER_WEIGHTS, TENSORS, STATE, TRAINER_STATE)
MIN_KEPT = 2
"""Two, so that one is left if the newest turns out to be damaged."""
_ADAPTERS_PER_CHECKPOINT = 4
"""Size of a checkpoint in adapters: its own, the best step's, and AdamW's two moments."""
_OTHER_FILES_BYTES = 5_000_000
"""Generous allowance for everything else a run writes."""
_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True, slots=True)
class CheckpointRef:
    """An intact checkpoint, and the reasons why newer ones were passed over."""

    path: Path
    passed_over: tuple[str, ...] = ()

    @property
    def step(self) -> int:
        """The number of optimizer steps taken before it was saved."""
        return step_of(self.path)


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return the folder of the checkpoint of a step."""
    return folder / f"checkpoint-{step}"


def step_of(checkpoint: Path) -> int:
    """Return the step in a checkpoint's name, or 0 if there is none."""
    match = _NAME.fullmatch(checkpoint.name)
    return int(match[1]) if match else 0


def checkpoints(folder: Path) -> tuple[tuple[int, Path], ...]:
    """Return a run's checkpoints as (step, folder) in order of step, including damaged ones."""
    found = [
        (int(match[1]), path)
        for path in folder.iterdir()
        if path.is_dir() and (match := _NAME.fullmatch(path.name))
    ]
    return tuple(sorted(found))


def find_checkpoint(folder: Path, wanted: str) -> CheckpointRef:
    """Return the checkpoint to resume from: the newest intact one for `latest`, or a given folder.

    Raises:
        UsageError: there is no checkpoint.
        AdapterError: the given checkpoint is damaged, or all of them are.
    """
    if wanted != "latest":
        return _checkpoint_at(Path(wanted))
    found = checkpoints(folder) if folder.is_dir() else ()
    if not found:
        raise UsageError(
            f"{folder}: no checkpoint to resume from.",
            "Remove --resume_from_checkpoint to start from the beginning.",
        )
    reasons: list[str] = []
    for _, path in reversed(found):
        faults = manifest_faults(path, REQUIRED_FILES)
        if not faults:
            return CheckpointRef(path, tuple(reasons))
        reasons.append(f"{path}: {', '.join(faults)}")
    raise AdapterError(
        f"{folder}: all checkpoints are damaged ({'; '.join(reasons)}).",
        "Start over with --overwrite_output_dir.",
    )


def _checkpoint_at(path: Path) -> CheckpointRef:
    if not path.is_dir() or not _NAME.fullmatch(path.name):
        raise UsageError(
            f"{path}: not a checkpoint.", 'Pass "latest" or a checkpoint-N folder of a run.'
        )
    faults = manifest_faults(path, REQUIRED_FILES)
    if faults:
        raise AdapterError(
            f"{path}: damaged checkpoint ({', '.join(faults)}).",
            'Pass "latest" to resume from the newest intact one.',
        )
    return CheckpointRef(path)


def needed_space(adapter_bytes: int, keep: int, *, resumed: bool = False) -> int:
    """Return the bytes of disk space a run needs: for the checkpoints it keeps, one more while it
    is written, the final adapter, and small files.

    The checkpoints that a resumed run keeps are on the disk already.
    """
    n_checkpoints = 1 if resumed else max(MIN_KEPT, keep) + 1
    return (n_checkpoints * _ADAPTERS_PER_CHECKPOINT + 1) * adapter_bytes + _OTHER_FILES_BYTES


class Retention:
    """Deletes old checkpoints.

    Everything older than the `keep` newest intact checkpoints is deleted. Only checkpoints that
    this run has written or verified count as intact. Age goes by step, since clocks may be set
    back.
    """

    def __init__(self, folder: Path, keep: int, verified: CheckpointRef | None = None) -> None:
        self._folder = folder
        self._keep = max(MIN_KEPT, keep)
        self._intact = {verified.step} if verified and verified.path.parent == folder else set()

    def add(self, step: int) -> None:
        """Count a checkpoint that was just written, and delete those it makes obsolete."""
        self._intact.add(step)
        if len(self._intact) < self._keep:
            return
        oldest_kept = sorted(self._intact)[-self._keep]
        for found, path in checkpoints(self._folder):
            if found < oldest_kept:
                remove_folder(path)
                self._intact.discard(found)
