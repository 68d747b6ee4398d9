"""Which weight files of a folder are loaded, and how incomplete ones are reported."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from weight_files import save_index, save_weights

from finetuning_exam.errors import ModelError
from finetuning_exam.model.weights import weight_files, weights_sha256

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
PLACES = {"a": SHARDS[0], "b": SHARDS[0], "c": SHARDS[1]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a sharded model."""
    save_weights(tmp_path / SHARDS[0], "a", "b")
    save_weights(tmp_path / SHARDS[1], "c")
    save_index(tmp_path, PLACES)
    return tmp_path


def _refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        weight_files(folder, "m")
    assert caught.value.exit_code == 2
    (line,) = str(caught.value).splitlines()
    return line


def test_shards_are_loaded_as_the_index_names_them(folder: Path) -> None:
    """A whole set of shards is loaded, without a note."""
    files = weight_files(folder, "m")
    assert [path.name for path in files.loaded] == list(SHARDS)
    assert files.note is None


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def _longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


@pytest.mark.parametrize("shard", SHARDS)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (Path.unlink, "is missing, one of the 2 files that model.safetensors.index.json names."),
        (_cut, "is cut ("),
        (_longer, "is damaged ("),
        (lambda path: path.write_bytes(b""), "is empty."),
        (lambda path: path.write_bytes(b"abc"), "is cut or damaged (its header does not fit"),
        (lambda path: path.write_bytes(b"\xff" * 64), "is cut or damaged (its header does not"),
        (
            lambda path: path.write_bytes(struct.pack("<Q", 4) + b"{{{{"),
            "is damaged (its header cannot be read).",
        ),
        (
            lambda path: path.write_bytes(struct.pack("<Q", 12) + b'{"a": [1,2]}'),
            "is damaged (its header cannot be read).",
        ),
        (
            lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid 1\n"),
            "is a Git LFS pointer and not the weights (git lfs pull fetches them).",
        ),
    ],
    ids=["gone", "cut", "longer", "empty", "short", "noise", "no JSON", "no tensors", "pointer"],
)
def test_an_incomplete_shard_is_named(
    folder: Path, shard: str, damage: Callable[[Path], object], message: str
) -> None:
    """A shard that is missing, cut or damaged is named, with what is wrong with it."""
    damage(folder / shard)
    assert _refusal(folder).startswith(f"m: {shard} {message}")


def test_the_sizes_of_a_cut_file_are_named(folder: Path) -> None:
    """The error has the bytes there are, and those that the header describes."""
    whole = (folder / SHARDS[1]).stat().st_size
    _cut(folder / SHARDS[1])
    assert f"is cut ({whole - 4} bytes, and its header describes {whole})." in _refusal(folder)


def test_a_single_file_is_checked_too(tmp_path: Path) -> None:
    """A model in one file that is cut is named."""
    _cut(save_weights(tmp_path / "model.safetensors", "a"))
    assert _refusal(tmp_path).startswith("m: model.safetensors is cut (")


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": "../x.safetensors"}}'],
    ids=["empty", "cut", "list", "nothing", "no tensors", "outside"],
)
def test_a_damaged_index_is_named(folder: Path, content: str) -> None:
    """An index that maps no tensors to files of the folder is an error."""
    (folder / "model.safetensors.index.json").write_text(content, encoding="utf-8")
    assert _refusal(folder).startswith("m: model.safetensors.index.json is damaged (")


def test_an_index_that_names_what_no_shard_holds_is_refused(folder: Path) -> None:
    """A tensor that is not in the shard of the index is named with the shard."""
    save_index(folder, {**PLACES, "d": SHARDS[1]})
    assert f"places 1 of 4 tensors in files that do not hold them, such as d in {SHARDS[1]}." in (
        _refusal(folder)
    )


@pytest.mark.parametrize("other", ["pytorch_model.bin", "consolidated.safetensors", "m.Q8.gguf"])
def test_a_second_set_of_weights_is_named(folder: Path, other: str) -> None:
    """Weights of another kind beside those that are loaded are named, and not hashed."""
    before = weights_sha256(weight_files(folder, "m").loaded)
    save_weights(folder / other, "a", value=1.0)
    files = weight_files(folder, "m")
    assert files.note == (
        "the folder has more than one set of weights: "
        f"{SHARDS[0]} … {SHARDS[1]} is loaded, and not {other}"
    )
    assert weights_sha256(files.loaded) == before


def test_a_whole_file_comes_before_an_index(folder: Path) -> None:
    """With model.safetensors beside shards it is what is loaded and hashed, as by Transformers;
    the index and the shards, there or not, are named.
    """
    alone = save_weights(folder / "model.safetensors", "a", "b", "c", value=2.0)
    files = weight_files(folder, "m")
    assert files.loaded == (alone,)
    assert files.unused == (*SHARDS, "model.safetensors.index.json")
    for shard in SHARDS:
        (folder / shard).unlink()
    stale = weight_files(folder, "m")
    assert stale.unused == ("model.safetensors.index.json",)
    assert weights_sha256(stale.loaded) == weights_sha256(files.loaded)


def test_weights_that_config_names_come_first(folder: Path) -> None:
    """`transformers_weights` in config.json names what Transformers loads."""
    save_weights(folder / "model.safetensors", "a")
    named = save_weights(folder / "special.safetensors", "a")
    config = json.dumps({"transformers_weights": named.name})
    (folder / "config.json").write_text(config, encoding="utf-8")
    assert weight_files(folder, "m").loaded == (named,)


def test_weights_under_other_names_only_are_refused(tmp_path: Path) -> None:
    """A folder with a variant only has nothing that would be loaded."""
    save_weights(tmp_path / "model.fp16.safetensors", "a")
    assert _refusal(tmp_path).startswith(
        "m: has neither model.safetensors nor model.safetensors.index.json, only model.fp16."
    )


def test_the_hash_is_over_names_and_weights(tmp_path: Path) -> None:
    """The hash of a base changes with any weight and with the name of any weight file only."""
    one, two = (save_weights(tmp_path / f"{it}.safetensors", "a") for it in "ab")
    first = weights_sha256((one, two))
    assert weights_sha256((two, one)) == first
    save_weights(two, "a", value=1.0)
    second = weights_sha256((one, two))
    renamed = two.rename(tmp_path / "c.safetensors")
    assert len({first, second, weights_sha256((one, renamed))}) == 3
