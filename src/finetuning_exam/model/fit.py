"""Whether weights fit config.json, as far as the headers of their files tell.

Loading a model finds every weight that is missing or of another size; this finds, without torch,
what shows at once: layers that are not there, embeddings of another size, and uneven experts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from finetuning_exam.durable import Json, read_object
from finetuning_exam.errors import ModelError
from finetuning_exam.model.weights import Shapes, WeightFiles, tensor_shapes, uneven_experts

_LAYER = re.compile(r"(.*\b(?:layers|h|blocks))\.(\d+)\.")
_EMBEDDING = re.compile(r"(?:.*\.)?(?:embed_tokens|wte|word_embeddings|embed_in)\.weight")
_N_LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
_WIDTH = ("hidden_size", "n_embd", "d_model")
_OTHER_WIDTH = ("word_embed_proj_dim", "embedding_size")
"""Keys of families whose embeddings are not as wide as their layers."""


def check_weights_fit(folder: Path, files: WeightFiles, name: str) -> None:
    """Check the weights of a folder against its config.json.

    Raises:
        ModelError: a size in config.json is no number, or the weights are of another model.
    """
    config = read_object(folder / "config.json")
    text = config.get("text_config")
    sizes = text if isinstance(text, dict) else config
    for key in (*_N_LAYERS, *_WIDTH, "vocab_size"):
        value = sizes.get(key)
        if value is not None and type(value) is not int:
            raise ModelError(
                f"{name}: {key} in config.json is not a whole number.", "Copy the model again."
            )
    shapes: Shapes = {}
    for file in files.loaded:
        shapes |= tensor_shapes(file)
    if not shapes:
        raise ModelError(f"{name}: the weights hold no tensors.", "Copy the model again.")
    uneven = uneven_experts(files.loaded)
    if uneven:
        raise ModelError(f"{name}: {uneven}.", "Copy the model again.")
    _check_layers(shapes, _size(sizes, _N_LAYERS), name)
    _check_embeddings(shapes, sizes, name)


def _size(sizes: Mapping[str, Json], keys: tuple[str, ...]) -> int | None:
    """Return the size that any of the keys gives; None if there is none, or they differ."""
    found = {value for key in keys if isinstance(value := sizes.get(key), int)}
    return found.pop() if len(found) == 1 else None


def _check_layers(shapes: Shapes, n_layers: int | None, name: str) -> None:
    """Refuse weights in which no stack of layers has all that config.json asks for."""
    stacks: dict[str, set[int]] = {}
    for key in shapes:
        if found := _LAYER.match(key):
            stacks.setdefault(found[1], set()).add(int(found[2]))
    if n_layers is None or not stacks:
        return
    stack = max(stacks, key=lambda it: len(stacks[it] & set(range(n_layers))))
    missing = sorted(set(range(n_layers)) - stacks[stack])
    if missing:
        raise ModelError(
            f"{name}: config.json asks for {n_layers:,} layers, and the weights lack "
            f"{len(missing):,} of them, such as {stack}.{missing[0]}.",
            "Use the config.json that belongs to these weights, or copy the model again.",
        )


def _check_embeddings(shapes: Shapes, sizes: Mapping[str, Json], name: str) -> None:
    """Refuse embeddings of another size than config.json asks for."""
    found = [key for key in shapes if _EMBEDDING.fullmatch(key)]
    rows, width = _size(sizes, ("vocab_size",)), _size(sizes, _WIDTH)
    if len(found) != 1 or rows is None or width is None:
        return
    (key,) = found
    shape = shapes[key]
    wanted = (rows, shape[-1] if any(it in sizes for it in _OTHER_WIDTH) else width)
    if len(shape) == 2 and shape != wanted:
        raise ModelError(
            f"{name}: {key} is {shape[0]} × {shape[1]} in the file, {wanted[0]} × {wanted[1]} by "
            "config.json.",
            "Use the config.json that belongs to these weights.",
        )
