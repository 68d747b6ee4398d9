"""Specification of flags and YAML files: what they mean, and the message for each mistake."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from finetuning_exam.cli.arguments import Parsed, parse
from finetuning_exam.errors import UsageError
from finetuning_exam.settings import CompareSettings, ExamSettings, TrainSettings

DEFAULTS = TrainSettings()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in an empty folder, so that a path in a message is a bare name."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _train(*arguments: str) -> TrainSettings:
    return parse(TrainSettings, "train", arguments).settings


def _compare(*arguments: str) -> CompareSettings:
    return parse(CompareSettings, "compare", arguments).settings


def _config(text: str | bytes, *arguments: str) -> Parsed[TrainSettings]:
    """`fte train --config c.yaml …` with this text in the file."""
    Path("c.yaml").write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return parse(TrainSettings, "train", ["--config", "c.yaml", *arguments])


def _from_file(text: str, *arguments: str) -> TrainSettings:
    """The same settings, without the name of the file, to compare with others."""
    return replace(_config(text, *arguments).settings, config=None)


def _complaint(*arguments: str) -> str:
    with pytest.raises(UsageError) as caught:
        _train(*arguments)
    assert caught.value.exit_code == 2
    return str(caught.value)


def _config_complaint(text: str | bytes) -> str:
    with pytest.raises(UsageError) as caught:
        _config(text)
    return str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--learning_rate", "1e-3", "--lora_r", "4"],
        ["--learning-rate", "1e-3", "--lora-r", "4"],
        ["--learning-rate=1e-3", "--lora_r=4"],
        ["--lora_r", "4", "--learning_rate", "0.001"],
    ],
)
def test_hyphen_and_underscore_are_the_same(arguments: Sequence[str]) -> None:
    """A flag may be written with `-` or `_`, with a space or `=`, in any order."""
    assert _train(*arguments) == TrainSettings(learning_rate=1e-3, lora_r=4)


def test_values_keep_their_hyphens_and_underscores() -> None:
    """Only names are the same with `-` and `_`; values stay as they are."""
    assert _train("--output-dir", "a-b_c", "d-e_f.jsonl") == TrainSettings(
        output_dir="a-b_c", data=("d-e_f.jsonl",)
    )


def test_short_names() -> None:
    """`--model` is `--model_name_or_path`; `--adapter` is `--adapter_name_or_path`."""
    assert _train("--model", "m") == _train("--model_name_or_path", "m")
    assert _train("--model=m").model_name_or_path == "m"
    for kind, command in ((ExamSettings, "exam"), (CompareSettings, "compare")):
        parsed = parse(kind, command, ["--adapter", "a", "--model", "m"]).settings
        assert parsed == kind(adapter_name_or_path="a", model_name_or_path="m")


def test_several_values() -> None:
    """A flag of several values takes all that follow; data files and the prompts of compare are all
    arguments.
    """
    assert _train("a.jsonl", "b.csv", "--seed", "1") == TrainSettings(
        data=("a.jsonl", "b.csv"), seed=1
    )
    assert _train("d.jsonl", "--lora_target_modules", "q_proj", "v_proj") == TrainSettings(
        data=("d.jsonl",), lora_target_modules=("q_proj", "v_proj")
    )
    assert _compare("what is ls?", "a=b", "--seed", "1") == CompareSettings(
        prompt=("what is ls?", "a=b"), seed=1
    )


@pytest.mark.parametrize("none", ["None", "none"])
def test_none_and_auto(none: str) -> None:
    """`None` takes a default away, `auto` leaves a number to the program."""
    arguments = ["--early_stopping_patience", none, "--learning_rate", "auto"]
    assert _train(*arguments) == TrainSettings(early_stopping_patience=None)
    assert _from_file(f"early_stopping_patience: {none}").early_stopping_patience is None
    assert _from_file("report_to: mlflow", "--report_to", none) == DEFAULTS
    assert _compare(none).prompt == (none,)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--lora_target_modules", "q", "v", "o"],
        ["--lora_target_modules", "q,v,o"],
        ["--lora_target_modules=q,v,o"],
        ["--lora_target_modules", "q,", "v", ",o"],
        ["--lora_target_modules", "q", "--lora-target-modules", "v,o"],
    ],
)
def test_lists_have_spaces_or_commas(arguments: Sequence[str]) -> None:
    """Items of a list stand between spaces or commas, and a repeated flag adds to them."""
    assert _train(*arguments) == TrainSettings(lora_target_modules=("q", "v", "o"))
    for text in ("q, v,o", "q v o", "[q, v, o]", "[q, 'v,o']"):
        assert _from_file(f"lora_target_modules: {text}").lora_target_modules == ("q", "v", "o")


def test_files_and_questions_keep_their_commas() -> None:
    """An argument is one file or one question, whatever is in it."""
    assert _train("a,b.jsonl").data == ("a,b.jsonl",)
    assert _from_file("data: a,b.jsonl").data == ("a,b.jsonl",)
    assert _compare("Why, then?").prompt == ("Why, then?",)


def test_the_last_of_several_values_counts() -> None:
    """A repeated flag of one value overrides the earlier one, so an alias can be adjusted."""
    assert _train("--seed", "1", "--lora_r", "4", "--seed=2") == TrainSettings(seed=2, lora_r=4)


@pytest.mark.parametrize(
    "arguments",
    [
        ["a.jsonl", "--seed", "1", "b.jsonl"],
        ["--seed", "1", "a.jsonl", "b.jsonl"],
        ["a.jsonl", "--seed", "1", "--", "b.jsonl"],
        ["--seed", "1", "--", "a.jsonl", "b.jsonl"],
    ],
)
def test_arguments_stand_anywhere(arguments: Sequence[str]) -> None:
    """Arguments may stand before, between and after flags."""
    assert _train(*arguments) == TrainSettings(data=("a.jsonl", "b.jsonl"), seed=1)


def test_everything_after_two_hyphens_is_an_argument() -> None:
    """`--` ends the flags; a file may be called --seed."""
    assert _train("--", "--seed", "-x", "--") == TrainSettings(data=("--seed", "-x", "--"))


@pytest.mark.parametrize("question", ["-5", "-", "- which list?", "-.5 + 1", "-x or -y?", "--a b"])
def test_a_question_may_start_with_a_hyphen(question: str) -> None:
    """Numbers, single hyphens and words with spaces are no flags."""
    assert _compare(question, "--seed", "1") == CompareSettings(prompt=(question,), seed=1)


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["--completion_only_loss"], True),
        (["--completion_only_loss", "True"], True),
        (["--completion_only_loss", "true"], True),
        (["--completion_only_loss", "False"], False),
        (["--completion-only-loss", "false"], False),
        (["--completion_only_loss=False"], False),
        (["--completion-only-loss=TRUE"], True),
        (["--no_completion_only_loss"], False),
        (["--no-completion-only-loss"], False),
        (["--completion_only_loss", "False", "--completion_only_loss"], True),
    ],
)
def test_booleans(arguments: Sequence[str], value: bool) -> None:
    """A boolean is written bare, with True or False after it, or with `no_` before it."""
    assert _train(*arguments) == TrainSettings(completion_only_loss=value)


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ([], "auto"),
        (["--gradient_checkpointing", "auto"], "auto"),
        (["--gradient-checkpointing=auto"], "auto"),
        (["--gradient_checkpointing"], True),
        (["--gradient_checkpointing", "True"], True),
        (["--gradient-checkpointing=true"], True),
        (["--gradient_checkpointing", "false"], False),
        (["--gradient_checkpointing=False"], False),
        (["--no_gradient_checkpointing"], False),
        (["--no-gradient-checkpointing"], False),
    ],
)
def test_a_boolean_that_may_be_auto(arguments: Sequence[str], value: bool | str) -> None:
    """It is written as any boolean, or with `auto` after it."""
    found = parse(TrainSettings, "train", [*arguments, "mine.jsonl"]).settings
    assert found.gradient_checkpointing == value
    assert found.data == ("mine.jsonl",)


@pytest.mark.parametrize(("written", "value"), [("true", True), ("off", False), ("auto", "auto")])
def test_a_boolean_that_may_be_auto_in_yaml(written: str, value: bool | str) -> None:
    """In a YAML file it is a boolean of YAML's, or `auto`."""
    Path("c.yaml").write_text(f"gradient_checkpointing: {written}\n", encoding="utf-8")
    found = parse(TrainSettings, "train", ["--config", "c.yaml"]).settings
    assert found.gradient_checkpointing == value


def test_a_bare_boolean_leaves_the_next_word_alone() -> None:
    """What follows a bare boolean and is not true or false is an argument of its own."""
    assert _compare("--do_sample", "What is true?") == CompareSettings(
        do_sample=True, prompt=("What is true?",)
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sede", "3"], "unknown flag --sede. Did you mean --seed? See fte train --help."),
        (["--lora-rr=3"], "unknown flag --lora-rr. Did you mean --lora_r? "),
        (["-seed", "3"], "unknown flag -seed. Did you mean --seed? "),
        (["---seed", "3"], "unknown flag ---seed. Did you mean --seed? "),
        (["--no_jsn"], "unknown flag --no_jsn. "),
        (["--no_skip_bad_row"], "unknown flag --no_skip_bad_row. Did you mean --no_skip_bad_rows?"),
        (["--=3"], "unknown flag --. "),
        (["--learn"], "unknown flag --learn. "),
        (["--lerning-rate", "3"], "unknown flag --lerning-rate. Did you mean --learning_rate? "),
        (["--modle", "m"], "unknown flag --modle. Did you mean --model? See fte train --help."),
        (["--zzz"], "unknown flag --zzz. See fte train --help."),
        (["-x"], "unknown flag -x. See fte train --help."),
    ],
)
def test_an_unknown_flag_offers_the_nearest(arguments: Sequence[str], message: str) -> None:
    """An unknown flag is shown as it was written, with the nearest flag there is."""
    found = _complaint(*arguments)
    assert found.startswith(message)
    assert found.endswith("See fte train --help.")


def test_an_argument_too_many_is_an_error() -> None:
    """`fte exam` examines one file and refuses a second one."""
    with pytest.raises(UsageError) as caught:
        parse(ExamSettings, "exam", ["a.jsonl", "b.jsonl"])
    assert str(caught.value) == "unexpected argument 'b.jsonl'. See fte exam --help."


@pytest.mark.parametrize("flag", ["--adapter", "--adaptor", "--adapter_name_or_path"])
def test_no_flag_is_offered_that_the_command_has_not(flag: str) -> None:
    """`fte train` has no adapter to read, so it offers no flag for one."""
    found = _complaint(flag, "out")
    assert found.startswith(f"unknown flag {flag}.")
    assert "Did you mean --adapter" not in found


@pytest.mark.parametrize(
    ("flag", "answer"),
    [
        ("--adapter", "It belongs to fte exam and fte compare."),
        ("--no_json", "It belongs to fte check."),
        ("--data", "Give it without a flag: fte train FILE."),
        ("--dataset", "Give it without a flag: fte train FILE."),
        ("--cutoff-len=3", "Here it is called --max_length."),
        ("--base_model", "Here it is called --model."),
        ("--use_peft", "Training always uses a LoRA adapter."),
    ],
)
def test_a_flag_of_another_command_or_tool_is_answered(flag: str, answer: str) -> None:
    """A flag that is known from elsewhere is answered with what to write instead."""
    assert _complaint(flag, "1") == f"unknown flag {flag.partition('=')[0]}. {answer}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "abc"], "--seed: expected an integer, got 'abc'."),
        (["--seed", ""], "--seed: expected an integer, got ''."),
        (["--seed="], "--seed: expected an integer, got ''."),
        (["--seed", "None"], "--seed: expected an integer, got 'None'."),
        (["--seed", "True"], "--seed: expected an integer, got 'True'."),
        (["--lora-r", "2.5"], "--lora_r: expected an integer, got 2.5."),
        (["--learning_rate", "fast"], "--learning_rate: expected a number or auto, got 'fast'."),
        (["--max_steps", "x"], "--max_steps: expected an integer or None, got 'x'."),
        (["--device", "tpu"], "--device: expected auto, cpu, cuda or mps, got 'tpu'."),
        (
            ["--completion_only_loss=maybe"],
            "--completion_only_loss: expected true or false, got 'maybe'.",
        ),
        (
            ["--completion_only_loss=auto"],
            "--completion_only_loss: expected true or false, got 'auto'.",
        ),
        (
            ["--completion_only_loss=1"],
            "--completion_only_loss: expected true or false, got 1.",
        ),
        (
            ["--gradient_checkpointing=yes"],
            "--gradient_checkpointing: expected true, false or auto, got 'yes'.",
        ),
        (
            ["--no_skip_bad_rows=True"],
            "--no_skip_bad_rows: takes no value. Use --skip_bad_rows True.",
        ),
        (["--seed"], "--seed: expected an integer, got no value."),
        (["--seed", "--lora_r", "4"], "--seed: expected an integer, got no value."),
        (["--seed", "--", "4"], "--seed: expected an integer, got no value."),
        (["--config"], "--config: expected FILE or None, got no value."),
        (
            ["--report_to"],
            "--report_to: expected tensorboard, wandb, mlflow or trackio, got no value.",
        ),
    ],
)
def test_a_value_of_the_wrong_kind(arguments: Sequence[str], message: str) -> None:
    """The message names the flag, the type of value it expects, and the value."""
    assert _complaint(*arguments) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "-1"], "--seed: expected an integer from 0 to 4294967295, got -1."),
        (
            ["--seed", "4294967296"],
            "--seed: expected an integer from 0 to 4294967295, got 4294967296.",
        ),
        (["--lora-r", "0"], "--lora_r: expected an integer of at least 1, got 0."),
        (
            ["--lora_dropout", "1"],
            "--lora_dropout: expected a number of at least 0 and below 1, got 1.",
        ),
        (
            ["--eval_fraction", "-0.1"],
            "--eval_fraction: expected a number from 0 to 0.4, got -0.1.",
        ),
        (
            ["--eval_fraction", "0.41"],
            "--eval_fraction: expected a number from 0 to 0.4, got 0.41.",
        ),
        (["--eval_fraction", "-.1"], "--eval_fraction: expected a number from 0 to 0.4, got -.1."),
        (
            ["--report_to", "mlflow", "wandbx"],
            "--report_to: expected tensorboard, wandb, mlflow or trackio, got 'wandbx'.",
        ),
        (
            ["--learning_rate", "0"],
            "--learning_rate: expected a finite number above 0 or auto, got 0.",
        ),
        (
            ["--learning_rate", "nan"],
            "--learning_rate: expected a finite number above 0 or auto, got nan.",
        ),
        (["--save_steps", "0"], "--save_steps: expected an integer of at least 1 or auto, got 0."),
        (["--max_steps", "0"], "--max_steps: expected an integer of at least 1 or None, got 0."),
    ],
)
def test_a_value_out_of_its_range(arguments: Sequence[str], message: str) -> None:
    """The message for a number out of range names the flag, the range and the number."""
    assert _complaint(*arguments) == message


@pytest.mark.parametrize("flag", ["--learning_rate", "--num_train_epochs", "--weight_decay"])
def test_infinity_is_no_setting(flag: str) -> None:
    """An infinite learning rate, number of epochs or weight decay is refused, not tried."""
    assert _complaint(flag, "inf").startswith(f"{flag}: ")


def test_a_share_of_sampling_is_above_nothing() -> None:
    """`top_p` is above 0 and may be 1; a temperature is above 0."""
    assert _compare("--top_p", "1").top_p == 1
    for flag in ("--top_p", "--temperature"):
        with pytest.raises(UsageError, match=f"^{flag}: expected a .*number above 0.*, got 0.$"):
            _compare(flag, "0")


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
    assert _from_file(text) == expected


def test_the_file_s_numbers_have_the_right_type() -> None:
    """A learning rate that YAML takes for text is still a number."""
    assert isinstance(_from_file("learning_rate: 2e-4").learning_rate, float)


def test_the_command_line_wins() -> None:
    """A flag wins over the file, wherever it stands and whatever its value."""
    text = "seed: 7\nlora_r: 4\nfail_if_worse: true\nlora_target_modules: [a]\nmodel: m\ndata: d"
    given = ["--seed", "42", "--fail_if_worse", "False", "--lora_target_modules", "b", "c"]
    expected = TrainSettings(
        seed=42, lora_r=4, lora_target_modules=("b", "c"), model_name_or_path="m", data=("d",)
    )
    assert _from_file(text, *given) == expected
    parsed = parse(TrainSettings, "train", [*given, "--config", "c.yaml"])
    assert replace(parsed.settings, config=None) == expected
    assert _from_file(text, "e", *given).data == ("e",)
    assert _config(text).settings.config == "c.yaml"


def test_keys_of_other_commands_are_given_back() -> None:
    """A key that only another command knows is not used, and is returned."""
    parsed = _config("lora_r: 4\ntemperature: 0.8\nadapter: a\nprompts: q.jsonl")
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
        ("cutoff_len: 4", "c.yaml: unknown setting 'cutoff_len'. Here it is called max_length."),
        ("base-model: m", "c.yaml: unknown setting 'base-model'. Here it is called model."),
        ("dataset: d", "c.yaml: unknown setting 'dataset'. Here it is called data."),
        (
            "use_peft: true",
            "c.yaml: unknown setting 'use_peft'. Training always uses a LoRA adapter.",
        ),
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
    assert _config_complaint(text) == message


@pytest.mark.parametrize(
    "text",
    ["seed: [", "a: b: c", "\tseed: 1", "seed: !!python/object/apply:os.getcwd []", "? [a]\n: 1"],
)
def test_what_is_no_plain_yaml_is_one_line(text: str) -> None:
    """Broken YAML, and YAML that would build Python objects, is told on one line."""
    found = _config_complaint(text)
    assert found.startswith("--config c.yaml: not valid YAML (")
    assert "\n" not in found


@pytest.mark.parametrize("key", ["seed: true", "num_train_epochs: true", "lora_r: false"])
def test_a_boolean_is_no_number(key: str) -> None:
    """`true` where a number belongs is a mistake, not a 1."""
    assert _config_complaint(key).startswith(f"c.yaml: {key.split(':')[0]}: ")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("seed: 1\nseed: 2", "seed"),
        ("model: a\nmodel_name_or_path: b", "model_name_or_path"),
        ("top-p: 1\ntop_p: 1", "top_p"),
    ],
)
def test_a_setting_twice_in_the_file_is_an_error(text: str, name: str) -> None:
    """One setting with two values is a mistake: neither wins in silence."""
    assert _config_complaint(text) == f"c.yaml: {name}: given 2 times. Keep one of them."


def test_a_file_that_cannot_be_read_is_an_error() -> None:
    """The message for a missing file, or a folder, gives the reason."""
    assert _complaint("--config", "gone.yaml") == (
        "--config gone.yaml: cannot be read (No such file or directory)."
    )
    assert _complaint("--config", ".") == "--config .: cannot be read (Is a directory)."


def test_the_command_line_is_kept_to_be_repeated() -> None:
    """The whole command is kept, quoted so that a shell would read it back."""
    parsed = parse(TrainSettings, "train", ["my file.jsonl", "--seed", "1"])
    assert parsed.command_line == "fte train 'my file.jsonl' --seed 1"


def test_numbers_keep_their_precision() -> None:
    """A flag's number is the number that was written."""
    rate = math.pi * 1e-5
    assert _train("--learning_rate", repr(rate)).learning_rate == rate
