"""Specification of the flags of other tools: each is accepted or answered, and none wrongly."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest
from coming_from import PAGE, START, table
from command_lines import complaint, config, config_complaint, from_file, train
from published_flags import OTHERS, trl_defaults

from finetuning_exam.cli.arguments import parse
from finetuning_exam.cli.foreign_flags import foreign_flags
from finetuning_exam.cli.registry import COMMANDS
from finetuning_exam.errors import UsageError
from finetuning_exam.setting_values import flags_of
from finetuning_exam.settings import CheckSettings, CompareSettings, ExamSettings, TrainSettings

TRAIN = flags_of(TrainSettings)
EVERY = {name for it in COMMANDS.values() for name in flags_of(it.settings)}
NAMES = EVERY | {
    flag.alias for it in COMMANDS.values() for flag in flags_of(it.settings).values() if flag.alias
}
MINE = TrainSettings(data=("mine.jsonl",))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in an empty folder, so that a path in a message is a bare name."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _outcome(*arguments: str) -> str:
    """`accepted`, or the message for a command line of `fte train`."""
    try:
        train(*arguments)
    except UsageError as error:
        return str(error)
    return "accepted"


def test_a_name_stands_once_in_the_table() -> None:
    """No name has two rows, every shared answer is used, and every letter is a tool."""
    text = files("finetuning_exam.cli").joinpath("foreign_flags.toml").read_text(encoding="utf-8")
    rows = tomllib.loads(text)["flags"]
    names = Counter(word.partition(":")[0] for row in rows for word in row["names"].split())
    assert [name for name, times in names.items() if times > 1] == []
    answers = tomllib.loads(text)["answers"]
    assert {row["see"] for row in rows if "see" in row} == set(answers)
    assert not [row for row in rows if "see" in row and "answer" in row]


def test_every_flag_that_a_row_names_exists() -> None:
    """A row leads to a setting, or to an answer whose flags are all flags of one command."""
    own = [
        {name for flag in flags_of(it.settings).values() for name in (flag.name, flag.alias)}
        for it in COMMANDS.values()
    ]
    for row in foreign_flags().values():
        assert row.here or row.answer, row.name
        assert not row.here or row.here in EVERY, row.name
        assert not row.answer or row.answer.endswith("."), row.name
        named = set(re.findall(r"--(\w+)", row.answer))
        assert any(named <= flags for flags in own), row.name


def test_a_value_that_is_put_into_our_words_is_one() -> None:
    """Each of our words in the table is a value of the setting that it is put into."""
    for name, row in foreign_flags().items():
        for theirs, ours in row.values:
            if ours and row.here in TRAIN:
                assert train(f"--{name}={theirs}") == train(f"--{row.here}={ours}")


def test_our_own_names_need_no_row() -> None:
    """A setting of ours stands in the table only for words of its own, or to explain itself."""
    ours = {name for name, row in foreign_flags().items() if name in EVERY and row.here != name}
    assert ours == {"template"}


def test_a_misspelt_name_of_another_tool_is_offered() -> None:
    """It is offered where it is accepted, and our own names come first."""
    assert "Did you mean --train_file?" in complaint("--trainfile", "x")
    assert "Did you mean --cutoff_len?" in complaint("--cut_off_len", "3")
    assert "Did you mean --lora_r?" in complaint("--lora_rr", "3")
    assert config_complaint("sequence_length: 3").endswith("Did you mean sequence_len?")


def test_no_flag_of_trl_is_unknown() -> None:
    """Every flag of `trl sft`, bare and with any value, is accepted or answered."""
    published = trl_defaults()
    assert len(published) > 150
    assert published.keys() - TRAIN.keys() - foreign_flags().keys() == set()
    for name, default in published.items():
        for words in ([default], ["True"], ["7"], []):
            found = _outcome("mine.jsonl", f"--{name}", *words)
            assert not found.startswith("unknown flag"), (name, words)


@pytest.mark.parametrize("tool", OTHERS)
def test_no_flag_of_other_tools_is_unknown(tool: str) -> None:
    """Every published flag of LlamaFactory, Axolotl, Unsloth, OpenAI and mlx-lm is accepted or
    answered, on the command line and as a key of a file.
    """
    assert set(OTHERS[tool]) - NAMES - foreign_flags().keys() == set()
    for name in OTHERS[tool]:
        for words in (["True"], ["7"], []):
            found = _outcome("mine.jsonl", f"--{name}", *words)
            assert not found.startswith("unknown flag"), (name, words)
    for value in ("true", "word", "{a: 1}", "null"):
        for name in OTHERS[tool]:
            Path("c.yaml").write_text(f"{name}: {value}\n", encoding="utf-8")
            assert "unknown" not in _outcome("--config", "c.yaml"), (name, value)


def test_a_name_that_a_tool_publishes_is_marked_as_its_own() -> None:
    """The letters behind a name in the table agree with the published lists."""
    published = {**OTHERS, "TRL": tuple(trl_defaults())}
    for tool, names in published.items():
        rows = [foreign_flags()[name] for name in names if name in foreign_flags()]
        if tool not in ("habit", "Axolotl", "LlamaFactory", "Unsloth"):  # these pass on TRL's
            assert [row.name for row in rows if tool not in row.tools] == []
        assert all(row.tools or tool == "habit" for row in rows)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--train_file mine.jsonl", MINE),
        ("--dataset mine.jsonl", MINE),
        ("--training_file=mine.jsonl", MINE),
        ("--data mine.jsonl", MINE),
        ("--cutoff_len 512", TrainSettings(max_length=512)),
        ("--sequence-len=512", TrainSettings(max_length=512)),
        ("--lr 1e-4 --epochs 3", TrainSettings(learning_rate=1e-4, num_train_epochs=3)),
        ("--n_epochs auto --micro_batch_size 2", TrainSettings(per_device_train_batch_size=2)),
        ("--r 8 --lora_target all", TrainSettings(lora_r=8)),
        ("--target_modules q_proj,v_proj", TrainSettings(lora_target_modules=("q_proj", "v_proj"))),
        ("--lora_target_linear", TrainSettings()),
        ("--train_on_inputs", TrainSettings(completion_only_loss=False)),
        ("--train_on_inputs False", TrainSettings()),
        ("--base_model m --random_state 7", TrainSettings(model_name_or_path="m", seed=7)),
        ("--torch_dtype bf16", TrainSettings(dtype="bfloat16")),
        ("--use_gradient_checkpointing unsloth", TrainSettings(gradient_checkpointing=True)),
        ("--no_cuda", TrainSettings(device="cpu")),
        ("--warmup_steps 0", TrainSettings(warmup_ratio=0.0)),
        ("--max_steps -1", TrainSettings()),
        ("--resume", TrainSettings(resume_from_checkpoint="latest")),
        ("--resume ckpt", TrainSettings(resume_from_checkpoint="ckpt")),
        ("--resume_from_checkpoint True", TrainSettings(resume_from_checkpoint="latest")),
        ("--resume_from_checkpoint False", TrainSettings()),
        ("--report_to none", TrainSettings()),
        ("--lora_model_dir old", TrainSettings(fork="old")),
    ],
)
def test_a_name_of_the_same_meaning_is_accepted(words: str, expected: TrainSettings) -> None:
    """It is the setting itself, with its values put into our words."""
    assert train(*words.split()) == expected


@pytest.mark.parametrize(
    "flag",
    [
        "--packing False",
        "--packing 0",
        "--no_packing",
        "--bf16 False",
        "--fp16=false",
        "--load_in_4bit False",
        "--use_dora no",
        "--push_to_hub False",
        "--stage sft",
        "--finetuning_type lora",
        "--do_train",
        "--do_train True",
        "--use_peft",
        "--lora_bias none",
        "--optim adamw_torch",
        "--eval_strategy steps",
        "--overwrite_cache",
        "--preprocessing_num_workers 16",
        "--lora_modules_to_save None",
        "--chat_template_path None",
    ],
)
def test_a_value_that_says_what_is_done_anyway_is_accepted(flag: str) -> None:
    """It changes nothing, is listed as it was typed, and leaves the file after it alone."""
    parsed = parse(TrainSettings, "train", [*flag.split(), "mine.jsonl"])
    assert parsed.settings == MINE
    assert parsed.without_effect == (flag,)
    assert parsed.command_line == "fte train mine.jsonl"


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("--batch_size 8", "Use --per_device_train_batch_size; a step takes that times "),
        ("--eval_steps 100", "Validation and checkpoints come together, every --save_steps steps."),
        ("--val_set_size 0.1", "Validation rows are a share of the training file, --eval_fraction"),
        ("--deepspeed ds.json", "Training runs in one process, on one device; --device says "),
        ("--lora_bias all", "Training always uses a plain LoRA adapter: "),
        ("--adapter out", "Training makes a new LoRA adapter; to start from the weights of an old"),
        ("--bf16", "Use --dtype bfloat16."),
        ("--fp16 True", "Use --dtype float16."),
        ("--load_in_4bit", "The base model is not quantized; --dtype bfloat16 halves its memory."),
        ("--packing True", "Rows are never packed; "),
        ("--use_dora", "Training always uses a plain LoRA adapter: "),
        ("--push_to_hub", "Nothing is uploaded; "),
        ("--warmup_steps 10", "Use --warmup_ratio, a share of the steps."),
        ("--learning_rate_multiplier 2", "Use --learning_rate, which is the rate itself; "),
        ("--stage dpo", "Training is always supervised fine-tuning."),
        ("--finetuning_type full", "Training always uses a plain LoRA adapter: "),
    ],
)
def test_what_is_not_here_is_answered(words: str, answer: str) -> None:
    """The message names the flag as it was typed, and what to write instead."""
    flag = words.split()[0]
    found = complaint(*words.split(), "mine.jsonl")
    assert found.startswith(f"{flag}: no such setting here. {answer}")


def test_a_setting_of_the_same_name_explains_what_it_means_here() -> None:
    """A value that only the other tool's setting of the name can have gets the answer too."""
    assert complaint("--template", "llama3") == (
        "--template: expected auto, plain or chat, got 'llama3'. The model's own chat template is "
        "used, or a plain one where it has none; --template chat or plain chooses between these "
        "two."
    )


def test_an_answer_is_about_the_command() -> None:
    """A flag whose answer is right for other commands only is answered with their names."""
    for kind, command, flag, answer in (
        (ExamSettings, "exam", "--cutoff_len", "For fte check and fte train: It is called --max_"),
        (
            CheckSettings,
            "check",
            "--bf16",
            "For fte train, fte exam, fte compare and fte export: Use ",
        ),
        (CompareSettings, "compare", "--lora_rank", "For fte train: It is called --lora_r."),
        (ExamSettings, "exam", "--train_file", "For fte check and fte train: It is called --data."),
    ):
        with pytest.raises(UsageError) as caught:
            parse(kind, command, [flag, "3"])
        assert str(caught.value).startswith(f"{flag}: no such setting here. {answer}")
    asked = parse(ExamSettings, "exam", ["--adapter_path", "a", "--model_name", "m"]).settings
    assert (asked.adapter_name_or_path, asked.model_name_or_path) == ("a", "m")


@pytest.mark.parametrize(
    "words",
    ["--seed 1 --random_state 2", "--lr=1 --learning_rate 2", "--cutoff_len 3 --max-length=4"],
)
def test_two_names_of_a_setting_must_agree(words: str) -> None:
    """Neither of two values wins in silence; the same value twice is no contradiction."""
    first, second = re.findall(r"--[\w-]+", words)
    found = complaint(*words.split())
    assert found.startswith(f"{first} and {second.replace('-', '_').replace('__', '--')} set the ")
    assert train("--seed", "3407", "--random_state", "3407") == TrainSettings(seed=3407)


def test_a_run_is_recorded_in_our_names() -> None:
    """The command that hints and records repeat has no foreign flag."""
    typed = ["--dataset", "a b.jsonl", "--resume", "--lora_target", "q", "v", "--packing", "False"]
    assert parse(TrainSettings, "train", typed).command_line == (
        "fte train --data 'a b.jsonl' --resume_from_checkpoint=latest --lora_target_modules=q,v"
    )


AXOLOTL_FILE = """
base_model: m
datasets: null
dataset: mine.jsonl
load_in_4bit: false
adapter: lora
lora_target_linear: true
sequence_len: 512
sample_packing: false
train_on_inputs: false
micro_batch_size: 2
num_epochs: 2
optimizer: adamw_torch
bf16: auto
resume_from_checkpoint:
wandb_project:
flash_attention: true
"""


def test_a_file_with_the_keys_of_another_tool() -> None:
    """Its keys are read as the flags are; an empty one sets nothing."""
    parsed = config(AXOLOTL_FILE)
    assert parsed.settings == TrainSettings(
        config="c.yaml",
        model_name_or_path="m",
        data=("mine.jsonl",),
        max_length=512,
        per_device_train_batch_size=2,
        num_train_epochs=2,
    )
    done = "load_in_4bit, adapter, sample_packing, optimizer, bf16, flash_attention"
    assert parsed.without_effect == (f"{done} (in c.yaml)",)
    assert from_file("lora_target: [q, v]\nresume: true") == TrainSettings(
        lora_target_modules=("q", "v"), resume_from_checkpoint="latest"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nbf16: true", "c.yaml:2: bf16: no such setting here. Use dtype bfloat16."),
        (
            "eval-steps: 5",
            "c.yaml:1: eval-steps: no such setting here. Validation and checkpoints ",
        ),
        (
            "datasets:\n  - path: a",
            "c.yaml:1: datasets: no such setting here. Give the data files ",
        ),
        ("cutoff_len: x", "c.yaml: max_length (cutoff_len): expected an integer, got 'x'."),
        ("lr: 1\nlearning_rate: 2", "c.yaml: learning_rate: given 2 times (lr, learning_rate)."),
    ],
)
def test_a_key_is_answered_with_its_place(text: str, message: str) -> None:
    """The message for a key of another tool names the file, and the line or the key."""
    assert config_complaint(text).startswith(message)


@pytest.mark.parametrize("file", ["a.CSV", "t.json.gz", "hub:a/b", "x/y", "-", "here"])
@pytest.mark.parametrize("flag", ["--lora_target_modules", "--target_modules", "--lora-target"])
def test_a_file_after_names_is_no_name(flag: str, file: str) -> None:
    """After a list of names, a word is a file by its ending, its form, or because it is there."""
    Path("here").touch()
    for names in (["q_proj", "v_proj"], ["q_proj,v_proj"]):
        found = train(flag, *names, file)
        assert found == TrainSettings(data=(file,), lora_target_modules=("q_proj", "v_proj"))
    assert train("--report_to", "none", file).data == (file,)
    assert train("--replay", "a.jsonl", "b.jsonl").replay == ("a.jsonl", "b.jsonl")


@pytest.mark.parametrize("file", ["-", "data/*.jsonl", "part-?.csv", "owner/name", "folder"])
def test_a_file_may_be_anything_that_the_reader_knows(file: str) -> None:
    """Standard input, a quoted glob, a Hub name and a folder reach the reader as they are."""
    assert train(file).data == (file,)
    assert train("--lora_r", "4", file, "--seed", "1").data == (file,)
    assert train("--train_file", file).data == (file,)


def test_the_page_has_the_table() -> None:
    """docs/guide/coming-from.md shows the table; `python tests/coming_from.py` writes it."""
    assert PAGE.read_text(encoding="utf-8").partition(START)[2].strip() == table().strip()
