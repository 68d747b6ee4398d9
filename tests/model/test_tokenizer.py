"""A tokenizer and the model's config files, read without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import Models, rows
from transformers import AutoTokenizer

from finetuning_exam.data.encoding.encoder import make_encoder
from finetuning_exam.errors import ModelError
from finetuning_exam.model.device import choose_compute
from finetuning_exam.model.folder import find_model_folder
from finetuning_exam.model.load import load_base
from finetuning_exam.model.tokenizer import base_stop_ids, context_length, load_tokenizer
from finetuning_exam.settings import Template

BUILTIN = find_model_folder("builtin")


def test_no_torch_is_loaded() -> None:
    """Loading the tokenizer, the context length and the stop ids, and encoding a row, leaves torch
    unloaded.
    """
    code = (
        "import sys; from pathlib import Path\n"
        "from finetuning_exam.data.encoding.encoder import make_encoder\n"
        "from finetuning_exam.data.encoding.rows import encode_all\n"
        "from finetuning_exam.data.records import Example\n"
        "from finetuning_exam.model.tokenizer import *\n"
        "from finetuning_exam.model import tokenizer as module\n"
        "folder = Path(sys.argv[1])\n"
        "encoder = make_encoder(module.load_tokenizer(folder), 'plain',"
        " base_stop_ids=module.base_stop_ids(folder))\n"
        "assert len(encode_all(encoder, [Example('a', 'b', 1, 'd')], 99).rows) == 1\n"
        "assert module.context_length(folder) == 1024\n"
        "assert 'torch' not in sys.modules, 'torch was loaded'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(BUILTIN)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("text", ["plain", "padded", "started", "chat"])
def test_it_is_the_tokenizer_of_the_training(models: Models, text: str) -> None:
    """Rows are encoded as with the tokenizer that training loads, and stop ids are the same."""
    folder = models.folder(text=text)
    base = load_base(str(folder), choose_compute("cpu", "float32"))
    template: Template = "chat" if text == "chat" else "plain"
    theirs = make_encoder(base.tokenizer, template, base_stop_ids=base.stop_ids)
    ours = make_encoder(load_tokenizer(folder), template, base_stop_ids=base_stop_ids(folder))
    assert ours.encode_batch(rows(6)) == theirs.encode_batch(rows(6))
    assert ours.stop_ids == theirs.stop_ids
    assert ours.special_pattern == theirs.special_pattern


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma3", "opt"])
def test_the_context_is_that_of_the_loaded_model(models: Models, architecture: str) -> None:
    """config.json tells the context as the loaded model does, under each of its names."""
    folder = models.folder(architecture)
    base = load_base(str(folder), choose_compute("cpu", "float32"))
    assert context_length(folder) == base.context == 1024


def test_the_context_may_be_unknown(models: Models) -> None:
    """The context is 2048 if neither config.json nor the family's defaults have a limit."""
    folder = models.folder("bloom")
    assert context_length(folder) == 2048
    assert load_base(str(folder), choose_compute("cpu", "float32")).context == 2048


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"n_positions": 12}, 12),
        ({"max_sequence_length": 13}, 13),
        ({"max_position_embeddings": 14, "n_positions": 12}, 14),
        ({"text_config": {"max_position_embeddings": 15}, "max_position_embeddings": 9}, 15),
        ({"max_position_embeddings": None, "n_positions": 16}, 16),
        ({"max_seq_len": 17}, 17),
        ({"model_type": "gpt2"}, 1024),
    ],
)
def test_where_the_context_stands(tmp_path: Path, config: dict[str, object], expected: int) -> None:
    """The context stands under one of its names, in the text model's config if there is one."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert context_length(tmp_path) == expected


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        ({"eos_token_id": [3, 4]}, {"eos_token_id": 1}, (3, 4)),
        ({"eos_token_id": 3}, {}, (3,)),
        ({"do_sample": True}, {"eos_token_id": 1}, ()),
        (None, {"eos_token_id": 1}, (1,)),
        (None, {"eos_token_id": None}, ()),
        (None, None, ()),
    ],
)
def test_where_the_stop_ids_stand(
    tmp_path: Path, generation: object, config: object, expected: tuple[int, ...]
) -> None:
    """The base's stop ids are those of generation_config.json, or else of config.json."""
    for name, value in (("generation_config.json", generation), ("config.json", config)):
        if value is not None:
            (tmp_path / name).write_text(json.dumps(value))
    assert base_stop_ids(tmp_path) == expected


def test_without_tokenizer_json_transformers_converts_what_there_is(
    models: Models, tmp_path: Path
) -> None:
    """A folder with only vocab.json and merges.txt is loaded too."""
    whole = json.loads((models.folder() / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    merges = [" ".join(merge) for merge in whole["merges"]]
    (tmp_path / "vocab.json").write_text(json.dumps(whole["vocab"]))
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    names = {"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|end|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(names))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    found = load_tokenizer(tmp_path)
    expected = AutoTokenizer.from_pretrained(models.folder())
    assert found.eos_token_id == expected.eos_token_id
    text = "What does the cat do?"
    assert found.encode(text, add_special_tokens=False) == expected.encode(
        text, add_special_tokens=False
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", "{"),
        ("tokenizer.json", '{"model": 1}'),
        ("tokenizer.json", ""),
        ("tokenizer_config.json", "[]"),
        ("tokenizer_config.json", "{"),
        ("tokenizer_config.json", "\udcff"),
    ],
)
def test_a_damaged_tokenizer_is_an_error(tmp_path: Path, name: str, content: str) -> None:
    """Damaged files are one error that names the folder or the file, without a traceback."""
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / file).write_bytes((BUILTIN / file).read_bytes())
    (tmp_path / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ModelError, match=r"Copy the model again\.$") as caught:
        load_tokenizer(tmp_path)
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_tokenizer_is_an_error(tmp_path: Path) -> None:
    """A missing tokenizer is an error too."""
    with pytest.raises(ModelError, match="no tokenizer in this folder"):
        load_tokenizer(tmp_path)


def test_a_damaged_config_is_an_error(tmp_path: Path) -> None:
    """A config.json that is not a JSON object is named."""
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ModelError, match=r"config\.json: not a JSON object\."):
        context_length(tmp_path)


def test_a_tokenizer_with_code_is_refused(tmp_path: Path) -> None:
    """A tokenizer that needs to run its own code is never loaded."""
    (tmp_path / "tokenizer.json").write_bytes((BUILTIN / "tokenizer.json").read_bytes())
    config = {"auto_map": {"AutoTokenizer": ["code.T", None]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="its own code"):
        load_tokenizer(tmp_path)


def test_several_templates_without_a_default_are_an_error(models: Models, tmp_path: Path) -> None:
    """Named chat templates of which none is the default are listed."""
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / file).write_bytes((models.folder() / file).read_bytes())
    config = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    named = [{"name": it, "template": "{{ messages }}"} for it in ("rag", "tool_use")]
    config["chat_template"] = named
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError) as caught:
        load_tokenizer(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: the tokenizer has several chat templates (rag, tool_use), none of which is "
        'named default. Rename the one to use to "default" in tokenizer_config.json.'
    )
