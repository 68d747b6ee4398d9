"""End-to-end tests of every architecture: load, adapt, train, save, load again, answer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tiny import ARCHITECTURES, EXPERTS, Models, Run, brisk, logits_of, rows, run_training

from finetuning_exam.errors import UsageError
from finetuning_exam.model.adapter import (
    adapted_modules,
    add_adapter,
    base_and_tuned,
    load_adapter,
    lora_config,
)
from finetuning_exam.model.device import choose_compute
from finetuning_exam.model.generation.decoding import Decoding
from finetuning_exam.model.generation.generate import generate_answers
from finetuning_exam.model.likelihood import stock_nll
from finetuning_exam.model.load import Base, load_base
from finetuning_exam.model.score import score_rows
from finetuning_exam.model.targets import target_names
from finetuning_exam.training.run import save_tokenizer

CPU = choose_compute("cpu", "float32")
QUESTIONS = rows(5)
ALL = ARCHITECTURES | EXPERTS


@dataclass(frozen=True)
class Journey:
    """One architecture after its training, and loaded again from its folder."""

    architecture: str
    run: Run
    reloaded: PeftModel
    fresh: Base


@pytest.fixture(scope="module", params=ALL)
def journey(
    request: pytest.FixtureRequest, models: Models, tmp_path_factory: pytest.TempPathFactory
) -> Journey:
    """A training of four steps for each architecture."""
    model = models.folder(request.param)
    run = run_training(brisk(model), tmp_path_factory.mktemp(request.param), rows(12))
    reloaded = load_adapter(load_base(str(model), CPU), run.folder)
    return Journey(request.param, run, reloaded, load_base(str(model), CPU))


def _ids(journey: Journey) -> tuple[int, ...]:
    return journey.run.prepared.rows.train[0].ids


def test_all_linear_adapts_the_expected_modules(journey: Journey) -> None:
    """`all-linear` adapts every linear module of both layers, and never the output head."""
    model = journey.run.prepared.model
    assert adapted_modules(model) == ALL[journey.architecture].n_modules
    head = model.get_base_model().get_output_embeddings()
    assert isinstance(head, torch.nn.Linear)
    assert not hasattr(head, "lora_A")


def test_every_adapted_module_was_trained(journey: Journey) -> None:
    """After training no `lora_B` matrix is still zero."""
    state = load_file(journey.run.folder / "adapter_model.safetensors")
    b_matrices = {name: tensor for name, tensor in state.items() if "lora_B" in name}
    assert len(b_matrices) == ALL[journey.architecture].n_modules
    assert [name for name, tensor in b_matrices.items() if not tensor.any()] == []


def test_training_leaves_the_base_alone(journey: Journey) -> None:
    """After training every weight of the base is bit for bit what its folder holds."""
    trained = {
        name.replace(".base_layer", ""): tensor
        for name, tensor in journey.run.prepared.model.get_base_model().state_dict().items()
        if "lora_" not in name
    }
    fresh = journey.fresh.model.state_dict()
    assert trained.keys() == fresh.keys()
    assert [name for name in fresh if not torch.equal(trained[name], fresh[name])] == []


def test_a_loaded_adapter_is_the_one_that_was_trained(journey: Journey) -> None:
    """The logits of the adapter loaded from its folder equal those of the one in memory."""
    trained = logits_of(journey.run.prepared.model, _ids(journey))
    torch.testing.assert_close(
        logits_of(journey.reloaded, _ids(journey)), trained, atol=1e-6, rtol=0
    )


def test_the_adapter_off_is_the_base(journey: Journey) -> None:
    """With the adapter off the logits are the fresh base's; with it on they are not."""
    ids = _ids(journey)
    fresh = logits_of(journey.fresh.model, ids)
    with journey.reloaded.disable_adapter():
        assert torch.equal(logits_of(journey.reloaded, ids), fresh)
    assert not torch.allclose(logits_of(journey.reloaded, ids), fresh, atol=1e-2)


def test_the_likelihood_of_a_row_does_not_depend_on_its_batch(journey: Journey) -> None:
    """A row has the same score alone and among longer rows."""
    prepared = journey.run.prepared
    row_nll = stock_nll(journey.reloaded, 0)
    alone = score_rows(journey.reloaded, prepared.rows.train, row_nll, 1)
    together = score_rows(journey.reloaded, prepared.rows.train, row_nll, 12)
    assert len({len(row.ids) for row in prepared.rows.train}) > 3
    assert [s.nll for s in together] == pytest.approx([s.nll for s in alone], rel=2e-6)


def test_the_path_it_was_trained_by_has_the_stock_likelihood(journey: Journey) -> None:
    """After training the path that the run chose gives the trained rows, with the adapter on and
    off, the likelihoods that the stock forward pass gives them in a model loaded again.
    """
    prepared = journey.run.prepared
    by_path, by_stock = (
        base_and_tuned(model, partial(score_rows, model, prepared.rows.train, nll, 12))
        for model, nll in (
            (prepared.model, prepared.fast.row_nll),
            (journey.reloaded, stock_nll(journey.reloaded, 0)),
        )
    )
    for ours, stock in zip(by_path, by_stock, strict=True):
        assert [s.nll for s in ours] == pytest.approx([s.nll for s in stock], rel=1e-5)
    assert by_path[0] != by_path[1]


def test_batched_answers_are_those_of_a_plain_greedy_loop(journey: Journey) -> None:
    """A left-padded batch with a cache answers what a loop of argmax over one row answers, and
    every answer ends at a stop id or at `max_new_tokens`.
    """
    encoder = journey.run.prepared.rows.encoder
    prompts = [encoder.prompt_ids(example) for example in QUESTIONS]
    prompts[0] = prompts[0][-3:]  # much shorter than its batch
    tokenizer = journey.fresh.tokenizer
    decoding = Decoding(max_new_tokens=6, stop_ids=encoder.stop_ids, pad_id=0)
    answers = generate_answers(journey.reloaded, tokenizer, prompts, decoding, 5)
    for prompt, answer in zip(prompts, answers, strict=True):
        new = _greedy(journey.reloaded, prompt, 6, encoder.stop_ids)
        stopped = new[-1] in encoder.stop_ids
        assert answer.stopped == stopped
        kept = new[:-1] if stopped else new
        assert answer.text == tokenizer.decode(kept, skip_special_tokens=True).strip()


def _greedy(
    model: PeftModel, prompt: tuple[int, ...], max_new_tokens: int, stop_ids: tuple[int, ...]
) -> list[int]:
    new: list[int] = []
    while len(new) < max_new_tokens and not (new and new[-1] in stop_ids):
        new.append(int(logits_of(model, [*prompt, *new])[-1].argmax()))
    return new


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma3"])
def test_adapter_size_follows_the_formula(models: Models, architecture: str) -> None:
    """With tied embeddings an adapter has Σ r·(in + out) parameters: the embedding has no part."""
    options: dict[str, Any] = {} if architecture == "gpt2" else {"tie_word_embeddings": True}
    base = load_base(str(models.folder(architecture, **options)), CPU)
    shapes = [
        (module.weight.shape[0], module.weight.shape[1])
        for name, module in base.model.named_modules()
        if type(module).__name__ in ("Linear", "Conv1D") and name != "lm_head"
    ]
    assert base.model.get_output_embeddings().weight is base.model.get_input_embeddings().weight
    model = add_adapter(base, lora_config(3, 6, 0.0, ("all-linear",)), seed=0)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == sum(3 * (n_in + n_out) for n_in, n_out in shapes)


@pytest.mark.parametrize(
    ("architecture", "targets", "n_modules"),
    [
        ("llama", ("q_proj", "v_proj"), 4),
        ("llama", ("q_proj", "k_proj", "v_proj", "o_proj"), 8),
        ("gpt2", ("c_attn",), 2),
        ("gpt2", ("c_proj",), 4),  # one in the attention and one in the MLP
        ("phi3", ("qkv_proj", "o_proj"), 4),
        ("gpt_neox", ("query_key_value",), 2),
    ],
)
def test_named_targets_are_adapted_and_no_others(
    models: Models, architecture: str, targets: tuple[str, ...], n_modules: int
) -> None:
    """Named modules get an adapter in every layer, and no other module does."""
    base = load_base(str(models.folder(architecture)), CPU)
    model = add_adapter(base, lora_config(2, 4, 0.0, targets), seed=0)
    assert adapted_modules(model) == n_modules
    adapted = {n.split(".")[-3] for n, _ in model.named_modules() if n.endswith("lora_A.default")}
    assert adapted == set(targets)


def test_a_wrong_target_name_is_reported_with_the_right_ones(models: Models) -> None:
    """An unknown module name is an error that lists the available names."""
    folder = models.folder("gpt2")
    base = load_base(str(folder), CPU)
    with pytest.raises(UsageError) as caught:
        add_adapter(base, lora_config(2, 4, 0.0, ("c_attn", "q_proj")), seed=0)
    assert str(caught.value) == (
        f"--lora_target_modules: {folder} has no module q_proj. "
        "Available modules: c_attn, c_fc, c_proj."
    )
    assert caught.value.exit_code == 2


def test_target_names_leave_out_the_head(models: Models) -> None:
    """The names on offer are those of the layers, without the output head."""
    base = load_base(str(models.folder("llama")), CPU)
    assert target_names(base.model) == (
        "down_proj",
        "gate_proj",
        "k_proj",
        "o_proj",
        "q_proj",
        "up_proj",
        "v_proj",
    )


def test_a_module_that_cannot_be_adapted_is_a_user_error(models: Models) -> None:
    """The name of a non-linear module, such as a norm, is an error without a traceback."""
    base = load_base(str(models.folder("llama")), CPU)
    with pytest.raises(UsageError, match="--lora_target_modules"):
        add_adapter(base, lora_config(2, 4, 0.0, ("input_layernorm",)), seed=0)


def test_folder_holds_what_a_run_promises(journey: Journey) -> None:
    """The folder of a run contains the adapter, its config and the tokenizer."""
    save_tokenizer(journey.run.prepared, journey.run.folder)
    names = {path.name for path in Path(journey.run.folder).iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json"} <= names
