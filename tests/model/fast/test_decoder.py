"""The decoder on packed rows: losses and adapter gradients of the stock forward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear as LoraLinear
from tiny import (
    ARCHITECTURES,
    Result,
    adapted,
    assert_same_result,
    encoded_rows,
    result_of,
    stock_result,
)
from torch import Tensor, nn
from variants import VARIANTS

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.encoding.labels import IGNORED
from finetuning_exam.model.fast.decoder import Decoder, read_projection
from finetuning_exam.model.fast.packing import pack
from finetuning_exam.model.fast.support import MODEL_TYPES
from finetuning_exam.model.likelihood import collate, supervised_nll
from finetuning_exam.settings import FastPiece

CPU = torch.device("cpu")
PIECES: tuple[FastPiece, ...] = ("attention", "lora", "elementwise", "loss")
ALL = frozenset(PIECES)
ROWS = encoded_rows((150, 5, 64, 20, 20, 97, 21, 2, 65, 140), seed=1)
"""Longer and shorter than a block and than the windows below; some of equal length."""


@dataclass(frozen=True)
class Subject:
    """A model of a variant in training mode, and what its own forward pass gives for `ROWS`."""

    model: PeftModel
    stock: Result


@pytest.fixture(scope="module", params=VARIANTS)
def subject(request: pytest.FixtureRequest) -> Subject:
    """Each variant in turn."""
    variant = VARIANTS[request.param]
    model = adapted(variant.architecture, **variant.options)
    return Subject(model, stock_result(model, ROWS))


def _row_nll(decoder: Decoder, rows: Sequence[Encoded] = ROWS) -> Tensor:
    batch = pack(rows, CPU)
    nll = decoder.head_nll(decoder.hidden(batch), batch.targets)
    return nll.new_zeros(len(rows)).index_add(0, batch.row_of_target, nll)


def test_every_architecture_is_compared() -> None:
    """There is a variant of every architecture that the decoder reads."""
    configs = [ARCHITECTURES[it.architecture].config(**it.options) for it in VARIANTS.values()]
    assert {config.model_type for config in configs} == set(MODEL_TYPES)


@pytest.mark.parametrize(
    "pieces",
    [ALL, *(frozenset({it}) for it in PIECES), frozenset()],
    ids=["all", *PIECES, "none"],
)
def test_losses_and_gradients_are_the_stock_ones(
    subject: Subject, pieces: frozenset[FastPiece]
) -> None:
    """With all pieces, each alone and none, every row's loss and every adapter's gradient equal
    those of the model's own forward pass.
    """
    decoder = Decoder(subject.model, pieces)
    assert_same_result(result_of(subject.model, lambda: _row_nll(decoder)), subject.stock)


@pytest.mark.parametrize("pieces", [ALL, frozenset()], ids=["all", "none"])
def test_checkpointing_changes_nothing(subject: Subject, pieces: frozenset[FastPiece]) -> None:
    """Layers computed again in the backward pass give the same losses and gradients."""
    decoder = Decoder(subject.model, pieces, checkpointing=True)
    assert_same_result(result_of(subject.model, lambda: _row_nll(decoder)), subject.stock)


@pytest.mark.parametrize("pieces", [ALL, frozenset()], ids=["all", "none"])
def test_the_adapter_off_is_the_base(subject: Subject, pieces: frozenset[FastPiece]) -> None:
    """With the adapter switched off the losses are the base's own, and they are other ones."""
    decoder = Decoder(subject.model, pieces)
    with torch.no_grad(), subject.model.disable_adapter():
        found = _row_nll(decoder)
        expected = supervised_nll(subject.model, collate(ROWS, 0))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    assert not torch.allclose(found, subject.stock.nll, rtol=1e-3)


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_dropout_does_nothing_in_evaluation(architecture: str) -> None:
    """An adapter with dropout gives the stock losses in evaluation mode, with all pieces on; in
    training mode it drops.
    """
    model = adapted(architecture, dropout=0.5).eval()
    decoder = Decoder(model, ALL)
    with torch.no_grad():
        expected = supervised_nll(model, collate(ROWS, 0))
        torch.testing.assert_close(_row_nll(decoder), expected, rtol=1e-5, atol=0)
        model.train()
        assert not torch.allclose(_row_nll(decoder), expected, rtol=1e-3)


def test_a_mode_or_an_adapter_changed_later_is_seen(subject: Subject) -> None:
    """The decoder keeps nothing of the parameters: weights written into the model count at once."""
    decoder = Decoder(subject.model, ALL)
    name = "base_model.model.model.layers.0.self_attn.v_proj.lora_B.default.weight"
    weight = dict(subject.model.named_parameters())[name]
    before = weight.detach().clone()
    with torch.no_grad():
        weight.mul_(3)
        found = _row_nll(decoder)
        expected = supervised_nll(subject.model, collate(ROWS, 0))
        weight.copy_(before)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    assert not torch.allclose(found, subject.stock.nll, rtol=1e-4)


@pytest.mark.parametrize(
    "targets", [("q_proj",), ("v_proj", "o_proj"), ("gate_proj", "down_proj")], ids="+".join
)
def test_some_modules_may_have_no_adapter(targets: tuple[str, ...]) -> None:
    """Where only some projections are adapted the losses and all gradients are still stock."""
    model = adapted(targets=targets)
    decoder = Decoder(model, ALL)
    expected = stock_result(model, ROWS)
    assert len(expected.gradients) == 2 * 2 * len(targets)
    assert_same_result(result_of(model, lambda: _row_nll(decoder)), expected)


@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_pytorch_tanh"])
def test_other_activations(activation: str) -> None:
    """A gate without a function of its own runs by the model's module."""
    model = adapted(hidden_act=activation)
    decoder = Decoder(model, ALL)
    assert_same_result(result_of(model, lambda: _row_nll(decoder)), stock_result(model, ROWS))


def test_a_model_without_an_adapter_has_the_stock_losses() -> None:
    """A plain model, never adapted, can be scored too."""
    model = adapted().unload()
    decoder = Decoder(model, ALL)
    with torch.inference_mode():
        expected = supervised_nll(model, collate(ROWS, 0))
        torch.testing.assert_close(_row_nll(decoder), expected, rtol=1e-5, atol=0)


def test_a_row_does_not_depend_on_its_batch() -> None:
    """A row has the same loss alone, and among others in any order."""
    decoder = Decoder(adapted(), ALL)
    with torch.no_grad():
        together = _row_nll(decoder)
        backwards = _row_nll(decoder, ROWS[::-1]).flip(0)
        alone = torch.cat([_row_nll(decoder, [row]) for row in ROWS])
    torch.testing.assert_close(backwards, together, rtol=1e-6, atol=0)
    torch.testing.assert_close(alone, together, rtol=2e-6, atol=0)


def test_a_row_without_labels_has_no_loss() -> None:
    """A row that supervises nothing has a loss of zero, and does not touch the row beside it."""
    decoder = Decoder(adapted(), ALL)
    silent = Encoded(ROWS[1].ids, (IGNORED,) * len(ROWS[1].ids), 0, 0)
    with torch.no_grad():
        found = _row_nll(decoder, [ROWS[0], silent]).tolist()
        alone = _row_nll(decoder, [ROWS[0]]).item()
        assert _row_nll(decoder, [silent]).tolist() == [0.0]
    assert found == pytest.approx([alone, 0.0], rel=1e-6)


def test_several_spans_are_supervised() -> None:
    """Rows supervised in several places, or everywhere, have the stock losses and gradients."""
    ids = ROWS[0].ids
    everywhere = Encoded(ids[:90], ids[:90], 0, 0)
    spans = Encoded(ids, tuple(t if at % 50 < 20 else IGNORED for at, t in enumerate(ids)), 0, 0)
    model = adapted()
    decoder = Decoder(model, ALL)
    rows = [everywhere, spans]
    found = result_of(model, lambda: _row_nll(decoder, rows))
    assert_same_result(found, stock_result(model, rows))


def test_the_head_sees_only_what_is_supervised() -> None:
    """Hidden states come for the predicting positions alone."""
    batch = pack(ROWS, CPU)
    with torch.no_grad():
        hidden = Decoder(adapted(), ALL).hidden(batch)
    assert hidden.shape == (len(batch.targets), 32)
    assert len(batch.targets) < len(batch.ids)


@pytest.mark.parametrize("first", [torch.inference_mode, torch.no_grad])
def test_scoring_first_does_not_hinder_training(
    first: Callable[[], AbstractContextManager[object]],
) -> None:
    """A decoder that has scored, in inference mode too, trains afterwards."""
    model = adapted()
    decoder = Decoder(model, ALL)
    with first():
        before = _row_nll(decoder).tolist()
    found = result_of(model, lambda: _row_nll(decoder))
    assert found.nll.tolist() == before
    assert_same_result(found, stock_result(model, ROWS))


def test_the_same_batch_gives_the_same_bits(subject: Subject) -> None:
    """Losses and gradients of two passes are identical to the last bit."""
    decoder = Decoder(subject.model, ALL)
    first, second = (result_of(subject.model, lambda: _row_nll(decoder)) for _ in range(2))
    assert torch.equal(first.nll, second.nll)
    assert all(torch.equal(first.gradients[n], second.gradients[n]) for n in first.gradients)


# What a module computes


def _linear(**options: object) -> LoraLinear:
    """A linear module with an adapter of these options."""
    holder = nn.Sequential(nn.Linear(6, 4))
    get_peft_model(holder, LoraConfig(r=2, target_modules=["0"], **options))
    return holder[0].train()


def test_a_plain_linear_module_is_read() -> None:
    """A linear module without an adapter is its weight and bias."""
    module = nn.Linear(6, 4)
    found = read_projection(module)
    assert found is not None
    assert found.weight is module.weight
    assert found.bias is module.bias
    assert found.rank == 0


def test_an_adapted_module_is_read() -> None:
    """An adapted module is its base and its adapter with PEFT's scale, also that of rsLoRA."""
    for options, scale in (
        ({"lora_alpha": 6}, 3.0),
        ({"lora_alpha": 6, "use_rslora": True}, 18**0.5),
    ):
        module = _linear(**options)
        found = read_projection(module)
        assert found is not None
        assert found.weight is module.base_layer.weight
        assert found.a is module.lora_A["default"].weight
        assert found.b is module.lora_B["default"].weight
        assert found.scale == pytest.approx(scale)


@pytest.mark.parametrize(
    "options", [{"lora_dropout": 0.1}, {"lora_bias": True}, {"use_dora": True}], ids=str
)
def test_what_is_more_than_an_adapter_is_left_to_its_module(options: dict[str, object]) -> None:
    """Dropout while training, a bias of the adapter and DoRA are not read."""
    assert read_projection(_linear(**options)) is None


def test_dropout_is_read_in_evaluation() -> None:
    """In evaluation mode an adapter with dropout is a plain one."""
    found = read_projection(_linear(lora_dropout=0.1).eval())
    assert found is not None
    assert found.rank == 2


def test_merged_and_doubled_adapters_are_left_to_their_module() -> None:
    """An adapter merged into the weights, or two at once, are not read."""
    merged = _linear()
    merged.merge()
    assert read_projection(merged) is None
    merged.unmerge()
    assert read_projection(merged) is not None
    merged.set_adapter([])
    assert read_projection(merged) is None


def test_a_disabled_adapter_is_left_out() -> None:
    """A module whose adapter is switched off is its base alone."""
    module = _linear()
    module.enable_adapters(False)
    found = read_projection(module)
    assert found is not None
    assert found.rank == 0


@pytest.mark.parametrize("module", [nn.Identity(), nn.Embedding(3, 4), nn.LazyLinear(3)])
def test_other_modules_are_left_alone(module: nn.Module) -> None:
    """A module that is no linear one, or a subclass of it, is not read."""
    assert read_projection(module) is None
