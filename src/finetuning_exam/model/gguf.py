"""A GGUF file as a base model: unpacked once into an ordinary model folder.

Transformers' own loader dequantises the weights to float32 and rebuilds the tokenizer. The folder
is kept in the cache, under the SHA-256 of the file, so every later command reads it like any other
model folder, and an adapter is bound to the weights in it. Weights of a GGUF file are often rounded
to a few bits: the base is the rounded model, as the file has it.
"""

from __future__ import annotations

import re
import shlex
import shutil
from contextlib import redirect_stderr
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from filelock import FileLock

from finetuning_exam.cache import CACHE, cache_folder
from finetuning_exam.durable import (
    MANIFEST,
    Json,
    file_sha256,
    manifest_faults,
    read_json,
    sweep,
    write_folder,
    write_json,
)
from finetuning_exam.errors import DiskError, ModelError, first_line

if TYPE_CHECKING:
    from gguf import GGUFReader

SUFFIX = ".gguf"
NOTE = "weights unpacked from GGUF to float32, as the file rounds them"
_MAGIC = b"GGUF"
_PART = re.compile(r"-\d{5}-of-\d{5}\.gguf", re.IGNORECASE)
_COPY_AGAIN = "Copy or download the file again."
_OTHER_TYPES = {"adapter": "a LoRA adapter", "mmproj": "the image or audio part of a model"}
"""What a file may hold that is no language model, by its `general.type`."""


def is_gguf(name: str) -> bool:
    """Return True if a name is meant as a GGUF file, whether or not the file exists."""
    return name.lower().endswith(SUFFIX) and not Path(name).expanduser().is_dir()


def gguf_in(folder: Path) -> str | None:
    """Return how to name the GGUF file in a folder that has no other weights; None without one."""
    found = sorted(folder.glob(f"*{SUFFIX}"))
    if not found:
        return None
    more = f", or another of its {len(found)} GGUF files" if found[1:] else ""
    return f"Give the file: --model {shlex.quote(str(found[0]))}{more}."


def unpacked(file: Path, name: str) -> Path:
    """Return the model folder that a GGUF file was unpacked into, now or earlier.

    The weights take four bytes per parameter on disk, and while they are unpacked in memory.

    Raises:
        ModelError: the package gguf is missing, or the file is damaged, one part of several, no
            language model, or of an architecture or a kind of tokenizer that Transformers cannot
            read from GGUF.
        DiskError: the cache has no room for the folder.
    """
    state = file.stat()
    return _unpacked_once(file.resolve(), name, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4)
def _unpacked_once(file: Path, name: str, size: int, changed: int) -> Path:
    """Do the work of `unpacked` once per process, while a file's size and time of change stay."""
    folder = cache_folder() / "gguf" / file_sha256(file)
    _make_cache(folder.parent, name)
    with FileLock(folder.with_suffix(".lock")):  # another process may unpack the same file
        if not (folder / MANIFEST).is_file() or manifest_faults(folder, ("config.json",)):
            _check_room(_read(file, name), folder.parent, name)
            sweep(folder.parent)
            write_folder(folder, lambda place: _unpack(file, name, place))
    return folder


def _make_cache(cache: Path, name: str) -> None:
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(
            f"{name}: cannot be unpacked into {cache} ({error.strerror}).",
            f"Set {CACHE} to a folder that can be written to.",
        ) from error


def _check_room(reader: GGUFReader, cache: Path, name: str) -> None:
    needed = 4 * sum(int(tensor.n_elements) for tensor in reader.tensors)
    free = shutil.disk_usage(cache).free
    if free < needed:
        raise DiskError(
            f"{name}: unpacked, it takes {needed / 1e9:.1f} GB, and {cache} has "
            f"{free / 1e9:.1f} GB left.",
            f"Free some space, or set {CACHE} to a folder on another disk.",
        )


def _read(file: Path, name: str) -> GGUFReader:
    """Read the header of a GGUF file, and check that all of its tensors are there."""
    if _PART.search(file.name):
        raise ModelError(
            f"{name}: one part of a model that is split over several files.",
            "Join them with llama.cpp's llama-gguf-split --merge, and give the whole file.",
        )
    with file.open("rb") as stream:
        start = stream.read(len(_MAGIC))
    if start != _MAGIC:
        raise ModelError(f"{name}: not a GGUF file, whatever its name says.", _COPY_AGAIN)
    try:
        from gguf import GGUFReader
    except ImportError:
        raise ModelError(
            f"{name}: reading GGUF needs the package gguf.",
            "Install it: uv add 'finetuning-exam[gguf]', or pip install gguf.",
        ) from None
    try:
        reader = GGUFReader(file)
    except Exception as error:  # numpy fails in many ways on a file that is cut
        raise ModelError(f"{name}: cut or damaged ({first_line(error)}).", _COPY_AGAIN) from error
    found = reader.get_field("general.type")
    other = _OTHER_TYPES.get(str(found.contents())) if found else None
    if other:
        raise ModelError(f"{name}: {other}, not a language model.", "Give the model's own file.")
    return reader


def _unpack(file: Path, name: str, place: Path) -> None:
    """Write the model and the tokenizer of a GGUF file to a folder, as Transformers saves them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    source: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    try:
        with redirect_stderr(StringIO()):  # a progress bar that no setting turns off
            tokenizer = AutoTokenizer.from_pretrained(file.parent, **source)
            model, loading = AutoModelForCausalLM.from_pretrained(
                file.parent, **source, dtype=torch.float32, output_loading_info=True
            )
    except OSError as error:
        raise ModelError(f"{name}: cannot be read ({first_line(error)}).", _COPY_AGAIN) from error
    except Exception as error:  # each architecture and tokenizer fails in its own way
        raise ModelError(
            f"{name}: Transformers cannot read this model from GGUF ({first_line(error)}).",
            "Use the folder of the original model, with .safetensors weights.",
        ) from error
    if loading["missing_keys"]:
        missing = sorted(loading["missing_keys"])
        raise ModelError(
            f"{name}: missing weights ({len(missing)}), such as {', '.join(missing[:3])}.",
            "Use the folder of the original model, with .safetensors weights.",
        )
    # From here on it is an ordinary model in float32.
    model.hf_quantizer = None
    model.is_quantized = False
    for setting in ("quantization_config", "_pre_quantization_dtype"):
        model.config.__dict__.pop(setting, None)
    model.save_pretrained(place)
    tokenizer.save_pretrained(place)
    _drop_foreign_tokens(place, model.get_input_embeddings().num_embeddings)


def _drop_foreign_tokens(place: Path, n_embeddings: int) -> None:
    """Remove special tokens that Transformers adds to a vocabulary that does not have them.

    Of byte-level tokenizers it makes GPT-2's, whose end token many models have no row for.
    """
    content = read_json(place / "tokenizer.json")
    added = cast(list[dict[str, Json]], content["added_tokens"])
    foreign = {it["content"] for it in added if cast(int, it["id"]) >= n_embeddings}
    if not foreign:
        return
    content["added_tokens"] = [it for it in added if it["content"] not in foreign]
    settings = read_json(place / "tokenizer_config.json")
    kept = {
        key: value
        for key, value in settings.items()
        if not (isinstance(value, str) and value in foreign)
    }
    write_json(place / "tokenizer.json", content)
    write_json(place / "tokenizer_config.json", kept)
