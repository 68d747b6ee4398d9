"""Specification of bench/shapes.py: what a LoRA step costs at least, and the rows to measure on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import shapes
import torch
from peft import LoraConfig, get_peft_model
from shapes import Matrix, ModelShape, Work
from tiny import Models
from transformers import AutoModelForCausalLM

from finetuning_exam.data.encoding.encoder import Encoded, make_encoder
from finetuning_exam.data.encoding.labels import IGNORED
from finetuning_exam.data.encoding.template import formatting_func
from finetuning_exam.data.records import Example
from finetuning_exam.model.tokenizer import load_tokenizer

SHAPE = ModelShape(
    matrices=(Matrix("layers.0.q_proj", 8, 4), Matrix("layers.0.down_proj", 4, 6)),
    n_body=100,
    vocabulary=10,
    width=4,
    query_width=8,
    n_layers=3,
)


def _row(n_prompt: int, n_answer: int) -> Encoded:
    ids = tuple(range(n_prompt + n_answer))
    return Encoded(ids, (*[IGNORED] * n_prompt, *ids[n_prompt:]), n_prompt, 0)


def test_the_least_operations_of_a_token() -> None:
    """4 N + 4 s H + 6 P + 14 · (own length / 2) · query width · layers."""
    found = shapes.lora_flops_per_token(SHAPE, n_lora=7, supervised_share=0.5, mean_own_length=5)
    assert found == 4 * 100 + 4 * 0.5 * (10 * 4) + 6 * 7 + 14 * 2.5 * 8 * 3


def test_attention_counts_the_positions_before_a_token() -> None:
    """Its term is 14 for each pair of positions that causal attention looks at, whatever the rows:
    half of the token-weighted mean length is their number for a token, without the diagonal's half.
    """
    work = Work((), (_row(1, 2), _row(4, 5)))
    pairs = sum(place + 0.5 for row in work.rows for place in range(len(row.ids)))
    assert work.mean_own_length / 2 * work.n_tokens == pytest.approx(pairs)


def test_share_of_supervised_positions() -> None:
    """Labelled positions of all rows over all tokens."""
    assert Work((), (_row(1, 2), _row(4, 5))).supervised_share == 7 / 12


def test_parameters_of_an_adapter_by_name() -> None:
    """The rank · (inputs + outputs) for each matrix with one of the names."""
    assert shapes.lora_parameters(SHAPE, ["q_proj"], 2) == 2 * (8 + 4)
    assert shapes.lora_parameters(SHAPE, ["all-linear"], 2) == 2 * (8 + 4 + 4 + 6)


def test_an_unknown_name_is_no_adapter() -> None:
    """A misspelt target is an error, not an adapter of nothing."""
    with pytest.raises(ValueError, match="no matrix is named k_prj"):
        shapes.lora_parameters(SHAPE, ["q_proj", "k_prj"], 2)


@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), ("all-linear",)])
def test_the_shape_of_a_folder(models: Models, targets: tuple[str, ...]) -> None:
    """Read from the files alone: the body's weights are all but the embedding and the head, and
    an adapter has as many parameters as PEFT gives it.
    """
    folder = models.folder("llama")
    shape = shapes.read_shape(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    outside = {*model.get_input_embeddings().parameters(), *model.lm_head.parameters()}
    assert shape.n_body == sum(p.numel() for p in model.parameters() if p not in outside)
    assert (shape.vocabulary, shape.width) == tuple(model.lm_head.weight.shape)
    assert shape.query_width == model.model.layers[0].self_attn.q_proj.out_features
    assert shape.n_layers == len(model.model.layers)
    modules = "all-linear" if targets == ("all-linear",) else list(targets)
    tuned = get_peft_model(model, LoraConfig(r=3, target_modules=modules, task_type="CAUSAL_LM"))
    trained = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    assert shapes.lora_parameters(shape, targets, 3) == trained


def test_rows_that_are_too_long_are_not_drawn(models: Models, tmp_path: Path) -> None:
    """Only rows of at most `max_length` tokens are chosen, in the order of the file."""
    data = tmp_path / "data.jsonl"
    answers = ["short", "long " * 200, "brief", "small"]
    rows = [{"instruction": f"say {it[:5]}", "output": it} for it in answers]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    folder = models.folder("llama")
    work = shapes.choose_work(data, folder, n_rows=10, max_length=100, seed=0)
    assert [it.answer for it in work.examples] == ["short", "brief", "small"]
    assert len(shapes.choose_work(data, folder, 2, 100, seed=0).examples) == 2


def test_written_rows_are_read_as_they_were(models: Models, tmp_path: Path) -> None:
    """What is written for `fte train` gives the same ids again, and what is written for TRL is the
    same text: prompt and completion joined.
    """
    folder = models.folder("llama")
    examples = (
        Example("What is ls?", "It lists.", 1, "a", input="on Linux"),
        Example("And cd?", "It goes\nthere.", 2, "a"),
    )
    encoder = make_encoder(load_tokenizer(folder), "plain")
    work = Work(examples, tuple(encoder.encode_batch(examples)))
    work.write(tmp_path)
    again = shapes.choose_work(tmp_path / shapes.ROWS_FOR_FTE, folder, 9, 1024, seed=0)
    assert again.rows == work.rows
    lines = (tmp_path / shapes.ROWS_FOR_TRL).read_text(encoding="utf-8").splitlines()
    texts = [row["prompt"] + row["completion"] for row in map(json.loads, lines)]
    assert texts == [formatting_func(it) for it in examples]
