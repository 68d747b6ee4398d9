"""The pieces chosen for a model, the notes on the others, and results equal to stock."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from peft import PeftModel
from tiny import (
    ARCHITECTURES,
    adapted,
    assert_same_result,
    encoded_rows,
    result_of,
    stock_result,
)
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.errors import UsageError
from finetuning_exam.model.fast.path import (
    ALL_PIECES,
    FastPath,
    choose_fast_path,
    wanted_pieces,
)
from finetuning_exam.model.likelihood import collate, supervised_nll
from finetuning_exam.settings import FastPiece

ALL = frozenset(ALL_PIECES)
ROWS = encoded_rows((40, 5, 64, 20, 20, 97), seed=1)
KNOWN = ("llama", "qwen2", "qwen3", "gemma3", "mistral", "smollm3", "granite")
UNKNOWN = tuple(name for name in ARCHITECTURES if name not in KNOWN)
NO_INSIDE = "without attention, lora, elementwise: "
DIFFERS = "results differ from this model's own"


def _choose(model: PeftModel, pieces: frozenset[FastPiece] = ALL) -> FastPath:
    return choose_fast_path(model, 0, pieces)


def _assert_stock(path: FastPath) -> None:
    """Losses and gradients by the path are those of the model's own forward pass."""
    found = result_of(path.model, lambda: path.row_nll(ROWS))
    assert_same_result(found, stock_result(path.model, ROWS))


def test_weights_of_tokens_scale_their_gradients() -> None:
    """A row of weights gives the stock losses and gradients; weight 0 gives none at all."""
    path = _choose(adapted())
    weighted = [replace(row, weights=(0.0, 2.5) * 50) for row in ROWS]
    rows = [replace(row, weights=(row.weights or ())[: len(row.ids)]) for row in weighted]
    found = result_of(path.model, lambda: path.row_nll([*rows, ROWS[0]]))
    assert_same_result(found, stock_result(path.model, [*rows, ROWS[0]]))
    silent = [replace(row, weights=(0.0,) * len(row.ids)) for row in ROWS]
    assert path.row_nll(silent).tolist() == [0.0] * len(ROWS)


# What is asked for


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("all",), ALL),
        (("none",), frozenset()),
        ((), frozenset()),
        (("loss",), {"loss"}),
        (("rows", "lora", "rows"), {"rows", "lora"}),
    ],
)
def test_pieces_are_asked_for_by_name(names: tuple[str, ...], expected: frozenset[str]) -> None:
    """`all` and `none` select all and none of the pieces; other names select themselves."""
    assert wanted_pieces(names) == expected


@pytest.mark.parametrize(
    "names", [("all", "rows"), ("rows", "none"), ("none", "all")], ids=" ".join
)
def test_all_and_none_cannot_be_combined(names: tuple[str, ...]) -> None:
    """Combining `all` or `none` with another name is an error that lists the pieces."""
    with pytest.raises(UsageError) as caught:
        wanted_pieces(names)
    assert str(caught.value) == (
        f"--fast_path {' '.join(names)}: all and none cannot be combined with other names. "
        "Use all, none, or some of: rows, attention, lora, elementwise, loss."
    )


# What a model gets


@pytest.mark.parametrize("architecture", KNOWN)
def test_known_architectures_have_the_whole_path(architecture: str) -> None:
    """Llama, Qwen2, Qwen3, Gemma-3, Mistral, SmolLM-3 and Granite have every piece and no note,
    and stock losses and gradients.
    """
    path = _choose(adapted(architecture))
    assert path.notes == ()
    assert path.pieces == ALL
    assert path.decoder is not None
    _assert_stock(path)


@pytest.mark.parametrize("architecture", UNKNOWN)
def test_other_architectures_keep_their_own_layers(architecture: str) -> None:
    """Another architecture is named in a note and runs by its own layers; its loss is the fast
    one where the head has no bias, and losses and gradients are stock.
    """
    path = _choose(adapted(architecture).eval())  # GPT-2 and OPT have dropout of their own
    notes = [f"{NO_INSIDE}unsupported architecture {architecture}"]
    if architecture == "phi":
        notes.append("without loss: the output head is not a plain linear layer")
    assert path.notes == tuple(notes)
    assert path.decoder is None
    assert path.pieces == ({"rows"} if architecture == "phi" else {"rows", "loss"})
    _assert_stock(path)


def test_none_is_the_stock_forward_pass() -> None:
    """Without pieces losses are the stock ones to the last bit, and there are no notes."""
    model = adapted()
    path = _choose(model, frozenset())
    assert (path.pieces, path.notes, path.decoder) == (frozenset(), (), None)
    found, expected = result_of(model, lambda: path.row_nll(ROWS)), stock_result(model, ROWS)
    assert torch.equal(found.nll, expected.nll)
    assert all(torch.equal(found.gradients[n], g) for n, g in expected.gradients.items())


@pytest.mark.parametrize("piece", ALL_PIECES)
def test_each_piece_can_be_had_alone(piece: FastPiece) -> None:
    """A piece alone is on alone, and gives stock losses and gradients."""
    path = _choose(adapted(), frozenset({piece}))
    assert (path.pieces, path.notes) == (frozenset({piece}), ())
    _assert_stock(path)


def test_what_is_not_wanted_has_no_note() -> None:
    """Notes only mention pieces that were requested."""
    path = _choose(adapted("phi"), frozenset({"rows"}))
    assert (path.pieces, path.notes) == (frozenset({"rows"}), ())
    path = _choose(adapted("gpt2"), frozenset({"lora", "loss"}))
    assert path.notes == ("without lora: unsupported architecture gpt2",)
    assert path.pieces == {"loss"}


@pytest.mark.parametrize("pieces", [ALL, frozenset({"loss"})], ids=["all", "loss"])
def test_scaled_logits_are_stock(pieces: frozenset[FastPiece]) -> None:
    """Granite, which divides its logits, has stock losses with all pieces and with the loss alone,
    which may step aside but not be wrong.
    """
    path = _choose(adapted("granite", logits_scaling=2.5), pieces)
    assert path.pieces == pieces or path.notes
    _assert_stock(path)


@pytest.mark.parametrize("pieces", [ALL, frozenset({"loss"})], ids=["all", "loss"])
def test_capped_logits_have_a_stock_loss(pieces: frozenset[FastPiece]) -> None:
    """Logits that are capped are left to the model."""
    path = _choose(adapted("gemma3", final_logit_softcapping=3.0), pieces)
    assert "loss" not in path.pieces
    assert path.notes[0] == "without loss: the output head is not a plain linear layer"
    _assert_stock(path)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"attn_logit_softcapping": 2.0}, "attention scores are soft-capped"),
        ({"attention_dropout": 0.1}, "attention has dropout"),
        ({"use_bidirectional_attention": True}, "attention is not causal"),
    ],
)
def test_unusual_attention_is_left_to_the_model(options: dict[str, Any], reason: str) -> None:
    """Capped scores, dropout in attention, and attention in both directions: the decoder steps
    aside and says which it is.
    """
    path = _choose(adapted("gemma3", **options))
    assert path.notes == (NO_INSIDE + reason,)
    assert path.pieces == {"rows", "loss"}


@pytest.mark.parametrize("is_training", [True, False])
def test_dropout_in_attention_stays(is_training: bool) -> None:
    """A base with dropout in attention has its own losses, dropped alike while training."""
    model = adapted(attention_dropout=0.3).train(is_training)
    path = _choose(model)
    assert model.training == is_training
    with torch.no_grad():
        torch.manual_seed(5)
        expected = supervised_nll(model, collate(ROWS, 0))
        torch.manual_seed(5)
        torch.testing.assert_close(path.row_nll(ROWS), expected, rtol=1e-5, atol=0)
        torch.manual_seed(6)
        assert torch.equal(expected, supervised_nll(model, collate(ROWS, 0))) != is_training


def test_dropout_of_adapters_leaves_the_rest_on() -> None:
    """Adapters with dropout run by their own modules; every other piece is on."""
    model = adapted(dropout=0.3)
    path = _choose(model)
    assert path.notes == ("without lora: the adapter has dropout",)
    assert path.pieces == ALL - {"lora"}
    model.eval()
    _assert_stock(path)
    expected = path.row_nll(ROWS)
    model.train()
    torch.manual_seed(1)
    found = path.row_nll(ROWS)
    assert not torch.allclose(found, expected, rtol=1e-3)
    torch.manual_seed(1)
    assert torch.equal(path.row_nll(ROWS), found)


def test_other_devices_have_no_fast_path() -> None:
    """A model that is not on the CPU runs as it is, and the note names its device."""
    path = _choose(adapted().to("meta"))
    assert path.notes == ("off: only for CPUs, not meta",)
    assert (path.pieces, path.decoder) == (frozenset(), None)
    assert _choose(adapted().to("meta"), frozenset()).notes == ()


def _double_mlp(whole: LlamaForCausalLM) -> None:
    mlp = whole.model.layers[1].mlp
    stock = mlp.forward
    mlp.forward = lambda x: 2 * stock(x)


def _other_activation(whole: LlamaForCausalLM) -> None:
    whole.model.layers[0].mlp.act_fn = nn.Tanh()


def _without_a_norm(whole: LlamaForCausalLM) -> None:
    """As a model that keeps a known type's name and gives its norms another shape."""
    for layer in whole.model.layers:
        layer.pre_norm, layer.input_layernorm = layer.input_layernorm, nn.Identity()


def _other_window(whole: LlamaForCausalLM) -> None:
    """Attention that sees other tokens than its type says."""
    attention = whole.model.layers[0].self_attn
    stock = attention.forward

    def forward(*args: object, attention_mask: Tensor, **named: object) -> object:
        length = attention_mask.shape[-1]
        narrow = torch.ones(length, length, dtype=torch.bool).tril().triu(-2)
        return stock(*args, attention_mask=narrow.expand_as(attention_mask), **named)

    attention.forward = forward


@pytest.mark.parametrize(
    "change",
    [_double_mlp, _other_activation, _without_a_norm, _other_window],
    ids=lambda it: it.__name__.strip("_"),
)
def test_a_model_that_is_not_what_its_type_says(change: Callable[[LlamaForCausalLM], None]) -> None:
    """A model of a known type that computes something else is found out by its own forward pass:
    the decoder steps aside with a note, the loss stays, and all results are the model's own.
    """
    model = adapted(attn_implementation="eager")
    before = stock_result(model, ROWS)
    change(model.get_base_model())
    path = _choose(model)
    assert path.notes == (NO_INSIDE + DIFFERS,)
    assert path.pieces == {"rows", "loss"}
    _assert_stock(path)
    assert not torch.allclose(stock_result(model, ROWS).nll, before.nll, rtol=1e-3)


def test_a_head_that_is_not_what_it_says() -> None:
    """Where logits are changed after the head, decoder and loss step aside, one after the other."""
    model = adapted()
    whole = model.get_base_model()
    whole.lm_head.register_forward_hook(lambda module, inputs, output: output * 2)
    path = _choose(model)
    assert path.notes == (NO_INSIDE + DIFFERS, "without loss: " + DIFFERS)
    assert (path.pieces, path.decoder) == (frozenset({"rows"}), None)
    _assert_stock(path)


def test_an_adapted_head_is_not_plain() -> None:
    """A head with an adapter of its own is left to the model; the layers are fast all the same."""
    path = _choose(adapted(targets=("q_proj", "lm_head")))
    assert path.notes == ("without loss: the output head is not a plain linear layer",)
    assert path.pieces == ALL - {"loss"}
    _assert_stock(path)


# What choosing leaves behind


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("is_training", [True, False])
def test_choosing_leaves_no_trace(architecture: str, is_training: bool) -> None:
    """Choosing keeps the model's mode, its weights and gradients, and the random state."""
    model = adapted(architecture, dropout=0.1).train(is_training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    _choose(model)
    assert model.training == is_training
    assert torch.equal(torch.get_rng_state(), state)
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "phi"])
@pytest.mark.parametrize("checkpointing", [True, False])
def test_scoring_before_training_is_allowed(architecture: str, checkpointing: bool) -> None:
    """A path that scored in inference mode trains afterwards, with checkpointing and without."""
    model = adapted(architecture).eval()  # GPT-2 has dropout of its own
    path = choose_fast_path(model, 0, ALL, checkpointing=checkpointing)
    with torch.inference_mode():
        path.row_nll(ROWS)
    _assert_stock(path)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "phi"])
def test_the_adapter_off_is_the_base(architecture: str) -> None:
    """With the adapter off a path gives the base's likelihoods, whatever its pieces."""
    model = adapted(architecture).eval()  # GPT-2 has dropout of its own
    path = _choose(model)
    with torch.no_grad():
        tuned = path.row_nll(ROWS)
        with model.disable_adapter():
            found = path.row_nll(ROWS)
            expected = supervised_nll(model, collate(ROWS, 0))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    assert not torch.allclose(found, tuned, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_the_stock_one_but_for_rounding(dtype: torch.dtype) -> None:
    """A base in half precision gets the path too, with losses as near to those of the same
    weights in float32 as the stock ones, or nearer: the sums over layers are kept in float32.
    """
    draw = random.Random(1)
    drawn = [tuple(draw.randrange(60) for _ in range(draw.randrange(5, 60))) for _ in range(300)]
    rows = [Encoded(ids, ids, 0, 0) for ids in drawn]
    model = adapted().to(dtype)
    with torch.no_grad():
        expected = supervised_nll(model.float(), collate(rows, 0))
        model.to(dtype)
        stock = supervised_nll(model, collate(rows, 0))
        path = _choose(model)
        found = path.row_nll(rows)
    assert path.notes == ()
    assert found.dtype == torch.float32
    assert (found - expected).norm() < 1.1 * (stock - expected).norm()
