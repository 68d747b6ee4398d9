"""Specification of the answers to names that other tools use."""

from __future__ import annotations

import pytest

from finetuning_exam.cli import names
from finetuning_exam.cli.names import answer_for, guess_for, name_elsewhere
from finetuning_exam.cli.registry import COMMANDS
from finetuning_exam.setting_values import flags_of

KNOWN = {
    name
    for command in COMMANDS.values()
    for flag in flags_of(command.settings).values()
    for name in (flag.name, flag.alias)
    if name
}


@pytest.mark.parametrize("name", sorted(names._NAMES_ELSEWHERE))
def test_a_name_from_elsewhere_has_one_here(name: str) -> None:
    """Every entry leads to a setting that exists, and is none itself."""
    assert name not in KNOWN
    assert name_elsewhere(name) in KNOWN
    assert answer_for(name, KNOWN) == f"Here it is called {name_elsewhere(name)}."


@pytest.mark.parametrize("name", sorted(names._FACTS))
def test_a_fact_is_a_sentence(name: str) -> None:
    """A setting that has no like here is answered in one sentence."""
    assert name not in KNOWN
    assert name not in names._NAMES_ELSEWHERE
    assert answer_for(name, KNOWN).endswith(".")


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("lr", "Here it is called --learning_rate."),
        ("cutoff_len", "Here it is called --max_length."),
        ("max_seq_length", "Here it is called --max_length."),
        ("lora_rank", "Here it is called --lora_r."),
        ("batch_size", "Here it is called --per_device_train_batch_size."),
        ("epochs", "Here it is called --num_train_epochs."),
        ("bf16", "Use --dtype bfloat16."),
        ("load_in_4bit", "The base model is not quantized; --dtype bfloat16 halves its memory."),
        ("nothing", ""),
    ],
)
def test_common_names(name: str, answer: str) -> None:
    """Names of TRL, LlamaFactory, Axolotl and Unsloth are answered with ours."""
    assert answer_for(name, KNOWN, "--") == answer


def test_a_name_here_is_offered_only_where_it_is_right() -> None:
    """A command that has no such setting offers none."""
    assert answer_for("cutoff_len", {"seed"}) == ""
    assert guess_for("sede", {"seed"}, "--") == "Did you mean --seed?"
    assert guess_for("zzz", {"seed"}) == ""
