"""Specification of flags: what they mean, and the message for each mistake."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from command_lines import compare, complaint, from_file, train

from finetuning_exam.cli.arguments import parse
from finetuning_exam.errors import UsageError
from finetuning_exam.settings import CommonSettings, CompareSettings, ExamSettings, TrainSettings

DEFAULTS = TrainSettings()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in an empty folder, so that a path in a message is a bare name."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
    assert train(*arguments) == TrainSettings(learning_rate=1e-3, lora_r=4)


def test_values_keep_their_hyphens_and_underscores() -> None:
    """Only names are the same with `-` and `_`; values stay as they are."""
    assert train("--output-dir", "a-b_c", "d-e_f.jsonl") == TrainSettings(
        output_dir="a-b_c", data=("d-e_f.jsonl",)
    )


def test_short_names() -> None:
    """`--model` is `--model_name_or_path`; `--adapter` is `--adapter_name_or_path`."""
    assert train("--model", "m") == train("--model_name_or_path", "m")
    assert train("--model=m").model_name_or_path == "m"
    for kind, command in ((ExamSettings, "exam"), (CompareSettings, "compare")):
        parsed = parse(kind, command, ["--adapter", "a", "--model", "m"]).settings
        assert parsed == kind(adapter_name_or_path="a", model_name_or_path="m")


def test_several_values() -> None:
    """A flag of several values takes all that follow; data files and the prompts of compare are all
    arguments.
    """
    assert train("a.jsonl", "b.csv", "--seed", "1") == TrainSettings(
        data=("a.jsonl", "b.csv"), seed=1
    )
    assert train("d.jsonl", "--lora_target_modules", "q_proj", "v_proj") == TrainSettings(
        data=("d.jsonl",), lora_target_modules=("q_proj", "v_proj")
    )
    assert compare("what is ls?", "a=b", "--seed", "1") == CompareSettings(
        prompt=("what is ls?", "a=b"), seed=1
    )


@pytest.mark.parametrize("none", ["None", "none"])
def test_none_and_auto(none: str) -> None:
    """`None` takes a default away, `auto` leaves a number to the program."""
    arguments = ["--early_stopping_patience", none, "--learning_rate", "auto"]
    assert train(*arguments) == TrainSettings(early_stopping_patience=None)
    assert from_file(f"early_stopping_patience: {none}").early_stopping_patience is None
    assert from_file("report_to: mlflow", "--report_to", none) == DEFAULTS
    assert compare(none).prompt == (none,)


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
    assert train(*arguments) == TrainSettings(lora_target_modules=("q", "v", "o"))
    for text in ("q, v,o", "q v o", "[q, v, o]", "[q, 'v,o']"):
        assert from_file(f"lora_target_modules: {text}").lora_target_modules == ("q", "v", "o")


def test_files_and_questions_keep_their_commas() -> None:
    """An argument is one file or one question, whatever is in it."""
    assert train("a,b.jsonl").data == ("a,b.jsonl",)
    assert from_file("data: a,b.jsonl").data == ("a,b.jsonl",)
    assert compare("Why, then?").prompt == ("Why, then?",)


def test_the_last_of_several_values_counts() -> None:
    """A repeated flag of one value overrides the earlier one, so an alias can be adjusted."""
    assert train("--seed", "1", "--lora_r", "4", "--seed=2") == TrainSettings(seed=2, lora_r=4)


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
    assert train(*arguments) == TrainSettings(data=("a.jsonl", "b.jsonl"), seed=1)


def test_everything_after_two_hyphens_is_an_argument() -> None:
    """`--` ends the flags; a file may be called --seed."""
    assert train("--", "--seed", "-x", "--") == TrainSettings(data=("--seed", "-x", "--"))


@pytest.mark.parametrize("kind", [TrainSettings, ExamSettings, CompareSettings])
def test_two_hyphens_before_nothing_change_nothing(kind: type[CommonSettings]) -> None:
    """A command whose arguments are all optional takes its defaults."""
    assert parse(kind, "it", ["--"]).settings == kind()


@pytest.mark.parametrize("question", ["-5", "-", "- which list?", "-.5 + 1", "-x or -y?", "--a b"])
def test_a_question_may_start_with_a_hyphen(question: str) -> None:
    """Numbers, single hyphens and words with spaces are no flags."""
    assert compare(question, "--seed", "1") == CompareSettings(prompt=(question,), seed=1)


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
    assert train(*arguments) == TrainSettings(completion_only_loss=value)


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
    assert compare("--do_sample", "What is true?") == CompareSettings(
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
    found = complaint(*arguments)
    assert found.startswith(message)
    assert found.endswith("See fte train --help.")


def test_an_argument_too_many_is_an_error() -> None:
    """`fte exam` examines one file and refuses a second one."""
    with pytest.raises(UsageError) as caught:
        parse(ExamSettings, "exam", ["a.jsonl", "b.jsonl"])
    assert str(caught.value) == "unexpected argument 'b.jsonl'. See fte exam --help."


@pytest.mark.parametrize("flag", ["--adapter", "--adaptor", "--adapter_name_or_path"])
def test_no_flag_is_offered_that_the_command_has_not(flag: str) -> None:
    """`fte train` has no flag for an adapter to read, so it offers none by that name."""
    found = complaint(flag, "out")
    assert found.startswith((f"unknown flag {flag}.", f"{flag}: no such setting here."))
    assert "--adapter" not in found.partition(".")[2]


@pytest.mark.parametrize(
    ("flag", "answer"),
    [
        ("--no_json", "It belongs to fte check."),
        ("--temperature", "It belongs to fte compare."),
        ("--output_file=x", "It belongs to fte exam."),
    ],
)
def test_a_flag_of_another_command_is_answered(flag: str, answer: str) -> None:
    """A flag of another command is answered with the name of that command."""
    assert complaint(flag, "1") == f"unknown flag {flag.partition('=')[0]}. {answer}"


def test_an_argument_may_have_its_name() -> None:
    """The files and questions that stand without a flag may also be given with their name."""
    assert train("a", "--data", "b", "c", "--seed", "1", "d").data == ("a", "b", "c", "d")
    assert compare("--prompt", "one", "two").prompt == ("one", "two")
    assert parse(ExamSettings, "exam", ["--data=a.jsonl"]).settings.data == "a.jsonl"


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
    assert complaint(*arguments) == message


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
    assert complaint(*arguments) == message


@pytest.mark.parametrize("flag", ["--learning_rate", "--num_train_epochs", "--weight_decay"])
def test_infinity_is_no_setting(flag: str) -> None:
    """An infinite learning rate, number of epochs or weight decay is refused, not tried."""
    assert complaint(flag, "inf").startswith(f"{flag}: ")


def test_a_share_of_sampling_is_above_nothing() -> None:
    """`top_p` is above 0 and may be 1; a temperature is above 0."""
    assert compare("--top_p", "1").top_p == 1
    for flag in ("--top_p", "--temperature"):
        with pytest.raises(UsageError, match=f"^{flag}: expected a .*number above 0.*, got 0.$"):
            compare(flag, "0")


def test_the_command_line_is_kept_to_be_repeated() -> None:
    """The whole command is kept, quoted so that a shell would read it back."""
    parsed = parse(TrainSettings, "train", ["my file.jsonl", "--seed", "1"])
    assert parsed.command_line == "fte train 'my file.jsonl' --seed 1"


def test_numbers_keep_their_precision() -> None:
    """A flag's number is the number that was written."""
    rate = math.pi * 1e-5
    assert train("--learning_rate", repr(rate)).learning_rate == rate
