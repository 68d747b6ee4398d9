"""Training: our loss and its gradients, what TRL is told, the kept step, resuming, repeating."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from safetensors.torch import load_file
from tiny import BRISK, Models, brisk, ignore, rows, run_training
from trl import SFTConfig, SFTTrainer

from finetuning_exam.cli.arguments import parse
from finetuning_exam.data.encoding.encode import IGNORED, Encoded, make_encoder
from finetuning_exam.data.records import Example
from finetuning_exam.data.split import Split
from finetuning_exam.errors import DivergedError, UserError
from finetuning_exam.evaluation.score import score_rows
from finetuning_exam.model.adapter import add_adapter, load_adapter, lora_config
from finetuning_exam.model.device import Compute, choose_compute
from finetuning_exam.model.fast.path import FastPath, choose_fast_path, wanted_pieces
from finetuning_exam.model.likelihood import collate, stock_nll
from finetuning_exam.model.load import load_base
from finetuning_exam.settings import CompareSettings, TrainSettings
from finetuning_exam.training.exact import Keeping
from finetuning_exam.training.fit import train_adapter
from finetuning_exam.training.plan import TrainingPlan, make_plan
from finetuning_exam.training.progress import MetricsFile, Progress, read_metrics
from finetuning_exam.training.run import prepare, train
from finetuning_exam.training.sft import EncodedRowsTrainer, training_arguments

CPU = choose_compute("cpu", "float32")
BY_BOTH = pytest.mark.parametrize("fast_path", [("all",), ("none",)], ids=["fast", "stock"])
"""By every piece of the fast path, and by none."""
CONFIGS = Path(__file__).parents[2] / "configs"
WEIGHTS = "adapter_model.safetensors"


class _Killed(Exception):
    """Stands for whatever ends a process in the middle of a training."""


def _kill_at(step: int) -> ProgressWatcher:
    return ProgressWatcher(step)


class ProgressWatcher:
    """Ends a training after a step, as a signal would."""

    def __init__(self, last_step: int) -> None:
        self._last_step = last_step

    def __call__(self, progress: Progress) -> None:
        """Take in a step."""
        if progress.step >= self._last_step:
            raise _Killed


def _sha256(folder: Path) -> str:
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def _plan(settings: TrainSettings, n_rows: int) -> TrainingPlan:
    """The plan of a small model without validation rows."""
    return make_plan(settings, n_rows, n_validation_rows=0, n_parameters=7_000_000)


def _adapted(models: Models) -> PeftModel:
    """A llama with a fresh adapter whose B is not zero, so that A has a gradient too."""
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
) -> EncodedRowsTrainer:
    """Our trainer; without a model of its own for `_adapted`."""
    base = load_base(str(models.folder()), CPU)
    settings = replace(settings, output_dir=str(folder))
    plan = _plan(settings, len(train_rows))
    fast = _path(model or _adapted(models), settings)
    arguments = training_arguments(
        settings, plan, CPU, has_validation=False, splits_by_tokens="rows" in fast.pieces
    )
    keeping = Keeping(folder, MetricsFile(folder / "metrics.jsonl"), 2)
    return EncodedRowsTrainer(
        fast, base.tokenizer, arguments, train_rows, (), settings, plan, keeping
    )


def _stock_trainer(
    models: Models, settings: TrainSettings, train_rows: Sequence[Encoded], folder: Path
) -> SFTTrainer:
    """TRL's own trainer, unchanged, on the same rows with the same arguments."""
    settings = replace(settings, output_dir=str(folder))
    plan = _plan(settings, len(train_rows))
    lines = [{"input_ids": list(row.ids), "labels": list(row.labels)} for row in train_rows]
    return SFTTrainer(
        model=_adapted(models),
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


# Loss and gradients


@BY_BOTH
def test_loss_and_gradients_are_the_stock_ones(
    models: Models, tmp_path: Path, fast_path: tuple[str, ...]
) -> None:
    """On the same rows our loss and its gradients equal Transformers' own `model(labels=…)`."""
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
    models: Models, tmp_path: Path, fast_path: tuple[str, ...]
) -> None:
    """With `num_items_in_batch` the loss is the summed NLL over that number, as in Transformers."""
    encoded = _encoded(models, 4)
    trainer = _trainer(models, replace(BRISK, fast_path=fast_path), encoded, tmp_path)
    number = torch.tensor(123)
    ours = trainer.compute_loss(trainer.model, {"rows": encoded}, num_items_in_batch=number)
    stock = _adapted(models)(**_stock_inputs(_features(encoded)), num_items_in_batch=number).loss
    assert ours.item() == pytest.approx(stock.item(), rel=1e-5)


ACCUMULATED = replace(
    BRISK, max_steps=3, per_device_train_batch_size=4, gradient_accumulation_steps=2
)
"""Three steps: with twelve rows the second is the incomplete last one of an epoch."""


@dataclass(frozen=True)
class Trained:
    """Adapter and counted tokens after a training, and the gradient of its last step."""

    adapter: dict[str, torch.Tensor]
    tokens: int
    gradient: dict[str, torch.Tensor]


def _trained(trainer: SFTTrainer) -> Trained:
    gradient = _watch_gradients(trainer.model)
    trainer.train()
    return Trained(_parameters(trainer.model), trainer.state.num_input_tokens_seen, gradient)


def _watch_gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A dict that will hold the gradient of each parameter after the last micro-batch."""
    last: dict[str, torch.Tensor] = {}

    def keep(name: str, parameter: torch.nn.Parameter) -> None:
        # Called after each micro-batch; what is there after the last one is the step's gradient.
        parameter.register_post_accumulate_grad_hook(
            lambda p: last.__setitem__(name, p.grad.clone())
        )

    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            keep(name, parameter)
    return last


@pytest.fixture(scope="module")
def stock(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """What the unchanged SFTTrainer makes of twelve rows."""
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
    models: Models, tmp_path: Path, stock: Trained, changes: dict[str, object]
) -> None:
    """Three steps of eight rows, one of them incomplete, end in the adapter, the gradient and the
    number of tokens that the unchanged SFTTrainer ends in, however the rows are put together.
    """
    settings = replace(ACCUMULATED, **changes)
    found = _trained(_trainer(models, settings, _encoded(models, 12), tmp_path))
    _assert_same(found.adapter, stock.adapter)
    _assert_same(found.gradient, stock.gradient)
    assert found.tokens == stock.tokens
    before = _parameters(_adapted(models))
    assert not any(torch.equal(stock.adapter[name], before[name]) for name in before)


def test_a_model_that_is_not_what_it_says_trains_as_it_is(models: Models, tmp_path: Path) -> None:
    """A llama whose layers compute something else trains by its own forward pass, with whatever
    of the fast path still holds, to the adapter that it has without the fast path.
    """
    results: list[dict[str, torch.Tensor]] = []
    for fast_path in (("all",), ("none",)):
        model = _adapted(models)
        for layer in model.get_base_model().model.layers:
            layer.mlp.act_fn = torch.nn.Tanh()
        settings = replace(ACCUMULATED, fast_path=fast_path, micro_batch_tokens=100)
        folder = tmp_path / fast_path[0]
        trainer = _trainer(models, settings, _encoded(models, 12), folder, model)
        assert trainer._fast.pieces == (set() if fast_path == ("none",) else {"rows", "loss"})
        results.append(_trained(trainer).adapter)
    _assert_same(results[0], results[1])
    plain = _trained(_trainer(models, ACCUMULATED, _encoded(models, 12), tmp_path / "plain"))
    assert any(not torch.allclose(results[0][n], p, atol=1e-4) for n, p in plain.adapter.items())


def test_an_optimizer_batch_is_split_by_tokens(models: Models, tmp_path: Path) -> None:
    """With `rows` on, the rows of an optimizer batch come to the loss in parts within the budget,
    all of them once in an epoch, and divided by the same number; with it off they come as they
    are.
    """
    encoded = _encoded(models, 12)
    budget = 100
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

        trainer.compute_loss = compute_loss
        trainer.train()
        ids = sorted(row.ids for part, _ in seen for row in part)
        assert ids == sorted(row.ids for row in encoded)
        by_divisor: dict[int, int] = {}
        for part, divisor in seen:
            n_supervised = sum(row.n_supervised for row in part)
            by_divisor[divisor] = by_divisor.get(divisor, 0) + n_supervised
        assert len(by_divisor) == 2, "two optimizer steps, each with a divisor of its own"
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
    fast_path: tuple[str, ...],
) -> Trained:
    """A training without clipping, in batches of rows × accumulation."""
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
    models: Models, tmp_path: Path, n_rows: int, steps: int, fast_path: tuple[str, ...]
) -> None:
    """Batch 4 × accumulation 1, 2 × 2 and 1 × 4 have the same gradient and the same adapter, with
    rows of unequal lengths, and in the incomplete last window of an epoch.
    """
    one, *others = (
        _trained_in(models, tmp_path / str(n), n_rows, (n, 4 // n), steps, fast_path)
        for n in (4, 1, 2)
    )
    for other in others:
        _assert_same(other.gradient, one.gradient)
        _assert_same(other.adapter, one.adapter)


@BY_BOTH
def test_logged_loss_is_that_of_the_step(
    models: Models, tmp_path: Path, fast_path: tuple[str, ...]
) -> None:
    """The logged and the shown loss of a step are nats per supervised token over all its rows."""
    shown: list[float | None] = []
    settings = brisk(
        models.folder(),
        max_steps=1,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=3,
        fast_path=fast_path,
        micro_batch_tokens=80,
    )
    run = run_training(
        settings, tmp_path, rows(6), on_progress=lambda progress: shown.append(progress.loss)
    )
    base = load_base(str(models.folder()), CPU)
    scores = score_rows(base.model, run.prepared.train_rows, stock_nll(base.model, 0), 6)
    expected = sum(s.nll for s in scores) / sum(s.n_tokens for s in scores)
    assert shown[0] is None
    assert shown[-1] == pytest.approx(expected, rel=1e-5)
    logged = [row["loss"] for row in read_metrics(tmp_path / "metrics.jsonl") if "loss" in row]
    assert logged == pytest.approx([expected], rel=1e-4)


@BY_BOTH
def test_tokens_are_counted_without_padding(
    models: Models, tmp_path: Path, fast_path: tuple[str, ...]
) -> None:
    """The tokens of a run are those of its rows, not of the padded batches."""
    settings = brisk(models.folder(), max_steps=3, fast_path=fast_path, micro_batch_tokens=80)
    run = run_training(settings, tmp_path, rows(12))
    assert run.result.tokens == sum(len(row.ids) for row in run.prepared.train_rows)


def test_prompts_are_trained_when_they_are_asked_for(models: Models, tmp_path: Path) -> None:
    """`--completion_only_loss False` trains every token but the first."""
    settings = brisk(models.folder(), completion_only_loss=False, max_steps=1)
    run = run_training(settings, tmp_path, rows(4))
    assert [r.n_supervised for r in run.prepared.train_rows] == [
        len(r.ids) - 1 for r in run.prepared.train_rows
    ]


def test_a_run_of_one_step_trains(models: Models, tmp_path: Path) -> None:
    """However few the steps, warming up never takes all of them: one step changes the adapter."""
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


# What cannot be trained on


@BY_BOTH
def test_rows_without_a_label_are_an_error(
    models: Models, tmp_path: Path, fast_path: tuple[str, ...]
) -> None:
    """Training on rows that supervise nothing raises, it does not report a loss of 0.0."""
    base = load_base(str(models.folder()), CPU)
    silent = [replace(row, labels=(IGNORED,) * len(row.ids)) for row in _encoded(models, 4)]
    settings = replace(BRISK, output_dir=str(tmp_path), fast_path=fast_path)
    with pytest.raises(UserError):
        train_adapter(
            _path(_adapted(models), settings),
            base.tokenizer,
            silent,
            (),
            settings,
            _plan(settings, 4),
            CPU,
            Keeping(tmp_path, MetricsFile(tmp_path / "metrics.jsonl"), 2),
            ignore,
        )


@pytest.mark.parametrize("template", ["plain", "chat"])
def test_every_row_supervises_its_end(models: Models, template: str) -> None:
    """The last label of every encoded row is a stop id, even of the shortest answer."""
    folder = models.folder(text="chat" if template == "chat" else "plain")
    encoder = make_encoder(load_base(str(folder), CPU).tokenizer, template)
    for answer in ("x", "Yes.", "two\nlines", "<|end|>"):
        row = encoder.encode(Example(instruction="Say it.", answer=answer, line=1, path="p"))
        assert row.labels[-1] in encoder.stop_ids()
        assert row.n_supervised >= 2


@BY_BOTH
def test_a_loss_that_is_not_a_number_ends_the_run(
    models: Models, tmp_path: Path, fast_path: tuple[str, ...]
) -> None:
    """A NaN loss raises DivergedError with exit code 5 at its step and saves no adapter."""
    settings = brisk(models.folder(), output_dir=str(tmp_path), fast_path=fast_path)
    prepared = prepare(settings, Split(rows(8), (), ()))
    with torch.no_grad():
        prepared.base.model.get_output_embeddings().weight[7, 7] = math.nan
    with pytest.raises(DivergedError) as caught:
        train(prepared, tmp_path, ignore)
    assert caught.value.exit_code == 5
    assert str(caught.value) == (
        "The training loss at step 1 is nan. "
        "Its rows: rows.jsonl:1, rows.jsonl:4, rows.jsonl:7, rows.jsonl:8. "
        "Lower --learning_rate, or look for broken rows."
    )
    assert not (tmp_path / WEIGHTS).exists()


@BY_BOTH
def test_a_learning_rate_out_of_all_reason_diverges(
    models: Models, tmp_path: Path, fast_path: tuple[str, ...]
) -> None:
    """Weights that overflow in a step are noticed in the next one."""
    settings = brisk(models.folder(), learning_rate=1e30, max_steps=4, fast_path=fast_path)
    with pytest.raises(DivergedError, match=r"at step 2 is nan"):
        run_training(settings, tmp_path, rows(16))


@BY_BOTH
@pytest.mark.parametrize("n_validation", [0, 4])
def test_divergence_in_the_last_step_is_noticed(
    models: Models, tmp_path: Path, n_validation: int, fast_path: tuple[str, ...]
) -> None:
    """Weights that overflow in the last step, after which no loss is taken, raise too."""
    settings = brisk(models.folder(), learning_rate=1e30, max_steps=1, fast_path=fast_path)
    with pytest.raises(DivergedError):
        run_training(settings, tmp_path, rows(8), rows(12)[8 : 8 + n_validation])


# What TRL is told


def _arguments(settings: TrainSettings, compute: Compute = CPU) -> SFTConfig:
    plan = _plan(settings, 100)
    return training_arguments(settings, plan, compute, has_validation=True)


def test_every_default_that_would_bite_is_set(tmp_path: Path) -> None:
    """TRL's defaults that change numbers, cut rows, hide NaN or call home are all set by name."""
    arguments = _arguments(TrainSettings(output_dir=str(tmp_path)))
    found = {
        "bf16": arguments.bf16,
        "fp16": arguments.fp16,
        "gradient_checkpointing": arguments.gradient_checkpointing,
        "max_length": arguments.max_length,
        "packing": arguments.packing,
        "logging_nan_inf_filter": arguments.logging_nan_inf_filter,
        "report_to": arguments.report_to,
        "use_cpu": arguments.use_cpu,
        "push_to_hub": arguments.push_to_hub,
        "label_smoothing_factor": arguments.label_smoothing_factor,
        "neftune_noise_alpha": arguments.neftune_noise_alpha,
        "optim": str(getattr(arguments.optim, "value", arguments.optim)),
        "remove_unused_columns": arguments.remove_unused_columns,
        "dataloader_drop_last": arguments.dataloader_drop_last,
        "skip_prepare_dataset": arguments.dataset_kwargs["skip_prepare_dataset"],
    }
    assert found == {
        "bf16": False,
        "fp16": False,
        "gradient_checkpointing": False,
        "max_length": None,
        "packing": False,
        "logging_nan_inf_filter": False,
        "report_to": [],
        "use_cpu": True,
        "push_to_hub": False,
        "label_smoothing_factor": 0.0,
        "neftune_noise_alpha": None,
        "optim": "adamw_torch",
        "remove_unused_columns": False,
        "dataloader_drop_last": False,
        "skip_prepare_dataset": True,
    }


@pytest.mark.parametrize(
    ("change", "name", "value"),
    [
        ({"per_device_train_batch_size": 3}, "per_device_train_batch_size", 3),
        ({"gradient_accumulation_steps": 5}, "gradient_accumulation_steps", 5),
        ({"learning_rate": 0.123}, "learning_rate", 0.123),
        ({"max_steps": 17}, "max_steps", 17),
        ({"lr_scheduler_type": "linear"}, "lr_scheduler_type", "linear"),
        ({"max_steps": 50, "warmup_ratio": 0.1}, "warmup_steps", 5),
        ({"weight_decay": 0.2}, "weight_decay", 0.2),
        ({"max_grad_norm": 0.7}, "max_grad_norm", 0.7),
        ({"seed": 9}, "seed", 9),
        ({"seed": 9}, "data_seed", 9),
        ({"logging_steps": 3}, "logging_steps", 3),
        ({"save_steps": 11}, "save_steps", 11),
        ({"save_steps": 11}, "eval_steps", 11),
        ({"save_total_limit": 6}, "save_total_limit", 6),
        ({"gradient_checkpointing": True}, "gradient_checkpointing", True),
        ({"load_best_model_at_end": False}, "load_best_model_at_end", False),
        ({"report_to": ("tensorboard",)}, "report_to", ["tensorboard"]),
    ],
)
def test_every_setting_reaches_the_trainer(
    tmp_path: Path, change: dict[str, object], name: str, value: object
) -> None:
    """A setting of ours arrives in TRL's config with the value it was given."""
    without = getattr(_arguments(TrainSettings(output_dir=str(tmp_path))), name)
    found = getattr(_arguments(TrainSettings(output_dir=str(tmp_path), **change)), name)
    assert found == value
    assert without != value


def test_where_rows_are_split_by_tokens_the_trainer_gets_them_at_once(tmp_path: Path) -> None:
    """With `splits_by_tokens` TRL's batch is the whole optimizer batch, without accumulation, and
    nothing else changes.
    """
    settings = replace(
        TrainSettings(output_dir=str(tmp_path)),
        per_device_train_batch_size=3,
        gradient_accumulation_steps=5,
    )
    plan = _plan(settings, 100)
    apart, at_once = (
        training_arguments(
            settings, plan, CPU, has_validation=True, splits_by_tokens=is_on
        ).to_dict()
        for is_on in (False, True)
    )
    changed = {name: (apart[name], at_once[name]) for name in apart if apart[name] != at_once[name]}
    assert changed == {
        "per_device_train_batch_size": (3, 15),
        "gradient_accumulation_steps": (5, 1),
    }


def test_without_validation_the_last_step_is_kept(tmp_path: Path) -> None:
    """Without validation rows TRL neither evaluates nor looks for a best step."""
    settings = TrainSettings(output_dir=str(tmp_path))
    plan = _plan(settings, 100)
    arguments = training_arguments(settings, plan, CPU, has_validation=False)
    assert str(getattr(arguments.eval_strategy, "value", arguments.eval_strategy)) == "no"
    assert not arguments.load_best_model_at_end
    assert not arguments.eval_on_start


def test_the_classic_recipe_is_exactly_what_it_says(tmp_path: Path) -> None:
    """configs/classic.yaml gives TRL and PEFT the plain recipe, number for number."""
    argv = ["--config", str(CONFIGS / "classic.yaml"), "--output_dir", str(tmp_path)]
    settings = parse(TrainSettings, "train", argv).settings
    compute = choose_compute(settings.device, settings.dtype)
    arguments = _arguments(settings, compute)
    lora = lora_config(
        settings.lora_r, settings.lora_alpha, settings.lora_dropout, settings.lora_target_modules
    )
    assert {
        "batch": arguments.per_device_train_batch_size,
        "accumulation": arguments.gradient_accumulation_steps,
        "learning_rate": arguments.learning_rate,
        "epochs": arguments.num_train_epochs,
        "steps": arguments.max_steps,  # 100 rows / (1 × 2)
        "logging_steps": arguments.logging_steps,
        "save_steps": arguments.save_steps,
        "bf16": arguments.bf16,
        "use_cpu": arguments.use_cpu,
        "dtype": compute.dtype_name,
    } == {
        "batch": 1,
        "accumulation": 2,
        "learning_rate": 2e-4,
        "epochs": 1.0,
        "steps": 50,
        "logging_steps": 1,
        "save_steps": 20,
        "bf16": False,
        "use_cpu": True,
        "dtype": "float32",
    }
    assert (lora.r, lora.lora_alpha, lora.lora_dropout) == (4, 8, 0.1)
    assert set(lora.target_modules) == {"q_proj", "k_proj", "v_proj", "o_proj"}


def test_the_classic_recipe_samples_its_comparisons() -> None:
    """configs/classic.yaml makes `fte compare` sample: temperature 0.8, top-p 0.9, 80 tokens."""
    settings = parse(
        CompareSettings, "compare", ["--config", str(CONFIGS / "classic.yaml")]
    ).settings
    found = (settings.do_sample, settings.temperature, settings.top_p, settings.max_new_tokens)
    assert found == (True, 0.8, 0.9, 80)


def test_the_default_recipe_states_the_defaults() -> None:
    """configs/default.yaml changes nothing: it spells out the defaults of the settings."""
    argv = ["--config", str(CONFIGS / "default.yaml")]
    found = parse(TrainSettings, "train", argv).settings
    assert replace(found, config=None) == TrainSettings()


# The kept step


def test_the_best_step_is_kept(models: Models, tmp_path: Path) -> None:
    """The saved adapter reproduces the lowest validation loss of the run, not the last one."""
    settings = brisk(
        models.folder(),
        learning_rate=5e-2,
        max_steps=12,
        save_steps=1,
        early_stopping_patience=None,
        eval_batch_size=3,
    )
    run = run_training(settings, tmp_path, rows(8), rows(20)[12:])
    losses = {
        int(row["step"]): row["eval_loss"]
        for row in read_metrics(tmp_path / "metrics.jsonl")
        if "eval_loss" in row
    }
    assert sorted(losses) == list(range(13))
    trained_losses = {step: loss for step, loss in losses.items() if step > 0}
    best = min(trained_losses, key=lambda step: trained_losses[step])
    assert best < 12, "the training must overshoot for this test to mean something"
    assert (run.result.best_step, run.result.best_validation_loss) == (best, losses[best])
    assert run.result.first_validation_loss == losses[0]
    reloaded = load_adapter(load_base(str(models.folder()), CPU), tmp_path)
    for model in (reloaded, run.prepared.model):
        scores = score_rows(model, run.prepared.validation_rows, stock_nll(model, 0), 3)
        found = sum(s.nll for s in scores) / sum(s.n_tokens for s in scores)
        assert found == pytest.approx(losses[best], rel=1e-6)


def test_the_last_step_can_be_kept(models: Models, tmp_path: Path) -> None:
    """`--load_best_model_at_end False` keeps the last step, and says so."""
    settings = brisk(
        models.folder(),
        learning_rate=5e-2,
        max_steps=5,
        save_steps=2,
        early_stopping_patience=None,
        load_best_model_at_end=False,
    )
    run = run_training(settings, tmp_path, rows(8), rows(20)[12:])
    assert run.result.best_step == run.result.steps == 5
    kept = load_file(tmp_path / WEIGHTS)
    last = load_file(tmp_path / "checkpoint-5" / WEIGHTS)
    assert kept.keys() == last.keys()
    assert all(torch.equal(kept[name], last[name]) for name in kept)


def test_the_last_step_is_validated_too(models: Models, tmp_path: Path) -> None:
    """The last step competes for the best one even off the rhythm of validation, once."""
    settings = brisk(models.folder(), max_steps=5, save_steps=2, early_stopping_patience=None)
    run_training(settings, tmp_path, rows(8), rows(20)[12:])
    rows_ = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows_ if "eval_loss" in row] == [0, 2, 4, 5]


def test_training_stops_early(models: Models, tmp_path: Path) -> None:
    """After `early_stopping_patience` validations without a better one the training ends."""
    settings = brisk(
        models.folder(), learning_rate=0.2, max_steps=40, save_steps=1, early_stopping_patience=2
    )
    run = run_training(settings, tmp_path, rows(8), rows(20)[12:])
    assert run.result.stopped_early
    assert run.result.steps == run.result.best_step + 2


def test_validation_loss_does_not_depend_on_its_batch_size(models: Models, tmp_path: Path) -> None:
    """Validation is nats over tokens of all rows, not a mean of batch means."""
    losses = []
    for size in (1, 3, 8):
        settings = brisk(models.folder(), max_steps=1, eval_batch_size=size)
        run = run_training(settings, tmp_path / str(size), rows(4), rows(20)[12:])
        losses.append(run.result.first_validation_loss)
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)


def test_metrics_have_the_promised_columns(models: Models, tmp_path: Path) -> None:
    """Every logged step is one line with step, epoch, loss, rate, norm, tokens and speed."""
    run_training(brisk(models.folder(), max_steps=3), tmp_path, rows(12))
    lines = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    parsed = [json.loads(line) for line in lines]
    assert [row["step"] for row in parsed] == [1, 2, 3]
    names = ["step", "epoch", "loss", "learning_rate", "grad_norm", "tokens", "tokens_per_second"]
    assert all(list(row) == names for row in parsed)


# Repeating and resuming


@BY_BOTH
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_the_same_seed_gives_the_same_bytes(
    models: Models, tmp_path: Path, dropout: float, fast_path: tuple[str, ...]
) -> None:
    """Two runs with one seed write the same adapter file, byte for byte; another seed another."""
    hashes = []
    for number, seed in enumerate((7, 7, 8)):
        settings = brisk(
            models.folder(),
            seed=seed,
            lora_dropout=dropout,
            max_steps=3,
            fast_path=fast_path,
            micro_batch_tokens=80,
        )
        folder = tmp_path / str(number)
        run_training(settings, folder, rows(12))
        torch.rand(number + 1)  # the state of the global generator must not matter
        hashes.append(_sha256(folder))
    assert hashes[0] == hashes[1]
    assert hashes[2] != hashes[0]


@BY_BOTH
def test_dropout_takes_part_in_training(
    models: Models, tmp_path: Path, fast_path: tuple[str, ...]
) -> None:
    """`--lora_dropout` changes the adapter that comes out."""
    for dropout in (0.0, 0.5):
        settings = brisk(models.folder(), lora_dropout=dropout, max_steps=2, fast_path=fast_path)
        run_training(settings, tmp_path / str(dropout), rows(8))
    assert _sha256(tmp_path / "0.0") != _sha256(tmp_path / "0.5")


@BY_BOTH
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_resumed_training_ends_the_same(
    models: Models, tmp_path: Path, dropout: float, fast_path: tuple[str, ...]
) -> None:
    """A training killed after its second checkpoint and resumed writes the bytes of one that was
    not, across the border of an epoch, with accumulation and with dropout.
    """
    settings = brisk(
        models.folder(),
        lora_dropout=dropout,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        fast_path=fast_path,
        micro_batch_tokens=80,
        lr_scheduler_type="cosine",
        max_steps=9,
        save_steps=2,
        early_stopping_patience=None,
    )
    data, validation = rows(14), rows(20)[14:]
    whole = run_training(settings, tmp_path / "whole", data, validation)
    with pytest.raises(_Killed):
        run_training(settings, tmp_path / "cut", data, validation, on_progress=_kill_at(5))
    steps: list[int] = []
    resumed = run_training(
        settings,
        tmp_path / "cut",
        data,
        validation,
        on_progress=lambda progress: steps.append(progress.step),
        checkpoint=tmp_path / "cut" / "checkpoint-4",
    )
    assert min(steps) == 4, "the resumed training must not begin again"
    assert resumed.result.steps == 9
    assert _sha256(tmp_path / "cut") == _sha256(tmp_path / "whole")
    assert resumed.result.best_step == whole.result.best_step
    assert resumed.result.best_validation_loss == whole.result.best_validation_loss


def _killed_and_resumed(
    models: Models, folder: Path, settings: TrainSettings, killed_at: int, checkpoint: int
) -> tuple[int, tuple[dict[str, float], ...]]:
    """Steps of the resumed training, and what its metrics file holds."""
    with pytest.raises(_Killed):
        run_training(settings, folder, rows(8), rows(20)[12:], on_progress=_kill_at(killed_at))
    path = folder / f"checkpoint-{checkpoint}"
    run = run_training(settings, folder, rows(8), rows(20)[12:], checkpoint=path)
    return run.result.steps, read_metrics(folder / "metrics.jsonl")


def test_patience_survives_a_resume(models: Models, tmp_path: Path) -> None:
    """A resumed training counts on: it stops early at the step where an unbroken one stops."""
    settings = brisk(
        models.folder(), learning_rate=0.2, max_steps=40, save_steps=1, early_stopping_patience=3
    )
    whole = run_training(settings, tmp_path / "whole", rows(8), rows(20)[12:]).result
    kept = whole.steps - 1  # two validations without a better one are in this checkpoint
    steps, _ = _killed_and_resumed(models, tmp_path / "cut", settings, whole.steps, kept)
    assert steps == whole.steps


def test_a_resumed_training_logs_each_step_once(models: Models, tmp_path: Path) -> None:
    """After a resume metrics.jsonl still has one row for each logged step and each validation."""
    settings = brisk(models.folder(), max_steps=6, save_steps=2, early_stopping_patience=None)
    _, metrics = _killed_and_resumed(models, tmp_path, settings, 6, 4)
    assert [row["step"] for row in metrics if "loss" in row] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in metrics if "eval_loss" in row] == [0, 2, 4, 6]


def test_a_resumed_training_counts_its_tokens_on(models: Models, tmp_path: Path) -> None:
    """The tokens in metrics.jsonl never fall, not even over a resume."""
    settings = brisk(models.folder(), max_steps=6, save_steps=2, early_stopping_patience=None)
    _, metrics = _killed_and_resumed(models, tmp_path, settings, 6, 4)
    tokens = [row["tokens"] for row in metrics if "tokens" in row]
    assert tokens == sorted(tokens)
