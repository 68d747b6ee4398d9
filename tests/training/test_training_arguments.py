"""The settings passed to TRL, and the recipes in configs/."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trainings import plan_of
from trl import SFTConfig

from finetuning_exam.cli.arguments import parse
from finetuning_exam.model.adapter import lora_config
from finetuning_exam.model.device import Compute, choose_compute
from finetuning_exam.settings import CompareSettings, TrainSettings
from finetuning_exam.training.trl import training_arguments

CPU = choose_compute("cpu", "float32")
CONFIGS = Path(__file__).parents[2] / "configs"


def _arguments(settings: TrainSettings, compute: Compute = CPU) -> SFTConfig:
    plan = plan_of(settings, 100)
    return training_arguments(settings, plan, compute, has_validation=True)


def test_every_harmful_default_is_overridden(tmp_path: Path) -> None:
    """TRL defaults that change results, cut rows, hide NaN or phone home are set explicitly."""
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
        ({"save_steps": 13}, "save_steps", 13),
        ({"save_steps": 13}, "eval_steps", 13),
        ({"save_total_limit": 6}, "save_total_limit", 6),
        ({"gradient_checkpointing": True}, "gradient_checkpointing", True),
        ({"load_best_model_at_end": False}, "load_best_model_at_end", False),
        ({"report_to": ("tensorboard",)}, "report_to", ["tensorboard"]),
    ],
)
def test_every_setting_reaches_the_trainer(
    tmp_path: Path, change: dict[str, Any], name: str, value: object
) -> None:
    """Every setting reaches TRL's config with its value."""
    without = getattr(_arguments(TrainSettings(output_dir=str(tmp_path))), name)
    found = getattr(_arguments(TrainSettings(output_dir=str(tmp_path), **change)), name)
    assert found == value
    assert without != value


def test_a_split_by_tokens_passes_whole_optimizer_batches(tmp_path: Path) -> None:
    """With `splits_by_tokens`, TRL's batch is the whole optimizer batch, without accumulation;
    nothing else changes.
    """
    settings = replace(
        TrainSettings(output_dir=str(tmp_path)),
        per_device_train_batch_size=3,
        gradient_accumulation_steps=5,
    )
    plan = plan_of(settings, 100)
    separate, whole = (
        training_arguments(
            settings, plan, CPU, has_validation=True, splits_by_tokens=is_on
        ).to_dict()
        for is_on in (False, True)
    )
    changed = {
        name: (value, whole[name]) for name, value in separate.items() if value != whole[name]
    }
    assert changed == {
        "per_device_train_batch_size": (3, 15),
        "gradient_accumulation_steps": (5, 1),
    }


def test_without_validation_the_last_step_is_kept(tmp_path: Path) -> None:
    """Without validation rows, TRL neither evaluates nor tracks a best step."""
    settings = TrainSettings(output_dir=str(tmp_path))
    plan = plan_of(settings, 100)
    arguments = training_arguments(settings, plan, CPU, has_validation=False)
    assert str(getattr(arguments.eval_strategy, "value", arguments.eval_strategy)) == "no"
    assert not arguments.load_best_model_at_end
    assert not arguments.eval_on_start


def test_the_classic_recipe_is_passed_on_exactly(tmp_path: Path) -> None:
    """configs/classic.yaml reaches TRL and PEFT number for number."""
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
    """configs/default.yaml spells out the defaults and changes nothing."""
    argv = ["--config", str(CONFIGS / "default.yaml")]
    found = parse(TrainSettings, "train", argv).settings
    assert replace(found, config=None) == TrainSettings()
