"""Write safetensors files one tensor at a time, so that memory never holds a whole model.

The library writes only what is in memory all at once. The format is a length (8 bytes, little
endian), a JSON header of that length, and the tensors' bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from finetuning_exam.durable import Json

_ALIGNMENT = 8
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Number formats by the names that the files have for them."""
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor that will be written."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        """Its size in the file."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def write_tensors(path: Path, entries: Sequence[Entry], read: Callable[[str], Tensor]) -> None:
    """Write the tensors that `read` gives for the entries' names, one after another."""
    header: dict[str, Json] = {"__metadata__": {"format": "pt"}}
    end = 0
    for it in entries:
        start, end = end, end + it.n_bytes
        header[it.name] = {
            "dtype": _NAMES[it.dtype],
            "shape": cast(Json, list(it.shape)),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for it in entries:
            tensor = read(it.name).contiguous()
            assert (tensor.dtype, tuple(tensor.shape)) == (it.dtype, it.shape), it.name
            bytes_of(tensor).tofile(file)


def bytes_of(tensor: Tensor) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Return the bytes of a contiguous tensor, without a copy."""
    return tensor.reshape(-1).view(torch.uint8).numpy()
