"""The training loss and its gradients equal those of the stock trainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from safetensors.torch import load_file
from tiny import BRISK, Models, brisk, ignore, rows, run_training
from trainings import BY_BOTH, FastPieces, job_of, plan_of
from trl import SFTTrainer

from finetuning_exam.data.encoding.encoder import Encoded, make_encoder
from finetuning_exam.data.encoding.labels import IGNORED
from finetuning_exam.data.records import Example
from finetuning_exam.errors import UserError
from finetuning_exam.model.adapter import add_adapter, lora_config
from finetuning_exam.model.device import choose_compute
from finetuning_exam.model.fast.path import FastPath, choose_fast_path, wanted_pieces
from finetuning_exam.model.likelihood import collate
from finetuning_exam.model.load import load_base
from finetuning_exam.settings import Template, TrainSettings
from finetuning_exam.training.loop import train_adapter
from finetuning_exam.training.trl import ObjectiveTrainer, training_arguments

CPU = choose_compute("cpu", "float32")
WEIGHTS = "adapter_model.safetensors"


def _adapted(models: Models) -> PeftModel:
    """Return a llama with a fresh adapter whose B is nonzero, so that A has a gradient too."""
    base = load_base(str(models.folder()), CPU)
    model = add_adapter(base, lora_config(4, 8, 0.0, ("all-linear",)), seed=0)
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model


def _encoded(models: Models, n: int) -> tuple[Encoded, ...]:
    encoder = make_encoder(load_base(str(models.folder()), CPU).tokenizer, "plain")
    return tuple(encoder.encode(example) for example in rows(n))


def _path(model: PeftModel, settings: TrainSettings) -> FastPath:
    return choose_fast_path(model, 0, wanted_pieces(settings.fast_path))


def _trainer(
    models: Models,
    settings: TrainSettings,
    train_rows: Sequence[Encoded],
    folder: Path,
    model: PeftModel | None = None,
) -> ObjectiveTrainer[Encoded]:
    """Return our trainer, by default for the model of `_adapted`."""
    base = load_base(str(models.folder()), CPU)
    settings = replace(settings, output_dir=str(folder))
    fast = _path(model or _adapted(models), settings)
    return ObjectiveTrainer(job_of(fast, base.tokenizer, train_rows, settings, folder))


def _stock_trainer(
    models: Models, settings: TrainSettings, train_rows: Sequence[Encoded], folder: Path
) -> SFTTrainer:
    """Return TRL's unmodified trainer for the same rows and arguments."""
    settings = replace(settings, output_dir=str(folder))
    plan = plan_of(settings, len(train_rows))
    lines = [{"input_ids": list(row.ids), "labels": list(row.labels)} for row in train_rows]
    model = _adapted(models)
    # PEFT looks the base up when TRL saves; our adapters name no absolute path.
    model.peft_config["default"].base_model_name_or_path = str(models.folder())
    return SFTTrainer(
        model=model,
        args=training_arguments(settings, plan, CPU, has_validation=False),
        train_dataset=Dataset.from_list(lines),
        processing_class=load_base(str(models.folder()), CPU).tokenizer,
        data_collator=_stock_inputs,
    )


def _stock_inputs(features: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    rows_ = [Encoded(tuple(f["input_ids"]), tuple(f["labels"]), 0, 0) for f in features]
    batch = collate(rows_, 0)
    return {"input_ids": batch.ids, "attention_mask": batch.attention, "labels": batch.labels}


def _parameters(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


def _gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def _assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert len(found) == 2 * 14
    for name in found:
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=1e-5, msg=name)


@BY_BOTH
def test_loss_and_gradients_equal_the_stock_ones(
    models: Models, tmp_path: Path, fast_path: FastPieces
) -> None:
    """On the same rows, the loss and its gradients equal those of `model(labels=…)`."""
    encoded = _encoded(models, 5)
    trainer = _trainer(models, replace(BRISK, fast_path=fast_path), encoded, tmp_path)
    ours = trainer.compute_loss(trainer.model, {"rows": encoded})
    ours.backward()
    found = _gradients(trainer.model)
    stock_model = _adapted(models)
    stock = stock_model(**_stock_inputs(_features(encoded))).loss
    stock.backward()
    assert ours.item() == pytest.approx(stock.item(), rel=1e-5)
    expected = _gradients(stock_model)
    _assert_same(found, expected)
    assert all(gradient.any() for gradient in expected.values())


def _features(encoded: Sequence[Encoded]) -> list[dict[str, list[int]]]:
    return [{"input_ids": list(row.ids), "labels": list(row.labels)} for row in encoded]


@BY_BOTH
def test_the_divisor_is_the_number_of_items_given(
    models: Models, tmp_path: Path, fast_path: FastPieces
) -> None:
    """`num_items_in_batch` is the divisor of the summed NLL, as in Transformers."""
    encoded = _encoded(models, 4)
    trainer = _trainer(models, replace(BRISK, fast_path=fast_path), encoded, tmp_path)
    number = torch.tensor(123)
    ours = trainer.compute_loss(trainer.model, {"rows": encoded}, num_items_in_batch=number)
    stock = _adapted(models)(**_stock_inputs(_features(encoded)), num_items_in_batch=number).loss
    assert ours.item() == pytest.approx(stock.item(), rel=1e-5)


ACCUMULATED = replace(
    BRISK, max_steps=3, per_device_train_batch_size=4, gradient_accumulation_steps=2
)
"""Three steps; with twelve rows, the second is the incomplete last step of an epoch."""


@dataclass(frozen=True)
class Trained:
    """Adapter and token count after a training, and the gradient of its last step."""

    adapter: dict[str, torch.Tensor]
    tokens: int
    gradient: dict[str, torch.Tensor]


def _trained(trainer: SFTTrainer) -> Trained:
    gradient = _watch_gradients(trainer.model)
    trainer.train()
    return Trained(_parameters(trainer.model), trainer.state.num_input_tokens_seen, gradient)


def _watch_gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return a dict that will hold the gradient of each parameter after the last micro-batch."""
    last: dict[str, torch.Tensor] = {}

    def keep(name: str, parameter: torch.nn.Parameter) -> None:
        # Called after each micro-batch; the value after the last one is the step's gradient.
        parameter.register_post_accumulate_grad_hook(
            lambda p: last.__setitem__(name, p.grad.clone())
        )

    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            keep(name, parameter)
    return last


@pytest.fixture(scope="module")
def stock(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Train on twelve rows with the unmodified SFTTrainer."""
    folder = tmp_path_factory.mktemp("stock")
    return _trained(_stock_trainer(models, ACCUMULATED, _encoded(models, 12), folder))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"fast_path": ("none",)}, id="none"),
        pytest.param({"fast_path": ("all",)}, id="all"),
        pytest.param({"fast_path": ("all",), "micro_batch_tokens": 100}, id="small parts"),
        pytest.param({"fast_path": ("all",), "micro_batch_tokens": 1}, id="row by row"),
        pytest.param({"fast_path": ("rows",), "micro_batch_tokens": 100}, id="rows alone"),
        pytest.param(
            {"fast_path": ("attention", "lora", "elementwise", "loss")}, id="all but rows"
        ),
        pytest.param(
            {
                "fast_path": ("all",),
                "micro_batch_tokens": 100,
                "per_device_train_batch_size": 2,
                "gradient_accumulation_steps": 4,
            },
            id="other split",
        ),
    ],
)
def test_training_equals_the_stock_trainer(
    models: Models, tmp_path: Path, stock: Trained, changes: dict[str, Any]
) -> None:
    """Three steps of eight rows, one of them incomplete, give the same adapter, gradient and token
    count as the unmodified SFTTrainer, however the rows are batched.
    """
    settings = replace(ACCUMULATED, **changes)
    found = _trained(_trainer(models, settings, _encoded(models, 12), tmp_path))
    _assert_same(found.adapter, stock.adapter)
    _assert_same(found.gradient, stock.gradient)
    assert found.tokens == stock.tokens
    before = _parameters(_adapted(models))
    assert not any(torch.equal(stock.adapter[name], before[name]) for name in before)


def test_a_modified_model_trains_with_its_own_layers(models: Models, tmp_path: Path) -> None:
    """A llama whose layers were modified uses only the pieces of the fast path that still apply,
    and ends in the same adapter as without the fast path.
    """
    results: list[dict[str, torch.Tensor]] = []
    fast_path: FastPieces
    for fast_path in (("all",), ("none",)):
        model = _adapted(models)
        for layer in model.get_base_model().model.layers:
            layer.mlp.act_fn = torch.nn.Tanh()
        settings = replace(ACCUMULATED, fast_path=fast_path, micro_batch_tokens=100)
        folder = tmp_path / fast_path[0]
        trainer = _trainer(models, settings, _encoded(models, 12), folder, model)
        assert trainer._job.fast.pieces == (set() if fast_path == ("none",) else {"rows", "loss"})
        results.append(_trained(trainer).adapter)
    _assert_same(results[0], results[1])
    plain = _trained(_trainer(models, ACCUMULATED, _encoded(models, 12), tmp_path / "plain"))
    assert any(not torch.allclose(results[0][n], p, atol=1e-4) for n, p in plain.adapter.items())


def test_an_optimizer_batch_is_split_by_tokens(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `rows`, an optimizer batch is computed in parts within the token budget, which use every
    row once per epoch and share one divisor; without it, batches are not split.
    """
    encoded = _encoded(models, 12)
    budget = 100
    pieces: FastPieces
    for pieces, sizes in ((("rows",), None), (("none",), [4, 4, 4])):
        settings = replace(ACCUMULATED, max_steps=2, fast_path=pieces, micro_batch_tokens=budget)
        trainer = _trainer(models, settings, encoded, tmp_path / pieces[0])
        seen: list[tuple[tuple[Encoded, ...], int]] = []
        stock_loss = trainer.compute_loss

        def compute_loss(
            model: torch.nn.Module,
            inputs: dict[str, tuple[Encoded, ...]],
            num_items_in_batch: torch.Tensor,
            seen: list[tuple[tuple[Encoded, ...], int]] = seen,
            stock_loss: Callable[..., torch.Tensor] = stock_loss,
        ) -> torch.Tensor:
            seen.append((inputs["rows"], int(num_items_in_batch)))
            return stock_loss(model, inputs, num_items_in_batch=num_items_in_batch)

        monkeypatch.setattr(trainer, "compute_loss", compute_loss)
        trainer.train()
        ids = sorted(row.ids for part, _ in seen for row in part)
        assert ids == sorted(row.ids for row in encoded)
        by_divisor: dict[int, int] = {}
        for part, divisor in seen:
            n_supervised = sum(row.n_supervised for row in part)
            by_divisor[divisor] = by_divisor.get(divisor, 0) + n_supervised
        assert len(by_divisor) == 2, "two optimizer steps, each with its own divisor"
        assert all(divisor == total for divisor, total in by_divisor.items())
        if sizes is None:
            assert max(sum(len(row.ids) for row in part) for part, _ in seen) <= budget
            assert max(len(part) for part, _ in seen) > 1
        else:
            assert [len(part) for part, _ in seen] == sizes


def _trained_in(
    models: Models,
    folder: Path,
    n_rows: int,
    batches: tuple[int, int],
    steps: int,
    fast_path: FastPieces,
) -> Trained:
    """Train without clipping, in batches of rows × accumulation."""
    batch_size, accumulation = batches
    settings = replace(
        BRISK,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        max_steps=steps,
        learning_rate=1e-3,
        max_grad_norm=1e9,
        fast_path=fast_path,
        micro_batch_tokens=80,
    )
    trainer = _trainer(models, settings, _encoded(models, n_rows), folder)
    found = _trained(trainer)
    assert trainer.state.global_step == steps
    return found


@BY_BOTH
@pytest.mark.parametrize(
    ("n_rows", "steps"),
    [
        pytest.param(8, 1, id="full window"),
        pytest.param(6, 2, id="incomplete last window"),
        pytest.param(5, 2, id="last window of one row"),
    ],
)
def test_accumulation_changes_nothing(
    models: Models, tmp_path: Path, n_rows: int, steps: int, fast_path: FastPieces
) -> None:
    """Batch 4 × accumulation 1, 2 × 2 and 1 × 4 give the same gradient and adapter, for rows of
    unequal lengths and in the incomplete last window of an epoch.
    """
    one, *others = (
        _trained_in(models, tmp_path / str(n), n_rows, (n, 4 // n), steps, fast_path)
        for n in (4, 1, 2)
    )
    for other in others:
        _assert_same(other.gradient, one.gradient)
        _assert_same(other.adapter, one.adapter)


def test_prompts_are_trained_on_request(models: Models, tmp_path: Path) -> None:
    """`--completion_only_loss False` trains on every token but the first."""
    settings = brisk(models.folder(), completion_only_loss=False, max_steps=1)
    run = run_training(settings, tmp_path, rows(4))
    assert [r.n_supervised for r in run.prepared.rows.train] == [
        len(r.ids) - 1 for r in run.prepared.rows.train
    ]


def test_a_run_of_one_step_trains(models: Models, tmp_path: Path) -> None:
    """Warm-up never takes all steps, so even a run of one step changes the adapter."""
    usual = TrainSettings()
    settings = brisk(
        models.folder(),
        max_steps=1,
        warmup_ratio=usual.warmup_ratio,
        lr_scheduler_type=usual.lr_scheduler_type,
    )
    run_training(settings, tmp_path, rows(4))
    state = load_file(tmp_path / WEIGHTS)
    assert [name for name, tensor in state.items() if not tensor.any()] == []


@BY_BOTH
def test_rows_without_a_label_are_an_error(
    models: Models, tmp_path: Path, fast_path: FastPieces
) -> None:
    """Training on rows without supervised tokens raises instead of reporting a loss of 0.0."""
    base = load_base(str(models.folder()), CPU)
    silent = [replace(row, labels=(IGNORED,) * len(row.ids)) for row in _encoded(models, 4)]
    settings = replace(BRISK, output_dir=str(tmp_path), fast_path=fast_path)
    with pytest.raises(UserError):
        train_adapter(
            job_of(_path(_adapted(models), settings), base.tokenizer, silent, settings, tmp_path),
            ignore,
        )


@pytest.mark.parametrize("template", ["plain", "chat"])
def test_every_row_supervises_its_end_token(models: Models, template: Template) -> None:
    """The last label of every encoded row is a stop id, even for the shortest answer."""
    folder = models.folder(text="chat" if template == "chat" else "plain")
    encoder = make_encoder(load_base(str(folder), CPU).tokenizer, template)
    for answer in ("x", "Yes.", "two\nlines", "<|end|>"):
        row = encoder.encode(Example(instruction="Say it.", answer=answer, line=1, path="p"))
        assert row.labels[-1] in encoder.stop_ids
        assert row.n_supervised >= 2
