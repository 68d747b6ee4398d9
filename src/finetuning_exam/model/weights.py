"""The weight files of a model folder: which ones are loaded, and whether they are complete."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from dataclasses import dataclass
from pathlib import Path

from finetuning_exam.durable import Json, read_object
from finetuning_exam.errors import ModelError
from finetuning_exam.model.gguf import gguf_in

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_OTHER_FORMATS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf", "*.msgpack", "*.h5")
_NO_WEIGHTS = frozenset({"training_args.bin", "optimizer.bin", "scheduler.bin", "optimizer.pt"})
"""Files of a training that have the ending of weights."""
_COPY_AGAIN = "Copy or download the model again."
_LONGEST_HEADER = 100_000_000
"""Bytes of a header, at most, as the safetensors library has it."""
_EXPERT = re.compile(r"(.*\.experts)\.(\d+)\.(.*)")
_LFS = b"version https://git-lfs"

Shapes = dict[str, tuple[int, ...]]
"""The shape of every tensor in a file, by name."""


class NotWhole(ValueError):
    """A safetensors file that cannot be read; the message completes "FILE is …"."""


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """The weight files that are loaded from a folder, and those that are not."""

    loaded: tuple[Path, ...]
    unused: tuple[str, ...] = ()

    @property
    def note(self) -> str | None:
        """A sentence about a second set of weights; None where there is only one."""
        if not self.unused:
            return None
        more = f" and {len(self.unused) - 3} more" if len(self.unused) > 3 else ""
        used = self.loaded[0].name + (f" … {self.loaded[-1].name}" if self.loaded[1:] else "")
        return (
            f"the folder has more than one set of weights: {used} is loaded, and not "
            f"{', '.join(self.unused[:3])}{more}"
        )


def weight_files(folder: Path, name: str) -> WeightFiles:
    """Return the files that Transformers loads, after checking that each is complete.

    A `model.safetensors` takes precedence over an index of shards; `transformers_weights` in
    config.json over both.

    Raises:
        ModelError: there are no safetensors weights, or a file is missing, cut or damaged.
    """
    named = read_object(folder / "config.json").get("transformers_weights")
    first = named if isinstance(named, str) else WHOLE if (folder / WHOLE).is_file() else INDEX
    if first.endswith(".json"):
        loaded = _shards(folder, first, name)
    else:
        _shapes_of(folder / first, name)
        loaded = (folder / first,)
    return WeightFiles(loaded, _unused(folder, first, loaded))


def weights_sha256(files: tuple[Path, ...]) -> str:
    """Return the SHA-256 over weight files, sorted by name, each preceded by its name."""
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.name.encode("utf-8"))
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 22):
                digest.update(chunk)
    return digest.hexdigest()


def tensor_shapes(path: Path) -> Shapes:
    """Return the shape of every tensor in a safetensors file, from its header alone.

    Raises:
        NotWhole: the file is empty, cut, or no safetensors file.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if not size:
            raise NotWhole("empty")
        if _LFS.startswith(start) or start.startswith(_LFS[:8]):
            raise NotWhole("a Git LFS pointer and not the weights (git lfs pull fetches them)")
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > min(size - 8, _LONGEST_HEADER):
            raise NotWhole(f"cut or damaged (its header does not fit into its {size:,} bytes)")
        content = file.read(length)
    try:
        header = json.loads(content)
        tensors = {key: value for key, value in header.items() if key != "__metadata__"}
        shapes = {key: tuple(map(int, value["shape"])) for key, value in tensors.items()}
        end = max((int(value["data_offsets"][1]) for value in tensors.values()), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise NotWhole("damaged (its header cannot be read)") from None
    if 8 + length + end != size:
        state = "cut" if 8 + length + end > size else "damaged"
        raise NotWhole(f"{state} ({size:,} bytes, and its header describes {8 + length + end:,})")
    return shapes


def uneven_experts(files: tuple[Path, ...]) -> str | None:
    """Return which expert's tensor is missing or has another shape than the others'; else None."""
    groups: dict[str, dict[int, tuple[int, ...]]] = {}
    for file in files:
        for name, shape in tensor_shapes(file).items():
            found = _EXPERT.fullmatch(name)
            if found:
                groups.setdefault(f"{found[1]}.*.{found[3]}", {})[int(found[2])] = shape
    count = 1 + max((max(group) for group in groups.values()), default=-1)
    for pattern, group in groups.items():
        for expert in range(count):
            name = pattern.replace("*", str(expert), 1)
            if expert not in group:
                return f"{name} is missing, while there are {count} experts"
            usual = group[min(group)]
            if group[expert] != usual:
                sizes = " × ".join(map(str, group[expert])), " × ".join(map(str, usual))
                return f"{name} is {sizes[0]}, and that of another expert {sizes[1]}"
    return None


def _shapes_of(path: Path, name: str) -> Shapes:
    try:
        return tensor_shapes(path)
    except NotWhole as error:
        raise ModelError(f"{name}: {path.name} is {error}.", _COPY_AGAIN) from None
    except OSError as error:
        reason = error.strerror or error
        raise ModelError(f"{name}: {path.name} cannot be read ({reason}).", _COPY_AGAIN) from error


def _shards(folder: Path, index: str, name: str) -> tuple[Path, ...]:
    """Return the shards that an index names, each checked."""
    if not (folder / index).is_file():
        raise _no_weights(folder, name)
    places = read_object(folder / index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(map(_is_file_name, places.values())):
        raise ModelError(f"{name}: {index} is damaged (it maps no tensors to files).", _COPY_AGAIN)
    shards = sorted({str(shard) for shard in places.values()})
    for shard in shards:
        if not (folder / shard).is_file():
            raise ModelError(
                f"{name}: {shard} is missing, one of the {len(shards)} files that {index} names.",
                _COPY_AGAIN,
            )
    held = {shard: _shapes_of(folder / shard, name) for shard in shards}
    absent = sorted(it for it, shard in places.items() if it not in held[str(shard)])
    if absent:
        raise ModelError(
            f"{name}: {index} places {len(absent):,} of {len(places):,} tensors in files that do "
            f"not hold them, such as {absent[0]} in {places[absent[0]]}.",
            _COPY_AGAIN,
        )
    return tuple(folder / shard for shard in shards)


def _is_file_name(value: Json) -> bool:
    return isinstance(value, str) and Path(value).name == value


def _no_weights(folder: Path, name: str) -> ModelError:
    """Return the error for a folder without a set of safetensors weights."""
    if hint := gguf_in(folder):
        return ModelError(f"{name}: has GGUF weights only.", hint)
    found = sorted(path.name for path in folder.glob("*.safetensors"))
    if found:
        return ModelError(
            f"{name}: has neither {WHOLE} nor {INDEX}, only {', '.join(found[:3])}.",
            "Use a folder as Transformers saves it.",
        )
    return ModelError(
        f"{name}: no .safetensors weights in this folder.",
        "Other formats can run code when loaded; convert the weights first.",
    )


def _unused(folder: Path, first: str, loaded: tuple[Path, ...]) -> tuple[str, ...]:
    """Return the names of weights, and of an index, that are not loaded."""
    taken = {first, *(path.name for path in loaded)}
    found = {path.name for form in _OTHER_FORMATS for path in folder.glob(form)}
    indexes = {path.name for path in folder.glob("*.safetensors.index.json")}
    return tuple(sorted((found | indexes) - taken - _NO_WEIGHTS))
