"""Passes of one token on a decoder's parameters: the logits of the model's own modules."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tiny import ARCHITECTURES, adapted
from torch import Tensor
from transformers import DynamicCache
from variants import VARIANTS

from finetuning_exam.model.fast.token_steps import TokenSteps, token_steps
from finetuning_exam.model.generation.cache import roomy_cache
from finetuning_exam.model.generation.side_by_side import adapter_on_first_rows

LENGTHS = (70, 3, 41, 70)
"""Real tokens of each row: longer and shorter than the windows of the variants."""
N_NEW = 5


@pytest.fixture(scope="module", params=VARIANTS)
def model(request: pytest.FixtureRequest) -> PeftModel:
    """Each variant in turn, in evaluation mode."""
    variant = VARIANTS[request.param]
    return adapted(variant.architecture, **variant.options).eval()


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    """As in generation."""
    with torch.inference_mode():
        yield


def _batch(model: PeftModel, lengths: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Left-padded ids and which are real: (rows, longest + N_NEW)."""
    width = max(lengths) + N_NEW
    ids = torch.randint(3, model.config.vocab_size, (len(lengths), width), generator=_seeded())
    is_real = torch.ones_like(ids)
    for row, length in enumerate(lengths):
        is_real[row, : width - N_NEW - length] = 0
    return ids, is_real


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(4)


def _own(model: PeftModel, ids: Tensor, is_real: Tensor, cache: DynamicCache) -> Tensor:
    """Logits after the last id, by the model's own modules, from all ids at once."""
    positions = (is_real.cumsum(dim=1) - 1).clamp(min=0)
    output = model.get_base_model()(
        input_ids=ids,
        attention_mask=is_real,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
    )
    logits: Tensor = output.logits[:, -1]
    return logits


@pytest.mark.parametrize("lengths", [LENGTHS, (70, 70), (9,)], ids=["padded", "equal", "one"])
@pytest.mark.parametrize("n_tuned", [0, 1, None], ids=["base", "one tuned", "tuned"])
def test_the_logits_are_the_models_own(
    model: PeftModel, lengths: tuple[int, ...], n_tuned: int | None
) -> None:
    """Token after token, whichever of the first rows are tuned."""
    n_tuned = len(lengths) if n_tuned is None else n_tuned
    ids, is_real = _batch(model, lengths)
    start = max(lengths)
    with adapter_on_first_rows(model) as tuned:
        steps = TokenSteps(model)
        cache = roomy_cache(model.get_base_model().config, keeps_all=True)
        tuned.announce(n_tuned, len(lengths), start)
        _own(model, ids[:, :start], is_real[:, :start], cache)
        for end in range(start + 1, start + N_NEW + 1):
            positions = is_real[:, :end].sum(dim=1) - 1
            padding = None if len(set(lengths)) == 1 else is_real[:, :end] == 0
            found = steps.next_logits(ids[:, end - 1], positions, cache, padding, n_tuned)
            tuned.announce(n_tuned, len(lengths), end)
            whole = roomy_cache(model.get_base_model().config, keeps_all=True)
            expected = _own(model, ids[:, :end], is_real[:, :end], whole)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_tuned_rows_differ_from_the_base(model: PeftModel) -> None:
    """The comparison above could find an adapter that is left out."""
    ids, is_real = _batch(model, (9,))
    with adapter_on_first_rows(model) as tuned:
        tuned.announce(0, 1, 9)
        cache = roomy_cache(model.get_base_model().config, keeps_all=True)
        _own(model, ids[:, :9], is_real[:, :9], cache)
        steps = TokenSteps(model)
        base = steps.next_logits(ids[:, 9], torch.tensor([9]), cache, None, 0)
        cache.crop(-1)
        tuned_one = steps.next_logits(ids[:, 9], torch.tensor([9]), cache, None, 1)
    assert not torch.allclose(base, tuned_one, rtol=1e-3)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_other_architectures_use_their_own_modules(architecture: str) -> None:
    """There are fast passes of exactly those that the decoder reads."""
    model = adapted(architecture)
    known = {variant.architecture for variant in VARIANTS.values()}
    assert (token_steps(model) is not None) == (architecture in known)


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(target_modules=["q_proj"], use_dora=True),
        LoraConfig(target_modules=["q_proj", "lm_head"]),
        LoraConfig(target_modules=["q_proj"], modules_to_save=["lm_head"]),
        LoraConfig(target_modules=["embed_tokens"]),
    ],
    ids=["dora", "head", "saved head", "embeddings"],
)
def test_other_adapters_use_their_own_modules(config: LoraConfig) -> None:
    """What is more than plain LoRA inside of the layers is left to PEFT."""
    base = adapted("llama").unload()
    assert token_steps(get_peft_model(base, config)) is None


def test_a_model_that_computes_something_else_is_noticed() -> None:
    """A model whose first logits differ from its own is left to its modules from then on."""
    model = adapted("llama").eval()
    steps = token_steps(model)
    assert steps is not None
    assert steps.is_trusted is None
    own = torch.zeros(1, 9) + torch.arange(9.0)
    assert not steps.compare(own + 0.1, own)
    assert token_steps(model) is None
    other = token_steps(adapted("llama"))
    assert other is not None
    assert other.compare(own + 1e-5, own)
    assert other.is_trusted
