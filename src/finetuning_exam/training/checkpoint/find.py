"""Checkpoints of a run: written whole, found by step, checked before they are used, rotated."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from finetuning_exam.durable import manifest_faults, remove_folder
from finetuning_exam.errors import AdapterError, UsageError
from finetuning_exam.model.folder import ADAPTER_WEIGHTS

TENSORS = "state.safetensors"
"""Optimizer and random generators."""
STATE = "state.json"
"""Their numbers, the scheduler, and what else the next step depends on."""
TRAINER_STATE = "trainer_state.json"
"""The trainer's own account, as Transformers writes it."""
BEST_WEIGHTS = "best_adapter.safetensors"
"""The adapter of the best step, where that is an earlier one."""
NEEDED = (ADAPTER_WEIGHTS, TENSORS, STATE, TRAINER_STATE)
FEWEST_KEPT = 2
"""So that one is left when the newest turns out damaged."""
_COPIES = 4
"""Of the adapter's size in a checkpoint: itself, the best step's, and AdamW's two moments."""
_SMALL_FILES = 5_000_000
"""Bytes of everything else a run writes, generously."""
_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True, slots=True)
class CheckpointRef:
    """A checkpoint whose every byte is as it was written, and why newer ones were passed over."""

    path: Path
    passed_over: tuple[str, ...] = ()

    @property
    def step(self) -> int:
        """The optimizer steps it has behind it."""
        return step_of(self.path)


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return folder / f"checkpoint-{step}"


def step_of(checkpoint: Path) -> int:
    """The step in a checkpoint's name; 0 where it has none."""
    match = _NAME.fullmatch(checkpoint.name)
    return int(match[1]) if match else 0


def checkpoints(folder: Path) -> tuple[tuple[int, Path], ...]:
    """The checkpoints of a run as (step, folder), earliest step first, whole or not."""
    found = [
        (int(match[1]), path)
        for path in folder.iterdir()
        if path.is_dir() and (match := _NAME.fullmatch(path.name))
    ]
    return tuple(sorted(found))


def find_checkpoint(folder: Path, wanted: str) -> CheckpointRef:
    """The checkpoint to go on from: `latest`, which is the newest whole one, or a folder.

    Raises:
        UsageError: there is none.
        AdapterError: the one that was named, or every one, is damaged.
    """
    if wanted != "latest":
        return _named(Path(wanted))
    found = checkpoints(folder) if folder.is_dir() else ()
    if not found:
        raise UsageError(
            f"{folder}: holds no checkpoint to resume from.", "Leave out --resume_from_checkpoint."
        )
    reasons: list[str] = []
    for _, path in reversed(found):
        faults = manifest_faults(path, NEEDED)
        if not faults:
            return CheckpointRef(path, tuple(reasons))
        reasons.append(f"{path}: {', '.join(faults)}")
    raise AdapterError(
        f"{folder}: every checkpoint is damaged ({'; '.join(reasons)}).",
        "Start again with --overwrite_output_dir.",
    )


def _named(path: Path) -> CheckpointRef:
    if not path.is_dir() or not _NAME.fullmatch(path.name):
        raise UsageError(
            f"{path}: is no checkpoint.", "Give latest, or a checkpoint-N folder of a run."
        )
    faults = manifest_faults(path, NEEDED)
    if faults:
        raise AdapterError(
            f"{path}: is damaged ({', '.join(faults)}).",
            "Give latest: it takes the newest whole one.",
        )
    return CheckpointRef(path)


def needed_space(adapter_bytes: int, keep: int, *, resumed: bool = False) -> int:
    """Bytes a run needs on the disk: its checkpoints, one being written, and what is left of it.

    A resumed run has its checkpoints already.
    """
    n_checkpoints = 1 if resumed else max(FEWEST_KEPT, keep) + 1
    return (n_checkpoints * _COPIES + 1) * adapter_bytes + _SMALL_FILES


class Retention:
    """Removes the checkpoints that are no longer needed.

    Only those count as kept which this run has written or checked itself; what is older than the
    `keep` newest of these goes. Age is by step: clocks may be set back.
    """

    def __init__(self, folder: Path, keep: int, known: CheckpointRef | None = None) -> None:
        self._folder = folder
        self._keep = max(FEWEST_KEPT, keep)
        self._whole = {known.step} if known and known.path.parent == folder else set()

    def add(self, step: int) -> None:
        """A checkpoint was written; older ones may go."""
        self._whole.add(step)
        if len(self._whole) < self._keep:
            return
        oldest_kept = sorted(self._whole)[-self._keep]
        for found, path in checkpoints(self._folder):
            if found < oldest_kept:
                remove_folder(path)
                self._whole.discard(found)
