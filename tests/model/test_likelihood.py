"""The likelihood of supervised tokens: one number per row, regardless of its batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from tiny import END, Models, logits_of, rows

from finetuning_exam.data.encoding.encoder import Encoded, make_encoder
from finetuning_exam.data.encoding.labels import IGNORED, LossOn
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.model.adapter import add_adapter, lora_config
from finetuning_exam.model.device import choose_compute
from finetuning_exam.model.fast.path import ALL_PIECES, choose_fast_path
from finetuning_exam.model.likelihood import Batch, collate, stock_nll, supervised_nll
from finetuning_exam.model.load import Base, load_base
from finetuning_exam.model.score import Score, score_rows
from finetuning_exam.model.tokenizer import pad_token_id

CPU = choose_compute("cpu", "float32")


@pytest.fixture(scope="module")
def base(models: Models) -> Base:
    """A llama with random weights."""
    return load_base(str(models.folder()), CPU)


@pytest.fixture(scope="module")
def encoded(base: Base) -> tuple[Encoded, ...]:
    """Sixteen rows of unequal lengths, prompts masked."""
    encoder = make_encoder(base.tokenizer, "plain")
    return tuple(encoder.encode(example) for example in rows(16))


class WithoutLogitsToKeep(torch.nn.Module):
    """A model whose forward pass gives all logits and cannot be asked for fewer."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, use_cache: bool
    ) -> SimpleNamespace:
        """All logits: (rows, length, vocabulary)."""
        output = self.inner(input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache)
        return SimpleNamespace(logits=output.logits)


def _scores(
    model: torch.nn.Module, rows: Sequence[Encoded], batch_size: int, pad_id: int = 0
) -> tuple[Score, ...]:
    """Scores by the stock forward pass."""
    return score_rows(model, rows, stock_nll(model, pad_id), batch_size)


def _independent_nll(model: torch.nn.Module, row: Encoded) -> float:
    """Summed in float64 from the logits of the row alone, position by position."""
    logits = logits_of(model, row.ids).double().numpy()
    total = 0.0
    for position, label in enumerate(row.labels):
        if label != IGNORED:
            scores = logits[position - 1]
            weight = row.weights[position] if row.weights else 1.0
            total += weight * float(logsumexp(scores) - scores[label])
    return total


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "qwen3", "gpt_neox", "bloom"])
@pytest.mark.parametrize("keeps_logits", [True, False])
def test_nll_equals_an_independent_float64_computation(
    models: Models, architecture: str, keeps_logits: bool
) -> None:
    """Rows in one padded batch have the NLL that plain logits of each row alone give in float64,
    whether the architecture can compute logits of some positions only or not.
    """
    base = load_base(str(models.folder(architecture)), CPU)
    encoder = make_encoder(base.tokenizer, "plain")
    batch_rows = [encoder.encode(example) for example in rows(5)]
    model = base.model if keeps_logits else WithoutLogitsToKeep(base.model)
    with torch.inference_mode():
        found = supervised_nll(model, collate(batch_rows, 0))
    assert found.shape == (5,)
    expected = [_independent_nll(base.model, row) for row in batch_rows]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


TURNS = (Turn("user", "Is it?"), Turn("assistant", "It is.", 0.25), Turn("user", "Was it?"))
WEIGHTED = Example(
    "Will it be?", "It will.", 1, "d.jsonl", weight=3, earlier=(*TURNS, Turn("assistant", "No.", 0))
)


@pytest.mark.parametrize("loss_on", ["answers", "everything"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_weights_are_factors_of_the_loss(
    models: Models, architecture: str, loss_on: LossOn
) -> None:
    """Each answer's terms are multiplied by its weight, by both paths; beside rows without one."""
    base = load_base(str(models.folder(architecture)), CPU)
    encoder = make_encoder(base.tokenizer, "plain", loss_on=loss_on)
    batch_rows = [encoder.encode(it) for it in (WEIGHTED, *rows(2))]
    assert batch_rows[0].weights is not None
    expected = [_independent_nll(base.model, row) for row in batch_rows]
    model = add_adapter(base, lora_config(4, 8, 0.0, ("all-linear",)), seed=0).eval()
    fast = choose_fast_path(model, 0, frozenset(ALL_PIECES))
    with torch.inference_mode():
        assert fast.row_nll(batch_rows).tolist() == pytest.approx(expected, rel=1e-5)
        stock = supervised_nll(model, collate(batch_rows, 0))
    assert stock.tolist() == pytest.approx(expected, rel=1e-5)


def test_an_exam_has_no_weights(base: Base) -> None:
    """Only the last answer is scored, and each example counts the same."""
    encoder = make_encoder(base.tokenizer, "plain")
    row = encoder.encode(WEIGHTED)
    assert row.weights is None
    assert row == encoder.encode(replace(WEIGHTED, weight=1))


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gpt2", "phi"])
def test_the_fast_path_has_the_independent_nll_too(models: Models, architecture: str) -> None:
    """By the fast path, as far as an architecture has it, rows have the NLL that plain logits of
    each row alone give in float64.
    """
    base = load_base(str(models.folder(architecture)), CPU)
    encoder = make_encoder(base.tokenizer, "plain")
    batch_rows = [encoder.encode(example) for example in rows(5)]
    expected = [_independent_nll(base.model, row) for row in batch_rows]
    model = add_adapter(base, lora_config(4, 8, 0.0, ("all-linear",)), seed=0)
    fast = choose_fast_path(model, 0, frozenset(ALL_PIECES))
    scores = score_rows(model, batch_rows, fast.row_nll, 5)
    assert [score.nll for score in scores] == pytest.approx(expected, rel=1e-5)


def test_stock_nll_pads_and_sums(base: Base, encoded: tuple[Encoded, ...]) -> None:
    """`stock_nll` is `supervised_nll` of the padded rows, in the order given."""
    with torch.inference_mode():
        found = stock_nll(base.model, 7)(encoded[:5])
        expected = supervised_nll(base.model, collate(encoded[:5], 7))
    assert torch.equal(found, expected)
    assert found.shape == (5,)
    assert found.dtype == torch.float32


def test_prompt_labels_count_when_they_are_supervised(base: Base) -> None:
    """With the whole row supervised the NLL is that of every token but the first."""
    encoder = make_encoder(base.tokenizer, "plain", loss_on="everything")
    row = encoder.encode(rows(1)[0])
    assert row.n_supervised == len(row.ids) - 1
    with torch.inference_mode():
        found = supervised_nll(base.model, collate([row], 0)).item()
    assert found == pytest.approx(_independent_nll(base.model, row), rel=1e-5)


def test_only_supervised_positions_reach_the_output_head(base: Base) -> None:
    """The head computes as many positions as the batch has columns with a label, not the prompt."""
    encoder = make_encoder(base.tokenizer, "plain")
    row = encoder.encode(rows(1)[0])
    seen: list[int] = []
    hook = base.model.lm_head.register_forward_hook(
        lambda module, inputs, output: seen.append(output.shape[1])
    )
    with torch.inference_mode():
        supervised_nll(base.model, collate([row], 0))
    hook.remove()
    assert seen == [row.n_supervised]
    assert row.n_supervised < len(row.ids)


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_scores_do_not_depend_on_the_batch_size(
    base: Base, encoded: tuple[Encoded, ...], batch_size: int
) -> None:
    """Scores come in the order of the rows and are the same at every batch size."""
    expected = [_independent_nll(base.model, row) for row in encoded]
    scores = _scores(base.model, encoded, batch_size)
    assert [score.nll for score in scores] == pytest.approx(expected, rel=1e-5)
    assert [score.n_tokens for score in scores] == [row.n_supervised for row in encoded]
    assert [score.n_bytes for score in scores] == [row.answer_bytes for row in encoded]


def test_the_padding_token_makes_no_difference(base: Base, encoded: tuple[Encoded, ...]) -> None:
    """Which id fills a batch changes no score: not even the end token's own."""
    end = base.tokenizer.eos_token_id
    with_end = [score.nll for score in _scores(base.model, encoded, 16, end)]
    with_other = [score.nll for score in _scores(base.model, encoded, 16, 77)]
    assert with_end == with_other


def test_the_end_label_survives_padding_with_the_end_token(
    base: Base, encoded: tuple[Encoded, ...]
) -> None:
    """A tokenizer without a pad token pads with the end token, and the real end stays a label."""
    assert base.tokenizer.pad_token_id is None
    pad = pad_token_id(base.tokenizer)
    assert pad == base.tokenizer.convert_tokens_to_ids(END)
    batch = collate(encoded, pad)
    for index, row in enumerate(encoded):
        last = len(row.ids) - 1
        assert batch.labels[index, last] == pad
        assert batch.attention[index, last] == 1
        assert (batch.labels[index, last + 1 :] == IGNORED).all()


def test_a_pad_token_of_its_own_is_used(models: Models) -> None:
    """A tokenizer with a pad token pads with it."""
    base = load_base(str(models.folder(text="padded")), CPU)
    assert pad_token_id(base.tokenizer) == base.tokenizer.pad_token_id
    assert base.tokenizer.pad_token_id != base.tokenizer.eos_token_id


def test_dropout_is_off_while_scoring(models: Models) -> None:
    """Scoring a model in training mode gives the scores of evaluation mode, twice the same, and
    leaves the mode as it was.
    """
    base = load_base(str(models.folder()), CPU)
    model = add_adapter(base, lora_config(4, 64, 0.5, ("all-linear",)), seed=0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    encoder = make_encoder(base.tokenizer, "plain")
    batch_rows = [encoder.encode(example) for example in rows(4)]
    model.eval()
    expected = _scores(model, batch_rows, 2)
    assert not model.training
    model.train()
    assert _scores(model, batch_rows, 2) == expected
    assert _scores(model, batch_rows, 2) == expected
    assert model.training
    with torch.inference_mode():  # in training mode dropout does change the loss
        noisy = supervised_nll(model, collate(batch_rows, 0)).tolist()
    assert noisy != pytest.approx([score.nll for score in expected], rel=1e-3)


def test_scores_are_repeated_exactly(base: Base, encoded: tuple[Encoded, ...]) -> None:
    """Two scorings of the same rows are identical to the last bit."""
    assert _scores(base.model, encoded, 3) == _scores(base.model, encoded, 3)


def test_no_rows_have_no_scores(base: Base) -> None:
    """Scoring nothing gives nothing."""
    assert _scores(base.model, [], 4) == ()


def test_nll_per_token_is_the_sum_over_the_count(base: Base, encoded: tuple[Encoded, ...]) -> None:
    """Nats per token are the row's nats over its supervised tokens, end token included."""
    score = _scores(base.model, encoded[:1], 1)[0]
    assert score.nll_per_token == score.nll / encoded[0].n_supervised
    assert encoded[0].n_supervised == len(encoded[0].ids) - encoded[0].prompt_length


_ROWS = st.lists(st.lists(st.integers(0, 99), min_size=2, max_size=12), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(ids=_ROWS, pad=st.integers(0, 99), masked=st.integers(1, 11))
def test_collation_keeps_every_row(ids: list[list[int]], pad: int, masked: int) -> None:
    """Under its attention mask a batch holds exactly the rows; no padding is supervised."""
    batch_rows = [
        Encoded(
            tuple(row),
            tuple(IGNORED if i < min(masked, len(row) - 1) else t for i, t in enumerate(row)),
            0,
            0,
        )
        for row in ids
    ]
    batch = collate(batch_rows, pad)
    assert batch.ids.shape == batch.labels.shape == batch.attention.shape
    assert batch.ids.shape == (len(ids), max(map(len, ids)))
    for index, row in enumerate(batch_rows):
        real = batch.attention[index].bool()
        assert tuple(batch.ids[index][real].tolist()) == row.ids
        assert tuple(batch.labels[index][real].tolist()) == row.labels
        assert (batch.labels[index][~real] == IGNORED).all()


def test_a_row_without_labels_has_no_loss_of_its_own(
    base: Base, encoded: tuple[Encoded, ...]
) -> None:
    """A row without supervised tokens scores 0 and does not touch the row beside it."""
    silent = replace(encoded[1], labels=(IGNORED,) * len(encoded[1].ids))
    with torch.inference_mode():
        both = supervised_nll(base.model, collate([encoded[0], silent], 0)).tolist()
    assert both[1] == 0.0
    assert both[0] == pytest.approx(_independent_nll(base.model, encoded[0]), rel=1e-5)


def test_logits_are_summed_in_float32(base: Base, encoded: tuple[Encoded, ...]) -> None:
    """Log-softmax of a bfloat16 model is taken in float32: its NLL is that of its own logits."""

    class Bfloat16Logits(WithoutLogitsToKeep):
        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor, use_cache: bool
        ) -> SimpleNamespace:
            """Logits rounded to bfloat16."""
            output = super().forward(input_ids, attention_mask, use_cache)
            return SimpleNamespace(logits=output.logits.bfloat16())

    row = encoded[0]
    with torch.inference_mode():
        nll = supervised_nll(Bfloat16Logits(base.model), collate([row], 0))
    rounded = logits_of(base.model, row.ids).bfloat16().double().numpy()
    kept = [(rounded[i - 1], label) for i, label in enumerate(row.labels) if label != IGNORED]
    expected = sum(float(logsumexp(scores) - scores[label]) for scores, label in kept)
    assert nll.dtype == torch.float32
    assert nll.item() == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(expected)


def test_a_batch_moves_whole(encoded: tuple[Encoded, ...]) -> None:
    """`Batch.to` moves ids, labels and attention together."""
    moved = collate(encoded[:2], 0).to(torch.device("meta"))
    assert isinstance(moved, Batch)
    assert {t.device.type for t in (moved.ids, moved.labels, moved.attention)} == {"meta"}
