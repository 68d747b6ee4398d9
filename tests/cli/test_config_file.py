"""Specification of YAML files of settings: what they mean, and the message for each mistake."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from command_lines import complaint, config, config_complaint, from_file

from finetuning_exam.cli.arguments import parse
from finetuning_exam.settings import CompareSettings, TrainSettings

DEFAULTS = TrainSettings()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in an empty folder, so that a path in a message is a bare name."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lora_r: 4\nseed: 7\n", TrainSettings(lora_r=4, seed=7)),
        ("lora-r: 4", TrainSettings(lora_r=4)),
        ("model: m", TrainSettings(model_name_or_path="m")),
        ("data: d.jsonl", TrainSettings(data=("d.jsonl",))),
        ("data: [a.jsonl, b.csv]", TrainSettings(data=("a.jsonl", "b.csv"))),
        ("learning_rate: 2.0e-4", TrainSettings(learning_rate=2e-4)),
        ("learning_rate: 2e-4", TrainSettings(learning_rate=2e-4)),
        ("learning_rate: auto", DEFAULTS),
        ("max_steps: null\neval_file: ~", DEFAULTS),
        ("early_stopping_patience: null", TrainSettings(early_stopping_patience=None)),
        ("completion_only_loss: false", TrainSettings(completion_only_loss=False)),
        ("lora_target_modules: [q, v]", TrainSettings(lora_target_modules=("q", "v"))),
        ("lora_target_modules: all-linear", DEFAULTS),
        ("report_to: tensorboard", TrainSettings(report_to=("tensorboard",))),
        ("output_dir: ü", TrainSettings(output_dir="ü")),
    ],
)
def test_a_yaml_file_holds_the_same_names(text: str, expected: TrainSettings) -> None:
    """A key of the YAML file is a flag, long or short, with `-` or `_`, of the same kinds."""
    assert from_file(text) == expected


def test_the_file_s_numbers_have_the_right_type() -> None:
    """A learning rate that YAML takes for text is still a number."""
    assert isinstance(from_file("learning_rate: 2e-4").learning_rate, float)


def test_the_command_line_wins() -> None:
    """A flag wins over the file, wherever it stands and whatever its value."""
    text = "seed: 7\nlora_r: 4\nfail_if_worse: true\nlora_target_modules: [a]\nmodel: m\ndata: d"
    given = ["--seed", "42", "--fail_if_worse", "False", "--lora_target_modules", "b", "c"]
    expected = TrainSettings(
        seed=42, lora_r=4, lora_target_modules=("b", "c"), model_name_or_path="m", data=("d",)
    )
    assert from_file(text, *given) == expected
    parsed = parse(TrainSettings, "train", [*given, "--config", "c.yaml"])
    assert replace(parsed.settings, config=None) == expected
    assert from_file(text, "e", *given).data == ("e",)
    assert config(text).settings.config == "c.yaml"


def test_keys_of_other_commands_are_given_back() -> None:
    """A key that only another command knows is not used, and is returned."""
    parsed = config("lora_r: 4\ntemperature: 0.8\nadapter: a\nprompts: q.jsonl")
    assert parsed.settings.lora_r == 4
    assert parsed.unused_keys == ("temperature", "adapter_name_or_path", "prompts")
    asked = parse(CompareSettings, "compare", ["--config", "c.yaml"])
    assert asked.unused_keys == ("lora_r",)
    assert (asked.settings.temperature, asked.settings.adapter_name_or_path) == (0.8, "a")


def test_without_a_file_no_key_is_unused() -> None:
    """Nothing is unused where there is no file."""
    assert parse(TrainSettings, "train", ["--seed", "1"]).unused_keys == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lora_rr: 4", "c.yaml: unknown setting 'lora_rr'. Did you mean lora_r?"),
        ("config: c.yaml", "c.yaml: unknown setting 'config'."),
        ("'': 2", "c.yaml: unknown setting ''."),
        ("learning-rat: 4", "c.yaml: unknown setting 'learning-rat'. Did you mean learning_rate?"),
        ("zzz: 4", "c.yaml: unknown setting 'zzz'."),
        ("1: 2", "c.yaml: unknown setting '1'."),
        ("seed: abc", "c.yaml: seed: expected an integer, got 'abc'."),
        ("seed: null", "c.yaml: seed: expected an integer, got null."),
        ("seed: true", "c.yaml: seed: expected an integer, got true."),
        ("seed: [1]", "c.yaml: seed: expected an integer, got [1]."),
        ("seed: -1", "c.yaml: seed: expected an integer from 0 to 4294967295, got -1."),
        ("output_dir: 5", "c.yaml: output_dir: expected text, got 5."),
        ("output_dir: true", "c.yaml: output_dir: expected text, got true."),
        ("eval_file: 2026-01-02", "c.yaml: eval_file: expected text or None, got 2026-01-02."),
        ("device: tpu", "c.yaml: device: expected auto, cpu, cuda or mps, got 'tpu'."),
        ("fail_if_worse: 1", "c.yaml: fail_if_worse: expected true or false, got 1."),
        ("lora_target_modules: [q, 1]", "c.yaml: lora_target_modules: expected text, got 1."),
        ("lora_target_modules: []", "c.yaml: lora_target_modules: expected text, got []."),
        ("lora_target_modules: ','", "c.yaml: lora_target_modules: expected text, got ','."),
        ("lora_target_modules: null", "c.yaml: lora_target_modules: expected text, got null."),
        ("max_steps: 2.5", "c.yaml: max_steps: expected an integer or None, got 2.5."),
        ("", "--config c.yaml: holds no settings. Write one `name: value` per line."),
        ("- seed", "--config c.yaml: holds no settings. Write one `name: value` per line."),
        (
            b"\xff",
            "--config c.yaml: not valid YAML ('utf-8' codec can't decode byte 0xff in position 0: "
            "invalid start byte).",
        ),
    ],
)
def test_a_mistake_in_the_file_names_the_file(text: str | bytes, message: str) -> None:
    """The message for an unknown key or a wrong value in the file starts with the file's name."""
    assert config_complaint(text) == message


@pytest.mark.parametrize(
    "text",
    ["seed: [", "a: b: c", "\tseed: 1", "seed: !!python/object/apply:os.getcwd []", "? [a]\n: 1"],
)
def test_what_is_no_plain_yaml_is_one_line(text: str) -> None:
    """Broken YAML, and YAML that would build Python objects, is told on one line."""
    found = config_complaint(text)
    assert found.startswith("--config c.yaml: not valid YAML (")
    assert "\n" not in found


@pytest.mark.parametrize(
    "text",
    [
        "learning_rate: 2026-13-01",
        f"seed: {'9' * 5000}",
        "seed: !!int seven",
        "temperature: !!float warm",
        "do_sample: !!bool perhaps",
        "output_dir: !!timestamp today",
        f"prompt: {'[' * 3000}{']' * 3000}",
    ],
    ids=lambda text: text[:24],
)
def test_a_value_that_yaml_cannot_make_is_one_line(text: str) -> None:
    """A date that does not exist, a number of too many digits and the like are no traceback."""
    found = config_complaint(text)
    assert found.startswith("--config c.yaml: holds a value that is not what it looks like")
    assert "\n" not in found


@pytest.mark.parametrize("key", ["seed: true", "num_train_epochs: true", "lora_r: false"])
def test_a_boolean_is_no_number(key: str) -> None:
    """`true` where a number belongs is a mistake, not a 1."""
    assert config_complaint(key).startswith(f"c.yaml: {key.split(':')[0]}: ")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("seed: 1\nseed: 2", "seed: given 2 times"),
        ("top-p: 1\ntop_p: 1", "top_p: given 2 times"),
        (
            "model: a\nmodel_name_or_path: b",
            "model_name_or_path: given 2 times (model, model_name_or_path)",
        ),
    ],
)
def test_a_setting_twice_in_the_file_is_an_error(text: str, what: str) -> None:
    """One setting with two values is a mistake: neither wins in silence."""
    assert config_complaint(text) == f"c.yaml: {what}. Keep one of them."


def test_a_file_that_cannot_be_read_is_an_error() -> None:
    """The message for a missing file, or a folder, gives the reason."""
    assert complaint("--config", "gone.yaml") == (
        "--config gone.yaml: cannot be read (No such file or directory)."
    )
    assert complaint("--config", ".") == "--config .: cannot be read (Is a directory)."
