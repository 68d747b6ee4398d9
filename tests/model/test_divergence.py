"""Texts under base and tuned model: likelihoods and divergence against float64, in blocks."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from peft import PeftModel
from tiny import adapted, encoded_rows
from torch import Tensor

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.encoding.labels import IGNORED
from finetuning_exam.model import divergence as module
from finetuning_exam.model.divergence import compare_texts
from finetuning_exam.model.fast.path import ALL_PIECES, FastPath, choose_fast_path
from finetuning_exam.model.score import score_rows

ROWS = [
    Encoded(row.ids, (IGNORED, *row.ids[1:]), 0, 3)
    for row in encoded_rows((40, 5, 64, 2, 20, 97), seed=1)
]
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "scaled logits": ("granite", {"logits_scaling": 2.5}),
    "tied head": ("gemma3", {"tie_word_embeddings": True}),
    "capped logits": ("gemma3", {"final_logit_softcapping": 3.0}),
    "head with a bias": ("phi", {}),
    "other architecture": ("gpt2", {}),
}


def _exact(model: PeftModel, row: Encoded) -> tuple[float, float, float]:
    """Compute both NLLs and KL(base‖tuned) of a text by their definitions, in float64."""

    def log_probabilities() -> Tensor:
        logits: Tensor = model(input_ids=torch.tensor([row.ids]), use_cache=False).logits[0, :-1]
        return logits.double() - logits.double().logsumexp(dim=1, keepdim=True)

    targets = torch.tensor(row.ids[1:]).unsqueeze(1)
    with torch.no_grad():
        log_q = log_probabilities()
        with model.disable_adapter():
            log_p = log_probabilities()
    kl = (log_p.exp() * (log_p - log_q)).sum()
    return (
        float(-log_p.gather(1, targets).sum()),
        float(-log_q.gather(1, targets).sum()),
        float(kl),
    )


def _double(model: PeftModel) -> PeftModel:
    return deepcopy(model).double().eval()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("block", [9 * 512, 2**24])
@pytest.mark.parametrize("is_fast", [False, True], ids=["stock", "fast"])
def test_likelihoods_and_divergence_are_those_of_the_definition(
    monkeypatch: pytest.MonkeyPatch, case: str, block: int, is_fast: bool
) -> None:
    """Against an independent float64 computation to 1e-5, whatever the head and the blocks."""
    monkeypatch.setattr(module, "BLOCK_LOGITS", block)
    architecture, options = CASES[case]
    model = adapted(architecture, **options)
    pieces = frozenset(ALL_PIECES) if is_fast else frozenset()
    fast = choose_fast_path(model, 0, pieces)
    exact = [_exact(_double(model), row) for row in ROWS]
    found = compare_texts(fast, ROWS, 4)
    assert [it.kl / row.n_supervised for it, row in zip(found, ROWS, strict=True)] == pytest.approx(
        [kl / row.n_supervised for (_, _, kl), row in zip(exact, ROWS, strict=True)],
        rel=1e-5,
        abs=1e-5,
    )
    assert [it.base.nll for it in found] == pytest.approx([it for it, _, _ in exact], rel=1e-5)
    assert [it.tuned.nll for it in found] == pytest.approx([it for _, it, _ in exact], rel=1e-5)
    assert min(kl for _, _, kl in exact) > 0.01, "or this test shows nothing"


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_scores_are_those_of_the_exam(architecture: str) -> None:
    """The likelihoods are those of `score_rows`, at every batch size, and the mode stays."""
    model = adapted(architecture)
    fast = choose_fast_path(model, 0, frozenset(ALL_PIECES))
    tuned = [it.nll for it in score_rows(model, ROWS, fast.row_nll, 3)]
    with model.disable_adapter():
        base = [it.nll for it in score_rows(model, ROWS, fast.row_nll, 3)]
    for batch_size in (1, 4, 16):
        found = compare_texts(fast, ROWS, batch_size)
        assert [it.tuned.nll for it in found] == pytest.approx(tuned, rel=1e-5)
        assert [it.base.nll for it in found] == pytest.approx(base, rel=1e-5)
        assert {it.base.n_bytes for it in found} == {3}
    assert model.training
    assert compare_texts(fast, [], 4) == ()


def test_an_adapter_that_does_nothing_has_no_divergence() -> None:
    """With B = 0 the divergence is exactly zero, and both likelihoods are the same."""
    model = adapted()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.zero_()
    for fast in (
        FastPath(model, 0, frozenset()),
        choose_fast_path(model, 0, frozenset(ALL_PIECES)),
    ):
        for it in compare_texts(fast, ROWS, 4):
            assert it.kl == 0.0
            assert it.base == it.tuned


def test_no_more_logits_than_a_block_exist_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a text is, each tensor of log-probabilities has the size of a block at most."""
    monkeypatch.setattr(module, "BLOCK_LOGITS", 5 * 512)
    sizes: list[int] = []
    softmax = torch.log_softmax

    def watched(x: Tensor, dim: int) -> Tensor:
        sizes.append(x.numel())
        return softmax(x, dim=dim)

    monkeypatch.setattr(torch, "log_softmax", watched)
    for architecture, options in (("llama", {}), CASES["capped logits"]):
        sizes.clear()
        compare_texts(FastPath(adapted(architecture, **options), 0, frozenset()), ROWS, 4)
        assert max(sizes) == 5 * 512
