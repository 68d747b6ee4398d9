"""Specification: every token has an embedding, which is known without loading the model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import TOKENS, Models

from finetuning_exam.errors import ModelError
from finetuning_exam.model.device import choose_compute
from finetuning_exam.model.embeddings import load_checked_tokenizer, n_embeddings
from finetuning_exam.model.folder import find_model_folder
from finetuning_exam.model.load import load_base


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"vocab_size": 7}, 7),
        ({"text_config": {"vocab_size": 8}, "vocab_size": 9}, 8),
        ({"model_type": "gpt2"}, 50257),
        ({"model_type": "no such family"}, None),
        (None, None),
    ],
)
def test_where_the_number_stands(
    tmp_path: Path, config: dict[str, object] | None, expected: int | None
) -> None:
    """It stands in config.json, in the text model's part if there is one, or is a default."""
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert n_embeddings(tmp_path) == expected


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "bloom", "gemma3", "opt"])
def test_it_is_the_number_that_the_model_has(models: Models, architecture: str) -> None:
    """The number in config.json is that of the loaded model."""
    folder = models.folder(architecture)
    model = load_base(str(folder), choose_compute("cpu", "float32")).model
    assert n_embeddings(folder) == model.get_input_embeddings().num_embeddings


@pytest.mark.parametrize(
    ("missing", "what"), [(1, "a token"), (2, "2 tokens"), (TOKENS - 10, f"{TOKENS - 10} tokens")]
)
def test_tokens_beyond_the_embeddings_are_named(models: Models, missing: int, what: str) -> None:
    """The error counts them and names the first, with its id."""
    first = TOKENS - missing
    folder = models.folder(vocab_size=first)
    with pytest.raises(ModelError) as caught:
        load_checked_tokenizer(folder, "m")
    message = str(caught.value)
    assert message.startswith(f"m: the tokenizer has {what} without an embedding, such as ")
    assert f"(id {first}): the model has {first} embeddings." in message


def test_an_added_token_beyond_the_embeddings_is_named(models: Models, tmp_path: Path) -> None:
    """A token that was added to the tokenizer, but not to the model, is found by its id."""
    folder = tmp_path / "model"
    shutil.copytree(models.folder(vocab_size=TOKENS), folder)
    assert load_checked_tokenizer(folder, "m").get_vocab()
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["added_tokens"].append(
        {**content["added_tokens"][0], "id": TOKENS, "content": "<|extra|>"}
    )
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ModelError, match=r"a token without an embedding, such as '<\|extra\|>'"):
        load_checked_tokenizer(folder, "m")


def test_no_torch_is_loaded() -> None:
    """The check leaves torch unloaded."""
    code = (
        "import sys; from pathlib import Path\n"
        "from finetuning_exam.model.embeddings import load_checked_tokenizer\n"
        "load_checked_tokenizer(Path(sys.argv[1]), 'm')\n"
        "assert 'torch' not in sys.modules, 'torch was loaded'\n"
    )
    builtin = str(find_model_folder("builtin"))
    done = subprocess.run(
        [sys.executable, "-c", code, builtin], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
