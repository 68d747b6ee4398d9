"""Small safetensors files, written without a library, and whole or not."""

from __future__ import annotations

import json
import struct
from pathlib import Path


def save_weights(path: Path, *names: str, value: float = 0.0) -> Path:
    """Write a file with one float32 tensor of shape (1, 2) for each name."""
    header = {
        name: {"dtype": "F32", "shape": [1, 2], "data_offsets": [8 * at, 8 * at + 8]}
        for at, name in enumerate(names)
    }
    content = json.dumps(header).encode("utf-8")
    data = struct.pack("<ff", value, value) * len(names)
    path.write_bytes(struct.pack("<Q", len(content)) + content + data)
    return path


def save_index(folder: Path, places: dict[str, str]) -> Path:
    """Write an index that places each tensor in a shard."""
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": places}), encoding="utf-8")
    return path
