"""The commands of `fte`, each stated once.

Nothing here loads the settings or a library, so `fte --help` is instant.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from finetuning_exam.cli.arguments import Parsed
    from finetuning_exam.settings import CommonSettings


class Command(NamedTuple):
    """One command. `finetuning_exam.cli.NAME` runs it; `settings_name` is a class of settings.py.

    An example is a command line without the program's name, with what it does.
    """

    name: str
    settings_name: str
    purpose: str
    examples: tuple[tuple[str, str], ...]
    uses_torch: bool = True

    @property
    def settings(self) -> type[CommonSettings]:
        """The class of the command's settings."""
        module = import_module("finetuning_exam.settings")
        return cast("type[CommonSettings]", getattr(module, self.settings_name))

    def run(self, parsed: Parsed[CommonSettings]) -> int:
        """Import the command's module, run it, and return its exit code."""
        module = import_module(f"finetuning_exam.cli.{self.name}")
        return cast("Callable[[Parsed[CommonSettings]], int]", module.run)(parsed)


COMMANDS = {
    command.name: command
    for command in (
        Command(
            "check",
            "CheckSettings",
            "Check data the way training reads it, and report every fault",
            (
                ("check mine.jsonl", "report every fault with its line"),
                ("check mine.jsonl --show 3", "print three examples as the model will see them"),
                ("check mine.jsonl --fix clean.jsonl", "write a copy without the faulty records"),
            ),
            uses_torch=False,
        ),
        Command(
            "train",
            "TrainSettings",
            "Fine-tune a model on your data, then examine it against its base",
            (
                ("train", "train.jsonl, the built-in base, results in ./output"),
                ("train mine.jsonl --output_dir runs/mine", "your own data"),
                ("train mine.jsonl --model path/to/model", "another base model"),
            ),
        ),
        Command(
            "exam",
            "ExamSettings",
            "Examine an adapter against its base on held-out examples",
            (
                ("exam exam.jsonl", "examine the adapter in ./output"),
                ("exam mine.jsonl --adapter runs/mine", "another exam and another adapter"),
            ),
        ),
        Command(
            "compare",
            "CompareSettings",
            "Show the answers of the base and the tuned model side by side",
            (
                ('compare "What does ls do?"', "one question to the adapter in ./output"),
                ("compare --adapter runs/mine", "ask questions interactively"),
                ("compare --prompts exam.jsonl --html answers.html", "a page of answers"),
            ),
        ),
        Command(
            "export",
            "ExportSettings",
            "Write the tuned model for other programs, and prove it the same",
            (
                ("export merged my-model", "an ordinary Transformers folder"),
                ("export gguf my-gguf --outtype q8_0", "for llama.cpp and LM Studio"),
                ("export ollama my-ollama --adapter runs/mine", "for Ollama"),
            ),
        ),
    )
}
"""Every command, in the order in which a newcomer meets them."""

EXIT_CODES = (
    "0 success, 2 wrong usage or input, 3 damaged adapter or checkpoint, 4 disk error, "
    "5 training diverged, 6 output folder in use, 7 tuned model worse (--fail_if_worse), "
    "8 export differs from the model, 9 run complete but for the tokenizer, report or card, "
    "130 or 143 stopped by a signal."
)
